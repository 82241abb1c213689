package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/recorded"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/signal.loop"))
}

// ownDefaults are those that differ from the recorded ones on purpose, which docs/adr/0008 lists with their reasons, and switches that are on.
var ownDefaults = map[string]string{
	"deduplication.func": "exact", "query.partial-response": "true", "labels.partial-response": "true", "query-range.partial-response": "true",
	"query-range.align-range-with-step": "true", "query-range.request-downsampled": "true",
}

func TestEveryRecordedFlagIsKnownWithItsDefault(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"testdata/flags.tsv", "testdata/flags-frontend.tsv"} {
		recorded.RequireFlags(t, NewCommand().Flags(), recorded.Table(t, table), ownDefaults)
	}
}

func TestDefaultsThatAreHiddenFromHelp(t *testing.T) {
	t.Parallel()
	fs := NewCommand().Flags()
	for name, want := range map[string]string{
		"query.disable-fallback": "false", "query.dynamic-lookback-delta": "true",
		"query.distributed-with-overlapping-interval": "false", "query.instant.default.max_source_resolution": "0s",
		"rule.partial-response": "true", "target.partial-response": "true", "metric-metadata.partial-response": "true",
		"exemplar.partial-response": "true", "status.partial-response": "true", "store.sd-dns-resolver": "miekgdns",
		"endpoint.info-timeout": "5s", "grpc.proxy-strategy": "eager", "query.lazy-retrieval-max-buffered-responses": "20",
		"debug.name": "",
	} {
		f := fs.Lookup(name)
		require.NotNil(t, f, name)
		require.Equal(t, want, f.DefValue, name)
		require.True(t, f.Hidden, name)
	}
}

func TestBadInputIsOneMessageThatNamesTheCulprit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	broken := file("broken.yml", "endpoints:\n  - address: a:1\n    strickt: true\n")
	dnsStrict := file("strict.yml", "endpoints:\n  - address: dns+a:1\n    strict: true\n")
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"unknown flag":      {[]string{"--query.timeot=1m"}, []string{"--query.timeot", "--query.timeout"}},
		"unknown word":      {[]string{"sidecar"}, []string{`"sidecar"`}},
		"bad duration":      {[]string{"--query.timeout=fast"}, []string{"--query.timeout", "fast"}},
		"two problems":      {[]string{"--query.max-concurrent=0", "--query.default-step=0s"}, []string{"--query.max-concurrent", "--query.default-step"}},
		"bad engine":        {[]string{"--query.promql-engine=magic"}, []string{"--query.promql-engine", "magic"}},
		"bad dedup":         {[]string{"--deduplication.func=magic"}, []string{"--deduplication.func", "magic"}},
		"bad label":         {[]string{"--selector-label=a=b"}, []string{"--selector-label"}},
		"strict DNS":        {[]string{"--endpoint-strict=dns+a:1"}, []string{"--endpoint-strict=dns+a:1", "static"}},
		"unknown look-up":   {[]string{"--endpoint=magic+a:1"}, []string{"--endpoint=magic+a:1", "magic"}},
		"DNS without port":  {[]string{"--store=dns+a"}, []string{"dns+a", "missing port"}},
		"sd-config line":    {[]string{"--endpoint.sd-config-file=" + broken}, []string{broken + ":3", "strickt"}},
		"sd-config strict":  {[]string{"--endpoint.sd-config-file=" + dnsStrict}, []string{dnsStrict + ":2", "dns+a:1", "strict"}},
		"sd-config missing": {[]string{"--endpoint.sd-config-file=/nope.yml"}, []string{"/nope.yml"}},
		"sd-config twice":   {[]string{"--endpoint.sd-config-file=" + broken, "--endpoint.sd-config=x"}, []string{"--endpoint.sd-config"}},
		"relabel":           {[]string{"--selector.relabel-config=- action: magic"}, []string{"--selector.relabel-config", "magic"}},
		"relabel regex":     {[]string{"--selector.relabel-config=- regex: '('\n  action: keep\n  source_labels: [a]"}, []string{"--selector.relabel-config"}},
		"file pattern":      {[]string{"--store.sd-files=/a/*/b.txt"}, []string{"--store.sd-files", "/a/*/b.txt"}},
		"port taken":        {[]string{"--grpc-address=" + taken.Addr().String()}, []string{"--grpc-address", taken.Addr().String()}},
		"HTTP port taken":   {[]string{"--http-address=" + taken.Addr().String()}, []string{"--http-address", taken.Addr().String()}},
		"half of TLS":       {[]string{"--grpc-client-tls-secure", "--grpc-client-tls-cert=x"}, []string{"--grpc-client"}},
		"tenant":            {[]string{"--query.default-tenant-id=a/b"}, []string{"tenant", "a/b"}},
		"two prefixes":      {[]string{"--web.prefix-header=X", "--web.external-prefix=/y"}, []string{"--web.prefix-header"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := NewCommand()
			cmd.SetOut(io.Discard)
			args := []string{"--log.level=error"}
			if !slices.ContainsFunc(tc.args, func(a string) bool { return strings.HasPrefix(a, "--http-address") }) {
				args = append(args, "--http-address=127.0.0.1:0")
			}
			if !slices.ContainsFunc(tc.args, func(a string) bool { return strings.HasPrefix(a, "--grpc-address") }) {
				args = append(args, "--grpc-address=127.0.0.1:0")
			}
			cmd.SetArgs(append(args, tc.args...))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := cmd.ExecuteContext(ctx)
			require.Error(t, err)
			for _, w := range tc.want {
				require.Contains(t, err.Error(), w)
			}
		})
	}
}

