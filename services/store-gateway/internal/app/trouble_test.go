package app

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// TestTroubleWithTheBucketByStrategy asks for two blocks; the bucket has trouble with the chunks of one of them, or with all reads.
func TestTroubleWithTheBucketByStrategy(t *testing.T) {
	t.Parallel()
	const oneBlock = "name: " + lastBlock + "/chunks/"
	for name, tc := range map[string]struct {
		rule string
		// says is what the answer says about the block; empty where nothing is missing.
		says string
	}{
		"slow":                      {"latency: 30ms", ""},
		"short reads":               {"operations: [get, get_range], short_reads: 7", ""},
		"a third of ranges is cut":  {"operations: [get_range], share: 0.3, truncate: 20", ""},
		"a third of bodies breaks":  {"operations: [get, get_range], share: 0.3, break_after: 20", ""},
		"failing for one block":     {oneBlock + ", operations: [get_range], error: error", "injected"},
		"denied for one block":      {oneBlock + ", operations: [get_range], error: access_denied", "injected"},
		"cutting bodies of a block": {oneBlock + ", operations: [get_range], truncate: 20", "got 20 of"},
		"breaking those of a block": {oneBlock + ", operations: [get_range], break_after: 20", "injected"},
	} {
		for _, strategy := range []thanos.PartialResponseStrategy{thanos.PartialResponseStrategy_WARN, thanos.PartialResponseStrategy_ABORT} {
			t.Run(name+", "+strategy.String(), func(t *testing.T) {
				t.Parallel()
				g := start(t, filesystemYAML(blocktest.RecordedAfter(t))+"faults:\n  seed: 3\n  rules:\n  - {"+tc.rule+"}\n", func(c *Config) { c.Sync.Interval = 50 * time.Millisecond })
				g.waitReady(t)
				frames, err := series(t, g.conn, ask(beforeStart, lastEnd, strategy))
				chunks, warnings := split(frames)
				switch {
				case tc.says == "":
					require.NoError(t, err)
					require.Equal(t, 3, chunks)
					require.Empty(t, warnings)
				case strategy == thanos.PartialResponseStrategy_ABORT:
					require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
					require.ErrorContains(t, err, lastBlock)
					require.ErrorContains(t, err, tc.says)
				default:
					require.NoError(t, err)
					require.Equal(t, 1, chunks, "the other block's data are there")
					require.Len(t, warnings, 1)
					require.Contains(t, warnings[0], lastBlock)
					require.Contains(t, warnings[0], tc.says)
				}
			})
		}
	}
}

// rangeReads is how many ranges were asked of the bucket for Series calls.
func rangeReads(t *testing.T, g *gateway) string {
	t.Helper()
	m := regexp.MustCompile(`promontory_store_gateway_bucket_requests_total\{cause="series",operation="get_range"\} (\d+)`).FindStringSubmatch(metricsOf(t, g))
	require.NotNil(t, m)
	return m[1]
}

func TestABlockDeletedWhileItIsReadIsNamedAndOthersAreServed(t *testing.T) {
	t.Parallel()
	for _, strategy := range []thanos.PartialResponseStrategy{thanos.PartialResponseStrategy_WARN, thanos.PartialResponseStrategy_ABORT} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			dir := blocktest.RecordedAfter(t)
			// The series of the block are looked up at once, and its chunks read a second later.
			g := start(t, filesystemYAML(dir)+"faults:\n  rules:\n  - {name: "+lastBlock+"/chunks/, operations: [get_range], latency: 1s}\n", nil)
			g.waitReady(t)
			type answer struct {
				frames []*thanos.SeriesResponse
				err    error
			}
			answered := make(chan answer, 1)
			go func() {
				frames, err := series(t, g.conn, ask(lastStart, lastEnd, strategy))
				answered <- answer{frames, err}
			}()
			// Postings, series, chunks.
			require.Eventually(t, func() bool { return rangeReads(t, g) == "3" }, 10*time.Second, time.Millisecond, "chunks are asked for")
			bkt, err := filesystem.New(dir)
			require.NoError(t, err)
			require.NoError(t, block.Delete(t.Context(), zap.NewNop(), bkt, ulid.MustParse(lastBlock)))
			require.NoError(t, bkt.Close())
			a := <-answered
			if strategy == thanos.PartialResponseStrategy_ABORT {
				require.Equal(t, codes.Aborted, status.Code(a.err), "%v", a.err)
				require.ErrorContains(t, a.err, lastBlock)
				require.ErrorContains(t, a.err, "missing")
			} else {
				require.NoError(t, a.err)
				chunks, warnings := split(a.frames)
				require.Zero(t, chunks)
				require.Len(t, warnings, 1)
				require.Contains(t, warnings[0], lastBlock)
				require.Contains(t, warnings[0], "missing")
			}
			// What is not of the deleted block is served, within the same call too.
			frames, err := series(t, g.conn, ask(beforeStart, lastEnd, thanos.PartialResponseStrategy_WARN))
			require.NoError(t, err)
			chunks, warnings := split(frames)
			require.Equal(t, 1, chunks)
			require.Len(t, warnings, 1)
			require.Contains(t, warnings[0], lastBlock)
		})
	}
}

