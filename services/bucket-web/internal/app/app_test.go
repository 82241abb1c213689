package app

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/recorded"
)

// TestFlagsOfThanosAreTaken reads the flags that Thanos' tools bucket web command has.
func TestFlagsOfThanosAreTaken(t *testing.T) {
	t.Parallel()
	table := recorded.Table(t, "testdata/flags.tsv")
	require.Greater(t, len(table), 20)
	recorded.RequireFlags(t, NewCommand().Flags(), table, nil)
}

func TestBadSettingsAreRefusedByName(t *testing.T) {
	t.Parallel()
	bucket := "--objstore.config={type: FILESYSTEM, config: {directory: " + t.TempDir() + "}}"
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no bucket":      {nil, "--objstore.config"},
		"unknown word":   {[]string{"tools", "bucket", "wep", bucket}, "wep"},
		"refresh":        {[]string{"tools", "bucket", "web", bucket, "--refresh=0s"}, "--refresh"},
		"timeout":        {[]string{"bucket", "web", bucket, "--timeout=0s"}, "--timeout"},
		"times":          {[]string{bucket, "--min-time=-1d", "--max-time=-2d"}, "--min-time"},
		"prefixes":       {[]string{bucket, "--web.external-prefix=/x", "--web.prefix-header=X"}, "--web.prefix-header"},
		"compactor":      {[]string{bucket, "--compactor.url=compactor:10902"}, "--compactor.url"},
		"relabel action": {[]string{bucket, "--selector.relabel-config=[{action: replace, target_label: x}]", "--http-address=127.0.0.1:0"}, "replace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(io.Discard)
			cmd.SetArgs(tc.args)
			cmd.SetOut(io.Discard)
			require.ErrorContains(t, cmd.ExecuteContext(t.Context()), tc.want)
		})
	}
}

// web is a bucket-web over a folder.
type web struct {
	dir, base string
	metas     []*block.Meta
}

func start(t *testing.T, change func(*Config)) *web {
	t.Helper()
	w := &web{dir: t.TempDir()}
	bkt, err := filesystem.New(w.dir)
	require.NoError(t, err)
	for i := range 3 {
		w.metas = append(w.metas, blocktest.Upload(t, bkt, blocktest.Spec{
			ExternalLabels: labels.FromStrings("cluster", "eu1", "replica", string(rune('a'+i%2))),
			MinTime:        blocktest.DefaultMinTime + int64(i/2)*7_200_000, MaxTime: blocktest.DefaultMinTime + int64(i/2+1)*7_200_000,
		}))
	}
	cfg := DefaultConfig()
	cfg.Common.HTTP.Address = "127.0.0.1:0"
	cfg.Bucket = flags.InlineContent("objstore.config", "type: FILESYSTEM\nconfig: {directory: "+w.dir+"}")
	if change != nil {
		change(&cfg)
	}
	require.NoError(t, cfg.Validate())
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, p) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close())
	})
	w.base = "http://" + p.HTTP.Addr().String()
	return w
}

func (w *web) do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func (w *web) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+path, nil)
	require.NoError(t, err)
	return w.do(t, req)
}

func (w *web) mark(t *testing.T, form url.Values, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+"/api/v1/blocks/mark", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return w.do(t, req)
}

type overview struct {
	Data struct {
		Err    *string `json:"err"`
		Blocks [][]any `json:"blocks"`
		Admin  bool    `json:"admin"`
		Marked []struct {
			ID string `json:"ulid"`
		} `json:"marked"`
	} `json:"data"`
}

func (w *web) overview(t *testing.T) overview {
	t.Helper()
	code, body := w.get(t, "/api/v1/bucket/overview")
	require.Equal(t, 200, code, body)
	var o overview
	require.NoError(t, json.Unmarshal([]byte(body), &o))
	return o
}

func (w *web) waitForBlocks(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(w.overview(t).Data.Blocks) == n }, 30*time.Second, 10*time.Millisecond)
}

