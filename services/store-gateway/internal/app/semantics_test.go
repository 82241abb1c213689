package app

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

func matchers(ms ...*labels.Matcher) []*thanos.LabelMatcher { return storeapi.WireMatchers(ms) }

func matcher(typ labels.MatchType, name, value string) *labels.Matcher {
	return labels.MustNewMatcher(typ, name, value)
}

// bucketOf uploads a block for each spec into a fresh bucket.
func bucketOf(t *testing.T, specs ...blocktest.Spec) (dir string, metas []*block.Meta) {
	t.Helper()
	dir = t.TempDir()
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	for _, s := range specs {
		metas = append(metas, blocktest.Upload(t, bkt, s))
	}
	require.NoError(t, bkt.Close())
	return dir, metas
}

// TestLabelCallsAgreeWithSeries asks for labels in every way and compares with the series themselves.
func TestLabelCallsAgreeWithSeries(t *testing.T) {
	t.Parallel()
	var series1 []labels.Labels
	for i := range 1500 {
		series1 = append(series1, labels.FromStrings("__name__", fmt.Sprintf("m%d", i%5), "few", fmt.Sprint(i%3), "many", fmt.Sprintf("%04d", i), "mid", fmt.Sprint(i%70)))
	}
	series1 = append(series1, labels.FromStrings("__name__", "bare"), labels.FromStrings("__name__", "m1", "cluster", "inner", "few", "9"))
	dir, _ := bucketOf(t, blocktest.Spec{Series: series1, Interval: 10 * time.Minute, ExternalLabels: labels.FromStrings("cluster", "test")})
	start1 := func(change func(*Config)) *gateway {
		g := start(t, filesystemYAML(dir), change)
		g.waitReady(t)
		return g
	}
	plain := start1(nil)
	lazy := start1(func(c *Config) { c.Read.LazyPostings, c.Headers.LazyReader = true, true })
	const mint, maxt = blocktest.DefaultMinTime, blocktest.DefaultMinTime + 7_200_000
	for _, ms := range [][]*labels.Matcher{
		{matcher(labels.MatchRegexp, "__name__", ".+")},
		{matcher(labels.MatchEqual, "__name__", "m1")},
		{matcher(labels.MatchEqual, "__name__", "m1"), matcher(labels.MatchEqual, "few", "9")},
		{matcher(labels.MatchEqual, "many", "0007")},
		{matcher(labels.MatchRegexp, "many", "00.*"), matcher(labels.MatchNotEqual, "few", "1")},
		{matcher(labels.MatchNotRegexp, "few", "0|1|"), matcher(labels.MatchEqual, "cluster", "test")},
		{matcher(labels.MatchEqual, "few", "")},
		{matcher(labels.MatchRegexp, "few", "1|2")},
		{matcher(labels.MatchEqual, "__name__", "none")},
	} {
		t.Run(storeapi.FormatMatchers(ms), func(t *testing.T) {
			for _, g := range []*gateway{plain, lazy, plain} { // the third time from the cache
				frames, err := series(t, g.conn, &thanos.SeriesRequest{MinTime: mint, MaxTime: maxt, Matchers: matchers(ms...), SkipChunks: true, ResponseBatchSize: 100})
				require.NoError(t, err)
				values := map[string][]string{}
				count := 0
				for _, f := range frames {
					for _, s := range f.GetBatch().GetSeries() {
						count++
						for _, l := range s.GetLabels() {
							values[l.GetName()] = append(values[l.GetName()], l.GetValue())
						}
					}
				}
				want := 0
				for _, s := range series1 {
					ok := true
					for _, m := range ms {
						v := s.Get(m.Name)
						if m.Name == "cluster" {
							v = "test"
						}
						ok = ok && m.Matches(v)
					}
					if ok {
						want++
					}
				}
				require.Equal(t, want, count)
				var names []string
				for n, v := range values {
					names = append(names, n)
					slices.Sort(v)
					values[n] = slices.Compact(v)
				}
				slices.Sort(names)
				gotNames, err := thanos.NewStoreClient(g.conn).LabelNames(t.Context(), &thanos.LabelNamesRequest{Start: mint, End: maxt, Matchers: matchers(ms...)})
				require.NoError(t, err)
				require.Equal(t, names, gotNames.GetNames())
				for _, n := range []string{"__name__", "few", "many", "mid", "cluster", "none"} {
					got, err := thanos.NewStoreClient(g.conn).LabelValues(t.Context(), &thanos.LabelValuesRequest{Label: n, Start: mint, End: maxt, Matchers: matchers(ms...)})
					require.NoError(t, err)
					require.Equal(t, values[n], got.GetValues(), n)
				}
			}
		})
	}
}

