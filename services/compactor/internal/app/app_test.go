package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/recorded"
	"github.com/promontory-io/promontory/services/compactor/internal/api"
	"github.com/promontory-io/promontory/services/compactor/internal/run"
)

// TestFlagsOfThanosAreTaken reads the flags that Thanos' compact command has.
func TestFlagsOfThanosAreTaken(t *testing.T) {
	t.Parallel()
	known := NewCommand().Flags()
	table := recorded.Table(t, "testdata/flags.tsv")
	require.Greater(t, len(table), 45)
	recorded.RequireFlags(t, known, table, nil)
	for _, hidden := range []string{"compact.enable-vertical-compaction", "debug.accept-malformed-index", "debug.halt-on-error", "debug.max-compaction-level", "compact.block-max-index-size", "compact.skip-block-with-out-of-order-chunks"} {
		f := known.Lookup(hidden)
		require.NotNil(t, f, hidden)
		require.True(t, f.Hidden, hidden)
	}
}

func TestBadSettingsAreRefusedByName(t *testing.T) {
	t.Parallel()
	bucket := "--objstore.config={type: FILESYSTEM, config: {directory: " + t.TempDir() + "}}"
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no bucket":           {nil, "--objstore.config"},
		"unknown flag":        {[]string{bucket, "--retention.resolution-6m=3d"}, "--retention.resolution-6m"},
		"short raw retention": {[]string{bucket, "--retention.resolution-raw=39h"}, "--retention.resolution-raw: 1d15h is too short"},
		"short 5m retention":  {[]string{bucket, "--retention.resolution-5m=9d"}, "--retention.resolution-5m: 9d is too short"},
		"unknown dedup":       {[]string{bucket, "--deduplication.func=guess", "--deduplication.replica-label=r"}, "--deduplication.func"},
		"dedup without label": {[]string{bucket, "--deduplication.func=penalty"}, "needs --deduplication.replica-label"},
		"hash":                {[]string{bucket, "--hash-func=MD5"}, "--hash-func"},
		"concurrency":         {[]string{bucket, "--compact.concurrency=0"}, "--compact.concurrency"},
		"times":               {[]string{bucket, "--min-time=-1d", "--max-time=-2d"}, "--min-time"},
		"policy":              {[]string{bucket, "--retention.policies={policies: [{selector: '{'}]}"}, "selector"},
		"policy, unknown key": {[]string{bucket, "--retention.policies={policies: [{seletor: '{}'}]}"}, "seletor"},
		"relabel action":      {[]string{bucket, "--selector.relabel-config=[{action: replace, target_label: x}]", "--http-address=127.0.0.1:0"}, "replace"},
		"unknown word":        {[]string{"compress"}, "compress"},
		"plan and wait":       {[]string{bucket, "--plan", "--wait"}, "--plan"},
		"unknown bucket type": {[]string{"--objstore.config={type: FLOPPY}", "--http-address=127.0.0.1:0"}, "FLOPPY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := NewCommand()
			cmd.SetArgs(append(tc.args, "--data-dir="+t.TempDir()))
			cmd.SetOut(io.Discard)
			require.ErrorContains(t, cmd.ExecuteContext(t.Context()), tc.want)
		})
	}
}

func config(t *testing.T, dir string) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Common.HTTP.Address = "127.0.0.1:0"
	cfg.Bucket = flags.InlineContent("objstore.config", "{type: FILESYSTEM, config: {directory: "+dir+"}}")
	cfg.DataDir = t.TempDir()
	cfg.Blocks.ConsistencyDelay = 0
	cfg.Lease.Term = 3 * time.Second
	cfg.Work.DedupFunc, cfg.Work.ReplicaLabels = "penalty", []string{"replica"}
	return cfg
}

func start(t *testing.T, cfg Config) (addr string, stop func() error) {
	t.Helper()
	require.NoError(t, cfg.Validate())
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, p) }()
	stop = func() error {
		cancel()
		return <-done
	}
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return "http://" + p.HTTP.Addr().String(), stop
}