func TestSourcesAreServedInThePlaceOfABrokenBlock(t *testing.T) {
	t.Parallel()
	const hours = 7_200_000
	spec := func(n int, sources ...ulid.ULID) blocktest.Spec {
		return blocktest.Spec{
			Floats: 3, Interval: 10 * time.Minute, ExternalLabels: labels.FromStrings("cluster", "x"), Sources: sources,
			MinTime: blocktest.DefaultMinTime + int64(n)*hours, MaxTime: blocktest.DefaultMinTime + int64(n+1)*hours,
		}
	}
	dir, parts := bucketOf(t, spec(0), spec(1))
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	both := spec(0, parts[0].ULID, parts[1].ULID)
	both.MaxTime += hours
	both.Level = 2
	merged := blocktest.Upload(t, bkt, both)
	require.NoError(t, bkt.Close())
	index := filepath.Join(dir, merged.ULID.String(), block.IndexFilename)
	whole, err := os.ReadFile(index)
	require.NoError(t, err)

	g := start(t, filesystemYAML(dir), func(c *Config) { c.Sync.Interval = 20 * time.Millisecond })
	g.waitReady(t)
	ask := func(strategy thanos.PartialResponseStrategy) (samples int, warnings []string, err error) {
		frames, err := series(t, g.conn, &thanos.SeriesRequest{
			MinTime: blocktest.DefaultMinTime, MaxTime: blocktest.DefaultMinTime + 2*hours - 1, PartialResponseStrategy: strategy,
			Matchers: matchers(matcher(labels.MatchEqual, "__name__", blocktest.FloatMetric)),
		})
		for _, f := range frames {
			for _, c := range f.GetSeries().GetChunks() {
				samples += int(binary.BigEndian.Uint16(c.GetRaw().GetData()))
			}
		}
		_, warnings = split(frames)
		return samples, warnings, err
	}
	const all = 3 * 24 // three series, four hours, each ten minutes
	served := func(ids ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			text := get(t, g.http+"/api/v1/blocks")
			text, _, _ = strings.Cut(text, `"setAside"`)
			n := strings.Count(text, `"ulid":"`) - strings.Count(text, `"parents"`)
			for _, id := range ids {
				if !strings.Contains(text, `"ulid":"`+id+`"`) {
					return false
				}
			}
			return n == len(ids)
		}, 10*time.Second, 10*time.Millisecond, "%v are served: %s", ids, get(t, g.http+"/api/v1/blocks"))
	}
	complete := func() {
		t.Helper()
		samples, warnings, err := ask(thanos.PartialResponseStrategy_ABORT)
		require.NoError(t, err)
		require.Equal(t, all, samples)
		require.Empty(t, warnings)
	}
	a, b, m := parts[0].ULID.String(), parts[1].ULID.String(), merged.ULID.String()
	served(m)
	complete()

	// A block that is open stays open: it has to be opened anew.
	restart := func() {
		g = start(t, filesystemYAML(dir), func(c *Config) { c.Sync.Interval = 20 * time.Millisecond })
		g.waitReady(t)
	}
	require.NoError(t, os.WriteFile(index, whole[:300], 0o644))
	restart()
	served(a, b)
	complete()
	require.Contains(t, get(t, g.http+"/api/v1/blocks"), fmt.Sprintf(`"setAside":[{"ulid":%q`, m), "operators see it nevertheless")
	require.Contains(t, get(t, g.http+"/api/v1/blocks"), fmt.Sprintf(`"servedInstead":[%q,%q]`, a, b))
	require.Contains(t, get(t, g.http+"/metrics"), "promontory_store_gateway_blocks_set_aside 1\n")
	require.Contains(t, g.logs.String(), "the blocks that it was made of are served instead")

	// One source is gone: the other one is served, and what is missing is said.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, b)))
	served(a)
	_, _, err = ask(thanos.PartialResponseStrategy_ABORT)
	require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
	require.ErrorContains(t, err, m)
	samples, warnings, err := ask(thanos.PartialResponseStrategy_WARN)
	require.NoError(t, err)
	require.Equal(t, all/2, samples)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], m)

	require.NoError(t, os.WriteFile(index, whole, 0o644))
	served(m)
	complete()
	require.Contains(t, g.logs.String(), "no longer set aside")
}