func TestLabelValuesOfARemovedLabelAreNone(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedBefore(t)), nil)
	g.waitReady(t)
	req := &thanos.LabelValuesRequest{Label: "replica", Start: lastStart, End: lastEnd}
	got, err := thanos.NewStoreClient(g.conn).LabelValues(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, []string{"r0", "r1"}, got.GetValues())
	req.WithoutReplicaLabels = []string{"replica"}
	got, err = thanos.NewStoreClient(g.conn).LabelValues(t.Context(), req)
	require.NoError(t, err)
	require.Empty(t, got.GetValues())
}

func TestHintsSelectBlocksAndTellTheCost(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), nil)
	g.waitReady(t)
	pack := func(h *hintspb.SeriesRequestHints) *anypb.Any {
		b, err := h.MarshalVT()
		require.NoError(t, err)
		return &anypb.Any{TypeUrl: "type.googleapis.com/hintspb.SeriesRequestHints", Value: b}
	}
	req := ask(beforeStart, lastEnd, thanos.PartialResponseStrategy_ABORT)
	req.Hints = pack(&hintspb.SeriesRequestHints{
		BlockMatchers:    matchers(matcher(labels.MatchEqual, "__block_id", lastBlock)),
		EnableQueryStats: true,
	})
	frames, err := series(t, g.conn, req)
	require.NoError(t, err)
	chunks, _ := split(frames)
	require.Equal(t, 2, chunks)
	var hints hintspb.SeriesResponseHints
	last := frames[len(frames)-1].GetHints()
	require.Equal(t, "type.googleapis.com/hintspb.SeriesResponseHints", last.GetTypeUrl(), "hints come last")
	require.NoError(t, hints.UnmarshalVT(last.GetValue()))
	require.Len(t, hints.GetQueriedBlocks(), 1)
	require.Equal(t, lastBlock, hints.GetQueriedBlocks()[0].GetId())
	st := hints.GetQueryStats()
	require.EqualValues(t, 1, st.GetBlocksQueried())
	require.EqualValues(t, 1, st.GetMergedSeriesCount())
	require.EqualValues(t, 2, st.GetMergedChunksCount())
	require.EqualValues(t, 1, st.GetSeriesFetched())
	require.EqualValues(t, 2, st.GetChunksFetched())
	require.EqualValues(t, 1, st.GetChunksFetchCount(), "two chunks side by side are one request")
	require.Positive(t, st.GetPostingsFetchedSizeSum())
	require.Positive(t, st.GetDataDownloadedSizeSum())

	frames, err = series(t, g.conn, req)
	require.NoError(t, err)
	hints.Reset()
	require.NoError(t, hints.UnmarshalVT(frames[len(frames)-1].GetHints().GetValue()))
	require.Zero(t, hints.GetQueryStats().GetPostingsFetched(), "the index cache has them")
	require.EqualValues(t, 1, hints.GetQueryStats().GetPostingsTouched())

	req.Hints = &anypb.Any{TypeUrl: "type.googleapis.com/hintspb.SeriesRequestHints", Value: []byte{0xff}}
	_, err = series(t, g.conn, req)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	req.Hints = &anypb.Any{TypeUrl: "type.googleapis.com/somebody.Else", Value: []byte{0xff}}
	frames, err = series(t, g.conn, req)
	require.NoError(t, err, "hints for others are no concern")
	chunks, _ = split(frames)
	require.Equal(t, 3, chunks)
}

func TestCoarseDataFillGapsWithFiner(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), nil)
	g.waitReady(t)
	req := ask(1762646400000, lastEnd, thanos.PartialResponseStrategy_ABORT)
	req.MaxResolutionWindow = 3_600_000
	req.Aggregates = []thanos.Aggr{thanos.Aggr_COUNT, thanos.Aggr_SUM}
	frames, err := series(t, g.conn, req)
	require.NoError(t, err)
	require.Len(t, frames, 1)
	raw, aggr := 0, 0
	for _, c := range frames[0].GetSeries().GetChunks() {
		if c.GetRaw() != nil {
			raw++
			require.GreaterOrEqual(t, c.GetMinTime(), int64(1763769600000), "raw data only where nothing is downsampled")
			continue
		}
		aggr++
		require.NotNil(t, c.GetCount())
		require.NotNil(t, c.GetSum())
		require.Nil(t, c.GetMin())
		require.Nil(t, c.GetMax())
		require.Nil(t, c.GetCounter())
	}
	require.Positive(t, raw)
	require.Positive(t, aggr)
}

