package bucket

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	aggregate "github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// content reads a block from disk with Prometheus' own readers: samples by series and, for aggregates, by their number.
func content(tb testing.TB, dir string) map[string][]string {
	tb.Helper()
	r, err := index.NewFileReader(filepath.Join(dir, block.IndexFilename), index.DecodePostingsRaw)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, r.Close()) }()
	data, err := chunks.NewDirReader(filepath.Join(dir, block.ChunksDirname), downsample.NewPool())
	require.NoError(tb, err)
	defer func() { require.NoError(tb, data.Close()) }()
	out := map[string][]string{}
	require.NoError(tb, eachSeries(context.Background(), r, func(s indexed) error {
		lset, chks := s.lset, s.chunks
		for _, c := range chks {
			chunk, _, err := data.ChunkOrIterable(c)
			require.NoError(tb, err)
			if a, ok := chunk.(*downsample.Chunk); ok {
				parts, err := a.Aggr()
				require.NoError(tb, err)
				for i, p := range parts {
					if !p.Present() {
						continue // histograms have neither min nor max
					}
					read, err := chunkenc.FromData(p.Encoding, p.Data)
					require.NoError(tb, err)
					key := fmt.Sprint(lset, i)
					out[key] = append(out[key], samples(tb, read)...)
				}
				continue
			}
			out[lset.String()] = append(out[lset.String()], samples(tb, chunk)...)
		}
		return nil
	}))
	return out
}

func samples(tb testing.TB, c chunkenc.Chunk) (out []string) {
	tb.Helper()
	it := c.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ != chunkenc.ValFloat {
			t, h := it.AtFloatHistogram(nil)
			out = append(out, fmt.Sprintf("%d %s", t, h))
			continue
		}
		t, v := it.At()
		out = append(out, fmt.Sprintf("%d %v", t, v))
	}
	require.NoError(tb, it.Err())
	return out
}

// metas returns what lies in the bucket.
func (b *testBucket) metas() map[ulid.ULID]*block.Meta {
	b.tb.Helper()
	out := map[ulid.ULID]*block.Meta{}
	entries, err := os.ReadDir(b.dir)
	require.NoError(b.tb, err)
	for _, e := range entries {
		if id, ok := block.ParseID(e.Name()); ok {
			m, err := block.ReadMetaDir(filepath.Join(b.dir, e.Name()))
			require.NoError(b.tb, err)
			out[id] = m
		}
	}
	return out
}

// childOf returns the block that was rewritten from id.
func (b *testBucket) childOf(id ulid.ULID) *block.Meta {
	b.tb.Helper()
	for _, m := range b.metas() {
		if len(m.Compaction.Parents) == 1 && m.Compaction.Parents[0].ULID == id {
			return m
		}
	}
	return nil
}

func (b *testBucket) rewrite(args ...string) (out, notes string, err error) {
	b.tb.Helper()
	return b.run(append([]string{"rewrite", "--tmp.dir=" + b.tb.TempDir()}, args...)...)
}

const deleteFirst = `--rewrite.to-delete-config=[{matchers: '{series="0"}', request_id: r1}]`

func TestARewriteChangesNothingUntilItIsTold(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0)
	before := b.files()
	out, notes, err := b.rewrite("--all", deleteFirst)
	require.NoError(t, err)
	require.Contains(t, out, m.ULID.String()+": would be rewritten: 1 series deleted")
	require.Contains(t, notes, "1 block rewritten (dry run: nothing was changed)")
	require.Equal(t, before, b.files())
}

func TestARewriteDeletesSeriesOfEveryResolutionAndMarksTheOldBlocks(t *testing.T) {
	t.Parallel()
	b := bucketIn(t, blocktest.RecordedAfter(t))
	old := b.metas()
	before := map[ulid.ULID]map[string][]string{}
	for id := range old {
		before[id] = content(t, filepath.Join(b.dir, id.String()))
	}
	_, notes, err := b.rewrite("--all", "--no-dry-run", "--delete-blocks", `--rewrite.to-delete-config=[{matchers: 'up'}]`)
	require.NoError(t, err, notes)
	resolutions := map[int64]int{}
	for id, m := range old {
		next := b.childOf(id)
		require.NotNil(t, next, "%s", m)
		resolutions[m.Thanos.Downsample.Resolution]++
		want := before[id]
		maps.DeleteFunc(want, func(series string, _ []string) bool { return strings.HasPrefix(series, `{__name__="up"`) })
		require.Equal(t, want, content(t, filepath.Join(b.dir, next.ULID.String())))
		require.Equal(t, block.SourceBucketRewrite, next.Thanos.Source)
		require.Equal(t, m.GroupKey(), next.GroupKey())
		require.Equal(t, m.Compaction.Sources, next.Thanos.Rewrites[0].Sources)
		require.FileExists(t, b.path(id, block.DeletionMarkFilename))
		log, err := os.ReadFile(b.path(next.ULID, changeLogFilename))
		require.NoError(t, err)
		require.Contains(t, string(log), `deleted {__name__="up"`)
		symbols, err := os.ReadFile(b.path(next.ULID, block.IndexFilename))
		require.NoError(t, err)
		require.NotContains(t, string(symbols), "\x02up")
	}
	require.Len(t, resolutions, 3)

	// Blocks of one origin stay so: the compactor would else downsample them anew.
	for a, am := range old {
		for o, om := range old {
			require.Equal(t, slices.Equal(am.Compaction.Sources, om.Compaction.Sources),
				slices.Equal(b.childOf(a).Compaction.Sources, b.childOf(o).Compaction.Sources))
		}
	}
	after := b.files()
	_, notes, err = b.rewrite("--all", "--no-dry-run", "--delete-blocks", `--rewrite.to-delete-config=[{matchers: 'up'}]`)
	require.NoError(t, err)
	require.Contains(t, notes, "0 blocks rewritten")
	require.Equal(t, after, b.files())
}