func TestBlocksAreShownAsRowsAndAsWholeMetas(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.Label = "cluster" })
	w.waitForBlocks(t, 3)
	for _, path := range []string{"/api/v1/blocks", "/api/v1/blocks?view=global"} {
		code, body := w.get(t, path)
		require.Equal(t, 200, code)
		var got struct {
			Data struct {
				Label  string        `json:"label"`
				Blocks []*block.Meta `json:"blocks"`
				Err    *string       `json:"err"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		require.Equal(t, "cluster", got.Data.Label)
		require.Len(t, got.Data.Blocks, 3)
		require.Nil(t, got.Data.Err)
	}
	id := w.metas[0].ULID.String()
	code, body := w.get(t, "/api/v1/bucket/blocks/"+id)
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"name":"index"`)
	require.Contains(t, body, `"ulid":"`+id+`"`)
	code, body = w.get(t, "/api/v1/bucket/blocks/"+id+"/cardinality?limit=1")
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"series":10,`)
	for path, want := range map[string]string{
		"/api/v1/bucket/blocks/nope":                            "not valid",
		"/api/v1/bucket/blocks/01HZZZZZZZZZZZZZZZZZZZZZZZ":      "there is no block",
		"/api/v1/bucket/blocks/" + id + "/cardinality?limit=0":  "limit",
		"/api/v1/bucket/blocks/" + id + "/cardinality?limit=1e": "limit",
		"/api/v1/compactor/status":                              "--compactor.url",
	} {
		code, body = w.get(t, path)
		require.Equal(t, 400, code, path)
		require.Contains(t, body, want, path)
	}
	code, _ = w.get(t, "/api/v1/nope")
	require.Equal(t, 404, code)
}

func TestMarksReachTheBucketAndTheOverviewAndComeOffAgain(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.waitForBlocks(t, 3)
	id := w.metas[1].ULID.String()
	for action, file := range map[string]string{
		"DELETION": block.DeletionMarkFilename, "NO_COMPACTION": block.NoCompactMarkFilename, "NO_DOWNSAMPLING": block.NoDownsampleMarkFilename,
	} {
		code, body := w.mark(t, url.Values{"id": {id}, "action": {action}, "detail": {`say "why"`}})
		require.Equal(t, 204, code, body)
		text, err := os.ReadFile(filepath.Join(w.dir, id, file))
		require.NoError(t, err)
		require.Contains(t, string(text), `"details":"say \"why\""`)
		require.Len(t, w.overview(t).Data.Marked, 1, "seen before the next look at the bucket")
		code, body = w.mark(t, url.Values{"id": {id}, "action": {"REMOVE_" + action}})
		require.Equal(t, 204, code, body)
		require.NoFileExists(t, filepath.Join(w.dir, id, file))
		require.Empty(t, w.overview(t).Data.Marked)
		code, body = w.mark(t, url.Values{"id": {id}, "action": {"REMOVE_" + action}})
		require.Equal(t, 400, code, body)
	}
	for _, bad := range []url.Values{
		{"id": {"nope"}, "action": {"DELETION"}}, {"id": {id}, "action": {"DELETE"}}, {"id": {"01HZZZZZZZZZZZZZZZZZZZZZZZ"}, "action": {"DELETION"}},
	} {
		code, body := w.mark(t, bad)
		require.Equal(t, 400, code, body)
		require.Contains(t, body, "bad_data")
	}
	require.NoDirExists(t, filepath.Join(w.dir, "01HZZZZZZZZZZZZZZZZZZZZZZZ"))
}

func TestPagesOfOtherSitesCannotMark(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.waitForBlocks(t, 3)
	form := url.Values{"id": {w.metas[0].ULID.String()}, "action": {"DELETION"}}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		code, _ := w.mark(t, form, header...)
		require.Equal(t, 403, code)
	}
	require.Empty(t, w.overview(t).Data.Marked)
	code, body := w.mark(t, form, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, 204, code, body)
}

func TestMarksCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.DisableAdmin = true })
	w.waitForBlocks(t, 3)
	code, body := w.mark(t, url.Values{"id": {w.metas[0].ULID.String()}, "action": {"DELETION"}})
	require.Equal(t, 500, code)
	require.Contains(t, body, "--disable-admin-operations")
	require.False(t, w.overview(t).Data.Admin)
	require.NoFileExists(t, filepath.Join(w.dir, w.metas[0].ULID.String(), block.DeletionMarkFilename))
}

func TestABucketThatFailsIsShownAndTheLastGoodStateStays(t *testing.T) {
	t.Parallel()
	away := filepath.Join(t.TempDir(), "away")
	w := start(t, func(c *Config) {
		text, err := c.Bucket.Bytes()
		require.NoError(t, err)
		c.Bucket = flags.InlineContent("objstore.config", string(text)+"\nfaults: {rules: [{while_file: "+away+", error: error}]}\n")
	})
	w.waitForBlocks(t, 3)
	require.NoError(t, os.WriteFile(away, nil, 0o600))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+"/api/v1/bucket/refresh", nil)
	require.NoError(t, err)
	code, body := w.do(t, req)
	require.Equal(t, 204, code, body)
	require.Eventually(t, func() bool { return w.overview(t).Data.Err != nil }, 30*time.Second, 10*time.Millisecond)
	require.Len(t, w.overview(t).Data.Blocks, 3)
	code, body = w.get(t, "/api/v1/blocks")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"err":"`)
}

func TestTheOverviewIsSentOnceForEachState(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.waitForBlocks(t, 3)
	resp, err := http.Get(w.base + "/api/v1/bucket/overview")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+"/api/v1/bucket/overview", nil)
	require.NoError(t, err)
	req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
	code, body := w.do(t, req)
	require.Equal(t, 304, code)
	require.Empty(t, body)
	code, _ = w.mark(t, url.Values{"id": {w.metas[0].ULID.String()}, "action": {"NO_COMPACTION"}})
	require.Equal(t, 204, code)
	code, _ = w.do(t, req.Clone(t.Context()))
	require.Equal(t, 200, code)
}

func TestSelectorsAndTimesPickBlocks(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) {
		c.SelectorRelabel = flags.InlineContent("selector.relabel-config", "[{action: keep, source_labels: [replica], regex: a}]")
		c.MaxTime = flags.At(time.UnixMilli(blocktest.DefaultMinTime + 1000))
	})
	w.waitForBlocks(t, 1)
}

func TestTheCompactorIsAskedThroughUs(t *testing.T) {
	t.Parallel()
	var status int
	compactor := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if status != 0 {
			http.Error(rw, "not now", status)
			return
		}
		_, _ = io.WriteString(rw, `{"status":"success","data":{"path":"`+r.URL.Path+`"}}`)
	}))
	t.Cleanup(compactor.Close)
	w := start(t, func(c *Config) {
		c.CompactorURL = compactor.URL + "/compact"
		c.Web.RoutePrefix = "/bucket"
	})
	code, body := w.get(t, "/bucket/api/v1/compactor/plan")
	require.Equal(t, 200, code)
	require.JSONEq(t, `{"status":"success","data":{"path":"/compact/api/v1/compactor/plan"}}`, body)
	status = 502
	code, body = w.get(t, "/bucket/api/v1/compactor/status")
	require.Equal(t, 500, code)
	require.Contains(t, body, "502")
	code, body = w.get(t, "/")
	require.Equal(t, 200, code, "through two redirects: %s", body)
	require.Contains(t, body, "&#34;work&#34;", "its page is there because the address is known")
}
