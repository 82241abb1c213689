package app

import (
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// Blocks of the recorded bucket: the last one, the one before, and the raw one of the first eleven days.
const (
	lastBlock   = "01M83WT0H7347KHR37VJ6BTK4K"
	beforeBlock = "01M83WT0GQ4Z6ND4511TP90F38"
	firstBlock  = "01M83WT1E1CMVZABCMT3V3KJ0V"

	lastStart, lastEnd     int64 = 1763848800000, 1763855947000
	beforeStart, beforeEnd int64 = 1763841600000, 1763848747000
)

func ask(mint, maxt int64, strategy thanos.PartialResponseStrategy) *thanos.SeriesRequest {
	return &thanos.SeriesRequest{
		MinTime: mint, MaxTime: maxt, PartialResponseStrategy: strategy,
		Matchers: []*thanos.LabelMatcher{{Name: "__name__", Value: "up"}},
	}
}

// split takes an answer apart.
func split(frames []*thanos.SeriesResponse) (chunks int, warnings []string) {
	for _, f := range frames {
		chunks += len(f.GetSeries().GetChunks())
		if w := f.GetWarning(); w != "" {
			warnings = append(warnings, w)
		}
	}
	return chunks, warnings
}

func damage(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, change(b), 0o644))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		if at < 0 {
			at += len(b)
		}
		b[at] ^= 0x55
		return b
	}
}

func TestABrokenBlockCostsItsOwnDataAndTheAnswerSaysSo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		damage func(t *testing.T, dir string)
		// says is what warnings and errors name beside the block.
		says string
		// unread blocks are found broken when they are opened, others when they are read.
		unread bool
	}{
		"truncated index": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "index"), func(b []byte) []byte { return b[:len(b)-700] })
		}, "truncated", true},
		"index of five bytes": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "index"), func(b []byte) []byte { return b[:5] })
		}, "truncated", true},
		"no index": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "index")))
		}, "missing", true},
		"index that is none": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "index"), flip(0))
		}, "begins with", true},
		"damaged symbols": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "index"), flip(20))
		}, "symbols", true},
		"damaged postings table": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "index"), flip(-80))
		}, "postings offset table", true},
		"meta.json from the future": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "meta.json"), func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `"version": 1`, `"version": 7`, 1))
			})
		}, "version", true},
		"no chunk file": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "chunks", "000001")))
		}, "chunks/000001", false},
		"truncated chunk file": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "chunks", "000001"), func(b []byte) []byte { return b[:100] })
		}, "chunks/000001", false},
		"damaged chunks": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "chunks", "000001"), func(b []byte) []byte {
				for i := 8; i < len(b); i += 16 {
					b[i+5] ^= 1
				}
				return b
			})
		}, "checksum", false},
		"damaged series": {func(t *testing.T, dir string) {
			damage(t, filepath.Join(dir, "index"), func(b []byte) []byte {
				toc := b[len(b)-52:]
				for i := binary.BigEndian.Uint64(toc[8:]); i < binary.BigEndian.Uint64(toc[32:])-16; i += 16 {
					b[i+2] ^= 1
				}
				return b
			})
		}, "series entry", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := blocktest.RecordedAfter(t)
			tc.damage(t, filepath.Join(dir, lastBlock))
			g := start(t, filesystemYAML(dir), nil)
			g.waitReady(t)

			frames, err := series(t, g.conn, ask(beforeStart, lastEnd, thanos.PartialResponseStrategy_WARN))
			require.NoError(t, err)
			chunks, warnings := split(frames)
			require.Equal(t, 1, chunks, "the other block's data are there")
			require.Len(t, warnings, 1)
			require.Contains(t, warnings[0], lastBlock)
			require.Contains(t, warnings[0], tc.says)

			_, err = series(t, g.conn, ask(beforeStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
			require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
			require.ErrorContains(t, err, lastBlock)
			require.ErrorContains(t, err, tc.says)

			frames, err = series(t, g.conn, ask(beforeStart, beforeEnd, thanos.PartialResponseStrategy_ABORT))
			require.NoError(t, err, "an answer that the block is no part of is whole")
			chunks, warnings = split(frames)
			require.Equal(t, 1, chunks)
			require.Empty(t, warnings)

			announced, err := info.NewInfoClient(g.conn).Info(t.Context(), &info.InfoRequest{})
			require.NoError(t, err)
			require.GreaterOrEqual(t, announced.GetStore().GetMaxTime(), lastEnd, "the block's time is announced, so that the store is asked")

			names, err := thanos.NewStoreClient(g.conn).LabelNames(t.Context(), &thanos.LabelNamesRequest{Start: beforeStart, End: lastEnd})
			require.NoError(t, err)
			require.Contains(t, names.GetNames(), "job")
			require.Equal(t, tc.unread, len(names.GetWarnings()) == 1, "%v", names.GetWarnings())
			if tc.unread {
				require.Contains(t, get(t, g.http+"/api/v1/blocks"), `"setAside":[{"ulid":"`+lastBlock)
				require.Contains(t, get(t, g.http+"/metrics"), "promontory_store_gateway_blocks_set_aside 1\n")
				require.Contains(t, g.logs.String(), "block is set aside")
			}
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", b)
	return string(b)
}

func TestABlockOfWhichNothingIsKnownIsWarnedAboutAndFailsNobody(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	damage(t, filepath.Join(dir, lastBlock, "meta.json"), func(b []byte) []byte { return b[:40] })
	g := start(t, filesystemYAML(dir), nil)
	g.waitReady(t)
	frames, err := series(t, g.conn, ask(beforeStart, beforeEnd, thanos.PartialResponseStrategy_WARN))
	require.NoError(t, err)
	_, warnings := split(frames)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], lastBlock)
	_, err = series(t, g.conn, ask(beforeStart, beforeEnd, thanos.PartialResponseStrategy_ABORT))
	require.NoError(t, err)
}