func TestOverlappingBlocksSendEachChunkOnce(t *testing.T) {
	t.Parallel()
	spec := blocktest.Spec{Floats: 20, ExternalLabels: labels.FromStrings("cluster", "x")}
	dir, metas := bucketOf(t, spec, spec)
	require.Len(t, metas, 2)
	g := start(t, filesystemYAML(dir), nil)
	g.waitReady(t)
	frames, err := series(t, g.conn, &thanos.SeriesRequest{
		MinTime: blocktest.DefaultMinTime, MaxTime: blocktest.DefaultMinTime + 7_200_000,
		Matchers: matchers(matcher(labels.MatchEqual, "__name__", blocktest.FloatMetric)),
	})
	require.NoError(t, err)
	require.Len(t, frames, 20)
	for _, f := range frames {
		seen := map[int64]bool{}
		for _, c := range f.GetSeries().GetChunks() {
			require.False(t, seen[c.GetMinTime()])
			seen[c.GetMinTime()] = true
		}
		require.NotEmpty(t, seen)
	}
}

func TestTimesOutsideTheBoundsAreNotServed(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	g := start(t, filesystemYAML(dir), func(c *Config) {
		c.Sync.MinTime = flags.At(time.UnixMilli(beforeStart + 60_000))
		c.Sync.MaxTime = flags.At(time.UnixMilli(beforeEnd))
	})
	g.waitReady(t)
	resp, err := info.NewInfoClient(g.conn).Info(t.Context(), &info.InfoRequest{})
	require.NoError(t, err)
	require.Equal(t, beforeStart+60_000, resp.GetStore().GetMinTime())
	require.Equal(t, beforeEnd, resp.GetStore().GetMaxTime())
	frames, err := series(t, g.conn, ask(1762646400000, lastEnd, thanos.PartialResponseStrategy_ABORT))
	require.NoError(t, err)
	chunks, _ := split(frames)
	require.Equal(t, 1, chunks)
	frames, err = series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
	require.NoError(t, err)
	require.Empty(t, frames)
}

func TestAnEmptyBucketAnnouncesARangeThatOverlapsNothing(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(t.TempDir()), nil)
	g.waitReady(t)
	resp, err := info.NewInfoClient(g.conn).Info(t.Context(), &info.InfoRequest{})
	require.NoError(t, err)
	require.Greater(t, resp.GetStore().GetMinTime(), resp.GetStore().GetMaxTime())
	require.Empty(t, resp.GetLabelSets())
	frames, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
	require.NoError(t, err)
	require.Empty(t, frames)
	require.Contains(t, get(t, g.http+"/api/v1/blocks?view=global"), `"blocks":[],"refreshedAt":"20`)
}

func TestNothingIsAnsweredBeforeTheFirstLookThroughTheBucket(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedAfter(t))+"faults:\n  rules:\n  - operations: [iter]\n    hang: true\n", nil)
	_, err := info.NewInfoClient(g.conn).Info(t.Context(), &info.InfoRequest{})
	require.ErrorContains(t, err, "Not ready")
	_, err = series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_WARN))
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	_, err = thanos.NewStoreClient(g.conn).LabelNames(t.Context(), &thanos.LabelNamesRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.False(t, g.p.Status.Ready())
}

func TestAnUnreachableBucketIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := start(t, filesystemYAML(dir)+"faults:\n  rules:\n  - operations: [iter]\n    error: error\n", nil)
	require.Eventually(t, func() bool { return strings.Contains(g.logs.String(), "bucket cannot be used") }, 30*time.Second, 5*time.Millisecond)
	require.Contains(t, g.logs.String(), "FILESYSTEM")
	require.Contains(t, g.logs.String(), dir)
}

func TestAFileIsNoBucket(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	cmd := newCommand(&logBuffer{})
	cmd.SetArgs([]string{"--objstore.config=" + filesystemYAML(file), "--data-dir=" + t.TempDir(), "--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0"})
	err := cmd.ExecuteContext(t.Context())
	require.ErrorContains(t, err, file)
}