// running is a querier in this process.
type running struct {
	base    string
	process *service.Process
}

func start(t *testing.T, change func(*Config)) running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Common.HTTP.Address, cfg.Common.GRPC.Address = "127.0.0.1:0", "127.0.0.1:0"
	change(&cfg)
	require.NoError(t, cfg.Validate())
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, p) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close())
		http.DefaultClient.CloseIdleConnections()
	})
	r := running{base: "http://" + p.HTTP.Addr().String(), process: p}
	require.Eventually(t, func() bool {
		code, _ := r.get(t, "/-/ready")
		return code == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
	return r
}

func (r running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(r.base + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, b.String()
}

func (r running) query(t *testing.T, expr string) (values map[string]string, warnings []string) {
	t.Helper()
	code, body := r.get(t, "/api/v1/query?time=10&query="+url.QueryEscape(expr))
	require.Equal(t, http.StatusOK, code, body)
	var resp struct {
		Data struct {
			Result []struct {
				Metric labels.Labels
				Value  [2]any
			}
		}
		Warnings []string
	}
	require.NoError(t, json.Unmarshal([]byte(body), &resp))
	values = map[string]string{}
	for _, s := range resp.Data.Result {
		values[s.Metric.String()] = fmt.Sprint(s.Value[1])
	}
	return values, resp.Warnings
}

// store serves one series up{replica} = v and returns its address and what stops it.
func store(t *testing.T, replica string, v float64) (string, func()) {
	t.Helper()
	s := &fakepeer.Store{
		External: labels.FromStrings("replica", replica),
		Series:   []storeapi.Series{fakepeer.Series(t, labels.FromStrings("__name__", "up"), []fakepeer.Sample{{T: 9_000, V: v}})},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, stop := fakepeer.Serve(t, &fakepeer.Peer{
		Info: &info.InfoResponse{
			ComponentType: endpoints.ComponentSidecar, LabelSets: []*thanos.LabelSet{storeapi.LabelSet(s.External)},
			Store: &info.StoreInfo{MaxTime: 1 << 50, SupportsSharding: true, SupportsWithoutReplicaLabels: true},
		},
		Register: []func(grpc.ServiceRegistrar){fakepeer.RegisterStore(s)},
	}, l)
	t.Cleanup(stop)
	return addr, stop
}

func TestAQuerierAnswersOverItsEndpointsAndNamesTheOneThatDied(t *testing.T) {
	a, _ := store(t, "a", 1)
	b, stopB := store(t, "b", 2)
	files := filepath.Join(t.TempDir(), "stores.json")
	require.NoError(t, os.WriteFile(files, []byte(fmt.Sprintf(`[{"targets": [%q]}]`, b)), 0o600))
	q := start(t, func(c *Config) {
		c.Endpoints.SDConfig = flags.InlineContent("endpoint.sd-config", "endpoints:\n  - address: "+a+"\n")
		c.Endpoints.Files = []string{files}
	})
	values, warnings := q.query(t, "up")
	require.Empty(t, warnings)
	require.Equal(t, map[string]string{`{__name__="up", replica="a"}`: "1", `{__name__="up", replica="b"}`: "2"}, values)

	stopB()
	values, warnings = q.query(t, "up")
	require.Equal(t, map[string]string{`{__name__="up", replica="a"}`: "1"}, values)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], b)
	require.Contains(t, warnings[0], `{replica="b"}`)
	code, body := q.get(t, "/api/v1/query?time=10&query=up&partial_response=false")
	require.GreaterOrEqual(t, code, 400)
	require.Contains(t, body, b)

	// Lost by discovery it is still missing.
	require.NoError(t, os.WriteFile(files, []byte(`[]`), 0o600))
	require.Eventually(t, func() bool {
		_, warnings = q.query(t, "up")
		return len(warnings) == 1 && strings.Contains(warnings[0], "discovery does not name it")
	}, 20*time.Second, 50*time.Millisecond, "%v", warnings)
	_, body = q.get(t, "/api/v1/stores")
	require.Contains(t, body, b)
}

func TestQueriersStack(t *testing.T) {
	a, _ := store(t, "a", 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	grpcAddr := l.Addr().String()
	require.NoError(t, l.Close())
	start(t, func(c *Config) {
		c.Endpoints.Addresses = []string{a}
		c.Common.GRPC.Address = grpcAddr
		c.SelectorLabels = []flags.Label{{Name: "region", Value: "eu"}}
	})
	outer := start(t, func(c *Config) { c.Endpoints.Groups = []string{grpcAddr} })
	values, warnings := outer.query(t, "up")
	require.Empty(t, warnings)
	require.Equal(t, map[string]string{`{__name__="up", replica="a"}`: "1"}, values)
	values, _ = outer.query(t, `up{region="eu"}`)
	require.Len(t, values, 1)
	values, _ = outer.query(t, `up{region="us"}`)
	require.Empty(t, values)
	_, body := outer.get(t, "/api/v1/stores")
	require.Contains(t, body, `"query":[{"name":"`+grpcAddr)
}

func TestAPIsLiveUnderTheRoutePrefix(t *testing.T) {
	q := start(t, func(c *Config) { c.Web.ExternalPrefix = "/thanos/" })
	code, _ := q.get(t, "/thanos/api/v1/stores")
	require.Equal(t, http.StatusOK, code)
	code, _ = q.get(t, "/api/v1/stores")
	require.Equal(t, http.StatusNotFound, code)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(q.base + "/")
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.Equal(t, "/thanos/graph", resp.Header.Get("Location"))
}

func TestEveryRecordedMetricIsExposedWithItsLabels(t *testing.T) {
	a, _ := store(t, "a", 1)
	q := start(t, func(c *Config) { c.Endpoints.Addresses = []string{a} })
	q.query(t, "up")
	recorded.RequireMetrics(t, recorded.Gathered(t, q.process.Registry), recorded.Table(t, "testdata/metrics.tsv"))
}

func TestOldArgumentListsStart(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"query", "--store=127.0.0.1:1", "--rule=x:1", "--target", "y:1", "--query.replica-label=a,b", "--query.replica-label=c", "--no-query.partial-response"},
		{
			"--endpoint", "127.0.0.1:1", "--endpoint-strict=127.0.0.1:2", "--query.auto-downsampling", "--store.response-timeout=0ms",
			"--selector-label=a=\"b\"", "--enable-feature=promql-at-modifier,query-pushdown", "--query.mode=distributed", "--grpc.proxy-strategy=lazy",
		},
	} {
		cmd := NewCommand()
		cmd.SetArgs(append(args, "--log.level=error", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		require.NoError(t, cmd.ExecuteContext(ctx))
	}
}
