package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
)

func of(kind string, flags ...string) *service {
	s := &service{name: kind, kind: kind, host: "h", flags: map[string]string{}}
	for i := 0; i < len(flags); i += 2 {
		s.flags[flags[i]] = flags[i+1]
	}
	return s
}

func (s *service) with(stores ...store) *service {
	s.stores = stores
	return s
}

func a(kind, name string, sets ...map[string]string) store {
	return store{kind: kind, Name: name, LabelSets: sets, LastError: json.RawMessage("null")}
}

func TestEachTrapIsFoundAndNothingElse(t *testing.T) {
	t.Parallel()
	type lset = map[string]string
	r0, r1 := lset{"cluster": "x", "replica": "0"}, lset{"cluster": "x", "replica": "1"}
	failing := a("sidecar", "s0")
	failing.LastError = json.RawMessage(`"connection refused"`)
	for _, tt := range []struct {
		name     string
		services []*service
		blocks   []blockGroup
		want     []string // severity, trap and a part of the evidence
	}{
		{name: "nothing at all"},
		{
			name: "a sound set-up",
			services: []*service{
				of(kindQuerier, "query.replica-label", "replica", "query.timeout", "2m", "store.response-timeout", "20s", "query.max-concurrent", "20", "grpc-address", "0.0.0.0:10901").
					with(a("sidecar", "s0", r0), a("sidecar", "s1", r1), a("store", "gw", r0, r1)),
				of(kindCompactor, "retention.resolution-raw", "40h", "retention.resolution-5m", "10d", "deduplication.replica-label", "replica"),
				of(kindStore, "store.limits.request-series", "100000"),
			},
			blocks: []blockGroup{{labels: r0, blocks: 2}, {labels: r1, blocks: 2}},
		},
		{name: "a service that is away", services: []*service{{name: "x", failed: errors.New("refused")}}, want: []string{"error|unreachable|refused"}},
		{name: "a service without flags", services: []*service{{name: "x"}}, want: []string{"info|flags unknown|"}},
		{name: "a failing store", services: []*service{of(kindQuerier).with(failing)}, want: []string{"error|store does not answer|s0: connection refused"}},
		{
			name: "labels that are missing", services: []*service{of(kindQuerier).with(a("sidecar", "s0"), a("store", "gw"), a("rule", "r", lset{}))},
			blocks: []blockGroup{{blocks: 3, example: "01X"}},
			want:   []string{"error|missing external labels|sidecar", "error|missing external labels|rule", "error|missing external labels|3 blocks have none, 01X"},
		},
		{
			name: "labels that are equal", services: []*service{of(kindQuerier).with(a("sidecar", "s1", r0), a("sidecar", "s0", r0), a("store", "gw", r0), a("sidecar", "s2", r1))},
			want: []string{`error|equal external labels|each is a sidecar with {cluster="x", replica="0"}`},
		},
		{
			name: "two queriers that list the same store", services: []*service{of(kindQuerier).with(a("sidecar", "s0", r0)), of(kindQuerier).with(a("sidecar", "s0", r0))},
		},
		{
			name: "replica labels that match nothing", services: []*service{
				of(kindQuerier, "query.replica-label", "replica,prometheus_replica").with(a("sidecar", "s0", r0)), of(kindCompactor, "deduplication.replica-label", "rep"),
			},
			blocks: []blockGroup{{labels: r0, blocks: 1}},
			want:   []string{"warning|replica label matches nothing|--query.replica-label=prometheus_replica", "warning|replica label matches nothing|--deduplication.replica-label=rep: no block"},
		},
		{
			name: "retention", services: []*service{of(kindCompactor, "retention.resolution-raw", "1d", "retention.resolution-5m", "9d")},
			want: []string{"error|retention shorter|--retention.resolution-raw=1d", "error|retention shorter|--retention.resolution-5m=9d"},
		},
		{name: "retention without downsampling", services: []*service{of(kindCompactor, "retention.resolution-raw", "1d", "downsampling.disable", "true")}},
		{name: "two compactors", services: []*service{of(kindCompactor), of(kindCompactor)}, want: []string{"error|two compactors|2 compactors"}},
		{name: "two compactors of two shares", services: []*service{of(kindCompactor, "selector.relabel-config", "a"), of(kindCompactor, "selector.relabel-config", "b")}},
		{
			name: "queriers that ask each other", services: []*service{
				of(kindQuerier, "grpc-address", ":1").with(a("query", "h:2")), of(kindQuerier, "grpc-address", ":2").with(a("query", "h:3")), of(kindQuerier, "grpc-address", ":3").with(a("query", "h:1")),
				of(kindQuerier, "grpc-address", ":4").with(a("query", "h:1")),
			},
			want: []string{"error|query loop|h:1 asks h:2 asks h:3 asks h:1"},
		},
		{
			name: "timeouts", services: []*service{of(kindQuerier, "query.timeout", "1m", "store.response-timeout", "2m")},
			want: []string{"warning|timeouts in the wrong order|--store.response-timeout=2m"},
		},
		{name: "limits", services: []*service{of(kindStore, "store.limits.request-series", "0")}, want: []string{"info|disabled limit|--store.limits.request-series=0"}},
		{name: "clocks", services: []*service{{name: "x", kind: kindStore, hasClock: true, ahead: -time.Minute}, {name: "y", kind: kindStore, hasClock: true, ahead: 2 * time.Second}}, want: []string{"warning|clocks differ|1m0s behind"}},
		{
			name: "old flags", services: []*service{of(kindQuerier, "store", "a:1", "cluster.peers", "p"), of(kindStore, "store", "x", "store.grpc.touched-series-limit", "5")},
			want: []string{"info|deprecated flag|--store=a:1", "info|deprecated flag|--cluster.peers=p", "info|deprecated flag|--store.grpc.touched-series-limit=5"},
		},
	} {
		found := diagnose(&facts{services: tt.services, blocks: tt.blocks, bucketRead: true})
		require.Len(t, found, len(tt.want), "%s: %+v", tt.name, found)
		for i, want := range tt.want {
			parts := strings.Split(want, "|")
			require.Equal(t, parts[0], found[i].Severity, tt.name)
			require.Contains(t, found[i].Trap, parts[1], tt.name)
			require.Contains(t, found[i].Evidence, parts[2], tt.name)
			require.NotEmpty(t, found[i].Mend, tt.name)
			require.NotEmpty(t, found[i].Where, tt.name)
		}
	}
}