func TestOneShotRunDoesEverythingAndEnds(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedBefore(t)
	cfg := config(t, dir)
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	require.NoError(t, Run(t.Context(), cfg, p))
	require.NoError(t, p.Close())
	require.Len(t, unmarked(t, dir), 11)
	left, err := os.ReadDir(filepath.Join(cfg.DataDir, scratchDir))
	require.NoError(t, err)
	require.Empty(t, left, "scratch is empty")
	_, err = os.Stat(filepath.Join(dir, "promontory", "lease"))
	require.ErrorIs(t, err, os.ErrNotExist, "the lease is given back")
}

func unmarked(t *testing.T, dir string) []string {
	t.Helper()
	metas, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	require.NoError(t, err)
	var out []string
	for _, m := range metas {
		if _, err := os.Stat(filepath.Join(filepath.Dir(m), block.DeletionMarkFilename)); err != nil {
			out = append(out, filepath.Base(filepath.Dir(m)))
		}
	}
	return out
}

func get(t *testing.T, u string) (int, string) {
	t.Helper()
	res, err := http.Get(u)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 60*time.Second, 50*time.Millisecond, what)
}

func TestServesTheBlockViewerWhileItWorks(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedBefore(t)
	cfg := config(t, dir)
	cfg.Wait, cfg.WaitInterval, cfg.Viewer.SyncInterval, cfg.Viewer.Label = true, 100*time.Millisecond, 50*time.Millisecond, "cluster"
	cfg.Web.ExternalPrefix, cfg.Work.ProgressInterval = "/x", 100*time.Millisecond
	addr, stop := start(t, cfg)
	eventually(t, "all is compacted", func() bool { return len(unmarked(t, dir)) == 11 })
	eventually(t, "the loaded view shows it", func() bool {
		var out struct {
			Data struct {
				Label  string        `json:"label"`
				Blocks []*block.Meta `json:"blocks"`
				Err    *string       `json:"err"`
			} `json:"data"`
		}
		code, body := get(t, addr+"/x/api/v1/blocks?view=loaded")
		require.Equal(t, 200, code)
		require.NoError(t, json.Unmarshal([]byte(body), &out))
		return len(out.Data.Blocks) == 11 && out.Data.Label == "cluster" && out.Data.Err == nil
	})
	eventually(t, "the global view shows marked blocks too", func() bool {
		_, body := get(t, addr+"/x/api/v1/blocks")
		return strings.Count(body, `"ulid"`) > 300
	})
	for _, name := range []string{"thanos_compact_halted 0", "thanos_compact_iterations_total", `thanos_compact_group_compactions_total{resolution="0"} 8`, "thanos_delete_delay_seconds 172800", `thanos_compact_downsample_total{resolution="0"} 3`, "promontory_compactor_lease_held 1", "thanos_compact_todo_compactions 0", `thanos_blocks_meta_synced{state="loaded"} 11`} {
		eventually(t, name, func() bool {
			_, metrics := get(t, addr+"/metrics")
			return strings.Contains(metrics, name)
		})
	}
	code, body := get(t, addr+"/x/api/v1/compactor/plan?format=text")
	require.Equal(t, 200, code)
	require.Contains(t, body, "0 compactions")
	code, body = get(t, addr+"/x/api/v1/compactor/status")
	require.Equal(t, 200, code)
	for _, member := range []string{`"quarantined":[]`, `"running":[`, `"resting":[]`, `"events":[`} {
		require.Contains(t, body, member)
	}
	code, body = get(t, addr+"/x/api/v1/compactor/plan")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"data":{"jobs":[],"marks":[],"problems":[],"retention":[],"bytes":0,"secondsLeft":0,"assumed":false}`)

	id := unmarked(t, dir)[0]
	markBlock := func(action, detail string) (int, string) {
		res, err := http.PostForm(addr+"/x/api/v1/blocks/mark", url.Values{"id": {id}, "action": {action}, "detail": {detail}})
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(b)
	}
	for _, action := range []string{"NO_COMPACTION", "REMOVE_NO_COMPACTION", "NO_DOWNSAMPLING", "REMOVE_NO_DOWNSAMPLING", "DELETION", "REMOVE_DELETION"} {
		code, body := markBlock(action, "a test")
		require.Equal(t, 204, code, "%s: %s", action, body)
	}
	code, body = markBlock("REMOVE_DELETION", "")
	require.Equal(t, 400, code)
	require.Contains(t, body, "bad_data")
	code, _ = markBlock("EXPLODE", "")
	require.Equal(t, 400, code)
	code, body = markBlock("NO_COMPACTION", "seen by others")
	require.Equal(t, 204, code, body)
	eventually(t, "the global view tells marks", func() bool {
		_, body := get(t, addr+"/x/api/v1/blocks")
		return strings.Contains(body, `"`+id+`":{"noCompact":{`)
	})
	code, body = get(t, addr+"/x/api/v1/bucket/blocks/"+id)
	require.Equal(t, 200, code)
	require.Contains(t, body, "seen by others")
	require.Contains(t, body, `"name":"index"`)
	foreign, err := http.NewRequestWithContext(t.Context(), http.MethodPost, addr+"/x/api/v1/blocks/mark?action=DELETION&id="+id, nil)
	require.NoError(t, err)
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := http.DefaultClient.Do(foreign)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 403, res.StatusCode, "a page of another site")
	code, body = get(t, addr+"/x/api/v1/compactor/retention")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"policies":[{"name":"default","rawSeconds":0,`)
	require.Contains(t, body, `"deleteDelaySeconds":172800`)
	id = "nonsense"
	code, _ = markBlock("DELETION", "")
	require.Equal(t, 400, code)
	require.NoError(t, stop())
}

func TestMarksCanBeSwitchedOffAndThePagesKnow(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	cfg.Wait, cfg.Viewer.DisableAdmin = true, true
	addr, stop := start(t, cfg)
	eventually(t, "the page says so", func() bool {
		_, body := get(t, addr+"/blocks")
		return strings.Contains(body, "&#34;admin&#34;:&#34;disabled&#34;")
	})
	res, err := http.PostForm(addr+"/api/v1/blocks/mark", url.Values{"id": {"01HZZZZZZZZZZZZZZZZZZZZZZZ"}, "action": {"DELETION"}})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 500, res.StatusCode)
	require.NoError(t, stop())
}

func TestPlanIsPrintedForPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedBefore(t)
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	cfg := config(t, dir)
	cfg.Retention.Raw = 60 * 24 * time.Hour // the recorded blocks are older
	base, err := fetch.NewBase(nil, bkt, fetch.Config{Strategy: fetch.Recursive}, nil)
	require.NoError(t, err)
	rules, err := cfg.Retention.Rules()
	require.NoError(t, err)
	r := run.New(run.Config{Vertical: true, Downsampling: true, CompactConcurrency: 1, Retention: rules}, run.Deps{
		Logger: zap.NewNop(), Bucket: bkt, Fetcher: base.NewFetcher(nil, run.Filters(nil, []string{"replica"})...),
	})
	before := unmarked(t, dir)
	var text, doc bytes.Buffer
	require.NoError(t, printPlan(t.Context(), r, planText, &text))
	for _, want := range []string{"8 compactions of 336 blocks, 3 downsampled blocks", "estimated time left", "the speed is assumed", "retention: 336 blocks", "held back: "} {
		require.Contains(t, text.String(), want)
	}
	require.NoError(t, printPlan(t.Context(), r, planJSON, &doc))
	var plan api.Plan
	require.NoError(t, json.Unmarshal(doc.Bytes(), &plan))
	require.Len(t, plan.Jobs, 8)
	require.Equal(t, []int64{0, block.Resolution5m, block.Resolution1h}, plan.Jobs[0].Targets)
	require.Positive(t, plan.Jobs[0].Bytes)
	require.Positive(t, plan.SecondsLeft)
	require.Len(t, plan.Retention, 336)
	require.Equal(t, "default", plan.Retention[0].Policy)
	require.Equal(t, before, unmarked(t, dir), "nothing is changed")
}

func TestSecondCompactorWaitsAndSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	blocktest.Upload(t, bkt, blocktest.Spec{})
	cfg := config(t, dir)
	cfg.Wait, cfg.Lease.Term = true, time.Second
	first, stopFirst := start(t, cfg)
	held := func(addr string) bool {
		_, body := get(t, addr+"/metrics")
		return strings.Contains(body, "promontory_compactor_lease_held 1")
	}
	eventually(t, "the first holds the lease", func() bool { return held(first) })
	cfg.DataDir = t.TempDir()
	cfg.Wait = false
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	defer p.Close()
	require.ErrorContains(t, Run(t.Context(), cfg, p), "another compactor holds the lease")
	require.True(t, held(first))
	require.NoError(t, stopFirst())
}