func TestAMendedBlockIsServedAgain(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	index := filepath.Join(dir, lastBlock, "index")
	whole, err := os.ReadFile(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(index, whole[:500], 0o644))
	g := start(t, filesystemYAML(dir), func(c *Config) { c.Sync.Interval = 20 * time.Millisecond })
	g.waitReady(t)
	_, err = series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
	require.Equal(t, codes.Aborted, status.Code(err))

	require.NoError(t, os.WriteFile(index, whole, 0o644))
	require.Eventually(t, func() bool {
		frames, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
		chunks, _ := split(frames)
		return err == nil && chunks == 2
	}, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, g.logs.String(), "no longer set aside")

	require.NoError(t, os.RemoveAll(filepath.Join(dir, lastBlock)))
	require.Eventually(t, func() bool {
		frames, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
		return err == nil && len(frames) == 0
	}, 10*time.Second, 10*time.Millisecond, "a deleted block is let go")
}

func TestAnswersAreWholeWhileTheBucketFailsHalfOfItsReads(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	sound := start(t, filesystemYAML(dir), nil)
	sound.waitReady(t)
	everything := ask(1762646400000, lastEnd, thanos.PartialResponseStrategy_ABORT)
	want, err := series(t, sound.conn, everything)
	require.NoError(t, err)
	require.NotEmpty(t, want)
	yaml := filesystemYAML(dir) + `faults:
  seed: 7
  rules:
  - operations: [get, get_range, attributes, exists, iter]
    share: 0.5
    error: error
`
	g := start(t, yaml, func(c *Config) { c.Sync.Interval = 50 * time.Millisecond })
	g.waitReady(t)
	require.Eventually(t, func() bool {
		frames, err := series(t, g.conn, ask(beforeStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
		chunks, _ := split(frames)
		return err == nil && chunks == 3
	}, 20*time.Second, 10*time.Millisecond)
	for range 10 {
		got, err := series(t, g.conn, everything)
		require.NoError(t, err)
		requireEqual(t, want, got)
	}
}

func TestARestartUsesWhatIsOnDiskAndMendsIt(t *testing.T) {
	t.Parallel()
	dir, data := blocktest.RecordedAfter(t), t.TempDir()
	other := "01M83WT0H7347KHR37VJ6BTK4Z"
	require.NoError(t, os.MkdirAll(filepath.Join(data, other), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, other, "index-header"), []byte("old"), 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(data, lastBlock), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, lastBlock, "index-header"), []byte("cut off"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(data, lastBlock, "index-header.tmp"), []byte("cut off"), 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(data, "not-a-block"), 0o755))

	g := start(t, filesystemYAML(dir), func(c *Config) { c.DataDir = data })
	g.waitReady(t)
	frames, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
	require.NoError(t, err)
	chunks, _ := split(frames)
	require.Equal(t, 2, chunks)
	require.Eventually(t, func() bool { return !exists(filepath.Join(data, other)) }, 20*time.Second, 10*time.Millisecond,
		"tidied up after the first round, of which readiness does not wait for the end")
	require.DirExists(t, filepath.Join(data, "not-a-block"))
	require.NoFileExists(t, filepath.Join(data, lastBlock, "index-header.tmp"))
	require.Contains(t, g.logs.String(), "unreadable")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestLimitsRefuseWithNumbers(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	all := &thanos.SeriesRequest{MinTime: 1762646400000, MaxTime: lastEnd, Matchers: []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "__name__", Value: ".+"}}}
	for name, tc := range map[string]struct {
		change func(*Config)
		says   string
		// dropped is the reason that counts it; limits of what is sent are counted by the server.
		dropped string
	}{
		"touched series":       {func(c *Config) { c.Limits.TouchedSeries = 30 }, "30", "series"},
		"touched samples":      {func(c *Config) { c.Limits.TouchedSamples = 1200 }, "1200", "chunks"},
		"downloaded bytes":     {func(c *Config) { c.Limits.DownloadedBytes = 2000 }, "2000", "bytes"},
		"series of a request":  {func(c *Config) { c.Limits.RequestSeries = 7 }, "7 series", ""},
		"samples of a request": {func(c *Config) { c.Limits.RequestSamples = 2400 }, "2400", ""},
		"memory budget":        {func(c *Config) { c.BudgetBytes = 700 << 10 }, "the limit is 716800 bytes", "memory"},
		"chunk pool":           {func(c *Config) { c.ChunkPoolBytes = 600 << 10 }, "reading 8 blocks at once of {__name__=~\".+\"} needs 767456 bytes (749.5 KiB), the limit is 614400 bytes", "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, filesystemYAML(dir), tc.change)
			g.waitReady(t)
			_, err := series(t, g.conn, all)
			require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
			require.ErrorContains(t, err, tc.says)
			if tc.dropped != "" {
				require.Regexp(t, `thanos_bucket_store_queries_dropped_total\{reason="`+tc.dropped+`",tenant="[^"]*"\} [1-9]`, metricsOf(t, g))
			}
			frames, err := series(t, g.conn, &thanos.SeriesRequest{
				MinTime: lastStart, MaxTime: lastEnd, SkipChunks: true, Matchers: []*thanos.LabelMatcher{{Name: "__name__", Value: "up"}},
			})
			require.NoError(t, err, "small requests are answered")
			require.Len(t, frames, 1)
		})
	}
}