func TestTimesOfASeriesAreDeletedAndNothingBeside(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0)
	before := content(t, b.path(m.ULID, ""))
	from, to := m.MinTime+10*60_000, m.MinTime+20*60_000
	_, _, err := b.rewrite("--id="+m.ULID.String(), "--no-dry-run",
		fmt.Sprintf(`--rewrite.to-delete-config=[{matchers: '{series="1"}', intervals: [{mint: %d, maxt: %d}]}]`, from, to))
	require.NoError(t, err)
	next := b.childOf(m.ULID)
	require.NotNil(t, next)
	for series, all := range before {
		if strings.Contains(series, `series="1"`) {
			before[series] = slices.DeleteFunc(all, func(s string) bool {
				var at int64
				_, err := fmt.Sscan(s, &at)
				require.NoError(t, err)
				return at >= from && at <= to
			})
			require.Less(t, len(before[series]), 120)
		}
	}
	require.Equal(t, before, content(t, b.path(next.ULID, "")))
	require.NoFileExists(t, b.path(m.ULID, block.DeletionMarkFilename))
	require.Equal(t, tombstones.Intervals{{Mint: from, Maxt: to}}, next.Thanos.Rewrites[0].DeletionsApplied[0].Intervals)
}

func TestARunThatWasCutOffGoesOn(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0)
	_, _, err := b.rewrite("--all", "--no-dry-run", deleteFirst)
	require.NoError(t, err)
	next := b.childOf(m.ULID)
	require.Len(t, b.metas(), 2)
	// As if it had been killed before the mark: the second run takes what is there.
	out, _, err := b.rewrite("--all", "--no-dry-run", "--delete-blocks", deleteFirst)
	require.NoError(t, err)
	require.Contains(t, out, "rewritten as "+next.ULID.String()+", marked for deletion")
	require.Len(t, b.metas(), 2)
	require.FileExists(t, b.path(m.ULID, block.DeletionMarkFilename))
}

func TestABrokenReplacementKeepsTheOldBlock(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0)
	_, _, err := b.rewrite("--all", "--no-dry-run", deleteFirst)
	require.NoError(t, err)
	next := b.childOf(m.ULID)
	spoil(t, b.path(next.ULID, block.IndexFilename), func(c []byte) []byte { return c[:len(c)/2] })
	_, _, err = b.rewrite("--all", "--no-dry-run", "--delete-blocks", deleteFirst)
	require.ErrorContains(t, err, "the new block is not healthy, and the old one is not touched")
	require.NoFileExists(t, b.path(m.ULID, block.DeletionMarkFilename))
}

func TestARewriteRelabels(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0)
	before := content(t, b.path(m.ULID, ""))
	_, _, err := b.rewrite("--all", "--no-dry-run", `--rewrite.to-relabel-config=[{source_labels: [series], target_label: aa, replacement: "x$1"}, {action: labeldrop, regex: series}]`)
	require.NoError(t, err)
	got := content(t, b.path(b.childOf(m.ULID).ULID, ""))
	require.Len(t, got, len(before))
	for series, all := range before {
		n := strings.Split(series, `"`)[3]
		require.Equal(t, all, got[fmt.Sprintf(`{__name__="%s", aa="x%s"}`, strings.Split(series, `"`)[1], n)], series)
	}
}

func TestSeriesThatWouldBecomeOneAtTheSameTimeAreRefused(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	b.add(0)
	before := b.files()
	_, notes, err := b.rewrite("--all", "--no-dry-run", "--delete-blocks", `--rewrite.to-relabel-config=[{action: labeldrop, regex: series}]`)
	require.ErrorContains(t, err, "relabelling makes 3 series into this one")
	require.Contains(t, notes, "1 failed")
	require.Equal(t, before, b.files())
}

func TestChangesThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	b.add(0)
	for want, args := range map[string][]string{
		"--id: is required":           {deleteFirst},
		"--all: is given together":    {"--all", "--id=" + "01ARZ3NDEKTSV4RRFFQ69G5FAV", deleteFirst},
		"there is nothing to change":  {"--all"},
		"matches every series":        {"--all", `--rewrite.to-delete-config=[{matchers: '{a=~".*"}'}]`},
		"deletion 1: matchers":        {"--all", `--rewrite.to-delete-config=[{matchers: '{'}]`},
		"ends before it begins":       {"--all", `--rewrite.to-delete-config=[{matchers: 'up', intervals: [{mint: 2, maxt: 1}]}]`},
		"interval":                    {"--all", `--rewrite.to-delete-config=[{matchers: 'up', interval: []}]`},
		"--rewrite.to-relabel-config": {"--all", `--rewrite.to-relabel-config=[{action: nonsense}]`},
		"there is no such block":      {"--id=01ARZ3NDEKTSV4RRFFQ69G5FAV", deleteFirst},
		"--hash-func":                 {"--all", "--hash-func=md5", deleteFirst},
	} {
		_, _, err := b.rewrite(args...)
		require.ErrorContains(t, err, want, "%v", args)
	}
}

func TestWindowsThatReachIntoADeletedTimeGo(t *testing.T) {
	t.Parallel()
	const window = 300_000
	xor := func(values ...float64) aggregate.Chunk {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for i := 0; i < len(values); i += 2 {
			app.Append(int64(values[i]), values[i+1])
		}
		return aggregate.Chunk{Encoding: chunkenc.EncXOR, Data: c.Bytes()}
	}
	// Four windows; the counter begins with the first raw value and ends with the last one, after a reset.
	plain := xor(299_999, 1, 599_999, 2, 899_999, 3, 1_100_000, 4)
	parts := [aggregate.NumAggr]aggregate.Chunk{plain, plain, plain, plain, xor(1000, 5, 299_999, 10, 599_999, 20, 899_999, 30, 1_100_000, 40, 1_100_000, 7)}
	made, err := downsample.NewChunk(&aggregate.AggrChunk{Aggr: &parts})
	require.NoError(t, err)
	for _, tt := range []struct {
		name        string
		gone        tombstones.Intervals
		sum, counts []string
	}{
		{
			"between",
			tombstones.Intervals{{Mint: 400_000, Maxt: 400_000}},
			[]string{"299999 1", "899999 3", "1.1e+06 4"},
			[]string{"1000 5", "299999 10", "899999 30", "1.1e+06 40", "1.1e+06 7"},
		},
		{
			"the end",
			tombstones.Intervals{{Mint: 900_000, Maxt: math.MaxInt64}},
			[]string{"299999 1", "599999 2", "899999 3"},
			[]string{"1000 5", "299999 10", "599999 20", "899999 30", "899999 7"},
		},
		{
			"the beginning",
			tombstones.Intervals{{Mint: 0, Maxt: 1}},
			[]string{"599999 2", "899999 3", "1.1e+06 4"},
			[]string{"599999 20", "899999 30", "1.1e+06 40", "1.1e+06 7"},
		},
	} {
		left, err := cutAggregates(made, tt.gone, window)
		require.NoError(t, err, tt.name)
		require.Len(t, left, 1)
		got, err := left[0].Chunk.(*downsample.Chunk).Aggr()
		require.NoError(t, err)
		for i, want := range [][]string{tt.sum, tt.sum, tt.sum, tt.sum, tt.counts} {
			read, err := chunkenc.FromData(got[i].Encoding, got[i].Data)
			require.NoError(t, err)
			require.Equal(t, plainTimes(want), samples(t, read), "%s: aggregate %d", tt.name, i)
		}
	}
	none, err := cutAggregates(made, tombstones.Intervals{{Mint: 0, Maxt: 1_000_000}}, window)
	require.NoError(t, err)
	require.Empty(t, none)
}

func plainTimes(want []string) []string {
	out := slices.Clone(want)
	for i := range out {
		out[i] = strings.Replace(out[i], "1.1e+06", "1100000", 1)
	}
	return out
}

func TestBlocksForAPrometheusAreRewrittenOnDemand(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.addBroken(0, "bare", nil, nil)
	spoil(t, b.path(m.ULID, block.MetaFilename), func(c []byte) []byte {
		return []byte(strings.Replace(string(c), `"seeded": "bare"`, "", 1))
	})
	args := []string{"--all", "--no-dry-run", "--delete-blocks", deleteFirst}
	_, _, err := b.rewrite(args...)
	require.ErrorIs(t, err, block.ErrNoLabels)
	require.ErrorContains(t, err, "--prom-blocks")
	require.Len(t, b.metas(), 1)

	_, notes, err := b.rewrite(append(args, "--prom-blocks")...)
	require.NoError(t, err, notes)
	made := b.childOf(m.ULID)
	require.NotNil(t, made)
	require.Empty(t, made.Thanos.Labels)
	require.EqualValues(t, 2, made.Stats.NumSeries)
	require.FileExists(t, b.path(m.ULID, block.DeletionMarkFilename))
}