func TestArgumentListsAreReadAsAShellDoes(t *testing.T) {
	t.Parallel()
	s, err := configured(`/bin/thanos query --endpoint a:1 --endpoint=b:1 --query.auto-downsampling --label='a="b c"'  --objstore.config="secret: x"`)
	require.NoError(t, err)
	require.Equal(t, kindQuerier, s.kind)
	require.Equal(t, map[string]string{"endpoint": "a:1,b:1", "query.auto-downsampling": "true", "label": `a="b c"`, "objstore.config": "secret: x"}, s.flags)
	require.NotContains(t, s.name, "secret")
	_, err = configured("grafana --x")
	require.ErrorContains(t, err, "which service is it")
	_, err = configured("query --label='a")
	require.ErrorContains(t, err, "quote")
}

func runArgs(t *testing.T, args ...string) (out, notes string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := NewCommand()
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

func TestARunningQuerierAndABucketAreLookedAt(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		switch r.URL.Path {
		case "/prefix/api/v1/status/flags":
			_, _ = w.Write([]byte(`{"status":"success","data":{"query.replica-label":"replica","query.timeout":"2m"}}`))
		case "/prefix/api/v1/stores":
			_, _ = w.Write([]byte(`{"status":"success","data":{"sidecar":[
			  {"name":"s0","lastCheck":"2026-01-01T00:00:00Z","lastError":null,"labelSets":[{"replica":"0"}],"minTime":0,"maxTime":1},
			  {"name":"s1","lastCheck":"2026-01-01T00:00:00Z","lastError":"refused","labelSets":[{"replica":"1"}],"minTime":0,"maxTime":1}]}}`))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	blocktest.Upload(t, bkt, blocktest.Spec{ExternalLabels: labels.FromStrings("cluster", "x")})
	lists := filepath.Join(t.TempDir(), "lists")
	require.NoError(t, os.WriteFile(lists, []byte("# ours\ncompactor --wait --deduplication.replica-label=replica\n"), 0o600))
	args := []string{"--endpoint=" + server.URL + "/prefix", "--services-file=" + lists, "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + dir + "}"}

	out, notes, err := runArgs(t, append(args, "--output=json", "--exit-code")...)
	require.ErrorContains(t, err, "1 findings are errors")
	require.Contains(t, notes, "2 services and the bucket looked at: 3 findings, 1 of them errors")
	var traps []string
	for line := range strings.Lines(out) {
		var f finding
		require.NoError(t, json.Unmarshal([]byte(line), &f))
		traps = append(traps, f.Trap)
	}
	require.Equal(t, []string{"store does not answer", "replica label matches nothing", "clocks differ"}, traps)

	out, _, err = runArgs(t, args...)
	require.NoError(t, err)
	require.Contains(t, out, "  evidence: s1: refused\n  mend:     ")
	out, _, err = runArgs(t, append(args, "--output=tsv")...)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(out, "\n"))
}

func TestAServiceThatRefusesIsNotTakenForOneWithoutFlags(t *testing.T) {
	t.Parallel()
	for status, trap := range map[int]string{http.StatusUnauthorized: "unreachable", http.StatusNotFound: "flags unknown", http.StatusOK: "unreachable"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>"))
		}))
		t.Cleanup(server.Close)
		out, _, err := runArgs(t, "--endpoint="+server.URL)
		require.NoError(t, err)
		require.Contains(t, out, ": "+trap+"\n", "status %d", status)
	}
}

func TestADoctorWithoutAPatientIsRefused(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"nothing to look at":  {},
		`"querier" is no URL`: {"--endpoint=querier"},
		"--services-file":     {"--services-file=/does/not/exist"},
		"which service is it": {"--service=cron"},
		"type":                {"--objstore.config=type: NONSENSE"},
	} {
		_, _, err := runArgs(t, args...)
		require.ErrorContains(t, err, want)
	}
}
