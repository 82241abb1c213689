package merge

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// collector is an Output that keeps everything.
type collector struct {
	order  []string
	series map[string][]Chunk
}

func newCollector() *collector { return &collector{series: map[string][]Chunk{}} }

func (c *collector) Begin([]string) error { return nil }

func (c *collector) Add(lset labels.Labels, cs []Chunk) error {
	name := lset.String()
	c.order = append(c.order, name)
	for _, ch := range cs {
		ch.Bytes = bytes.Clone(ch.Bytes)
		c.series[name] = append(c.series[name], ch)
	}
	return nil
}

// samples decodes what was collected, by series and time, and checks the chunks on the way.
func (c *collector) samples(t *testing.T) map[string]map[int64]string {
	t.Helper()
	out := map[string]map[int64]string{}
	for name, cs := range c.series {
		out[name] = map[int64]string{}
		last := int64(math.MinInt64)
		for _, ch := range cs {
			require.Greater(t, ch.MinTime, last, "chunks overlap")
			it := downsample.NewIterator([]chunks.AggrChunk{{MinTime: ch.MinTime, MaxTime: ch.MaxTime, Raw: chunks.Chunk{Encoding: ch.Encoding, Data: ch.Bytes}}}, rawOnly)
			n, first := 0, int64(0)
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				var v string
				if typ == chunkenc.ValFloat {
					_, f := it.At()
					v = fmt.Sprint(f)
				} else {
					_, h := it.AtFloatHistogram(nil)
					v = h.String()
				}
				require.Greater(t, it.AtT(), last)
				last = it.AtT()
				if n == 0 {
					first = last
				}
				n++
				out[name][last] = v
			}
			require.NoError(t, it.Err())
			require.Equal(t, ch.Samples, n)
			require.Equal(t, ch.MinTime, first)
			require.Equal(t, ch.MaxTime, last)
		}
	}
	return out
}

func open(t *testing.T, bkt objstore.Bucket, metas ...*block.Meta) []Input {
	t.Helper()
	var out []Input
	for _, m := range metas {
		src, err := read.Open(t.Context(), bkt, m, read.Options{IndexBuffer: 64, ChunkBuffer: 100, Attempts: 1})
		require.NoError(t, err)
		t.Cleanup(src.Close)
		out = append(out, Input{Source: src, MinTime: m.MinTime, MaxTime: m.MaxTime})
	}
	return out
}

func runMerge(t *testing.T, bkt objstore.Bucket, fn dedup.Func, metas ...*block.Meta) (*collector, Stats) {
	t.Helper()
	out := newCollector()
	stats, err := Run(t.Context(), open(t, bkt, metas...), map[int64]Output{0: out}, Options{Dedup: fn})
	require.NoError(t, err)
	return out, stats
}

func spec(from, to time.Duration, change ...func(*blocktest.Spec)) blocktest.Spec {
	s := blocktest.Spec{
		MinTime: blocktest.DefaultMinTime + from.Milliseconds(), MaxTime: blocktest.DefaultMinTime + to.Milliseconds(),
		Interval: time.Minute, Floats: 3, Histograms: 2, FloatHistograms: 1,
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

// want are the samples of generated series between two times.
func want(s blocktest.Spec) map[string]map[int64]string {
	out := map[string]map[int64]string{}
	add := func(metric string, n int, at func(int64) string) {
		name := labels.FromStrings("__name__", metric, "series", fmt.Sprint(n)).String()
		out[name] = map[int64]string{}
		for t := s.MinTime; t < s.MaxTime; t += s.Interval.Milliseconds() {
			out[name][t] = at(t)
		}
	}
	for n := range s.Floats {
		add(blocktest.FloatMetric, n, func(t int64) string { return fmt.Sprint(blocktest.FloatValue(n, t)) })
	}
	for n := range s.Histograms {
		add(blocktest.HistogramMetric, n, func(t int64) string { return blocktest.HistogramValue(n, t).ToFloat(nil).String() })
	}
	for n := range s.FloatHistograms {
		add(blocktest.FloatHistogramMetric, n, func(t int64) string { return blocktest.FloatHistogramValue(n, t).String() })
	}
	return out
}

func TestChunksThatDoNotOverlapAreCopiedByteForByte(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	a := blocktest.Upload(t, bkt, spec(0, 2*time.Hour))
	b := blocktest.Upload(t, bkt, spec(2*time.Hour, 4*time.Hour))
	got, stats := runMerge(t, bkt, dedup.Penalty, a, b)
	require.Equal(t, want(spec(0, 4*time.Hour)), got.samples(t))
	require.Zero(t, stats.Merged)
	require.Equal(t, int(a.Stats.NumChunks+b.Stats.NumChunks), stats.Copied)
	require.Equal(t, 6, stats.Series)
	require.Equal(t, 12, stats.SourceSeries)
	require.IsIncreasing(t, got.order)
	first, _ := runMerge(t, bkt, dedup.Penalty, a)
	for name, cs := range first.series {
		require.Equal(t, cs, got.series[name][:len(cs)])
	}
}

func TestIdenticalBlocksAreMergedWithoutDecoding(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	a := blocktest.Upload(t, bkt, spec(0, 2*time.Hour))
	b := blocktest.Upload(t, bkt, spec(0, 2*time.Hour))
	for _, fn := range []dedup.Func{dedup.Chain, dedup.Penalty, dedup.Exact} {
		got, stats := runMerge(t, bkt, fn, a, b)
		require.Equal(t, want(spec(0, 2*time.Hour)), got.samples(t))
		require.Zero(t, stats.Merged)
		require.Equal(t, int(a.Stats.NumChunks), stats.Dropped)
	}
}

func TestOverlappingChunksAreMergedIntoFullOnes(t *testing.T) {
	t.Parallel()
	for _, fn := range []dedup.Func{dedup.Chain, dedup.Exact} {
		bkt := objstore.NewInMemBucket()
		a := blocktest.Upload(t, bkt, spec(0, 3*time.Hour))
		b := blocktest.Upload(t, bkt, spec(90*time.Minute, 5*time.Hour))
		got, stats := runMerge(t, bkt, fn, a, b)
		require.Equal(t, want(spec(0, 5*time.Hour)), got.samples(t), fn)
		require.Positive(t, stats.Merged)
		for name, cs := range got.series {
			for i, c := range cs {
				require.LessOrEqual(t, c.Samples, samplesPerChunk, "%s chunk %d", name, i)
			}
		}
	}
}

func TestPenaltyTakesAboutAsManySamplesAsOneReplicaHas(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	a := blocktest.Upload(t, bkt, spec(0, 2*time.Hour))
	b := blocktest.Upload(t, bkt, spec(20*time.Second, 2*time.Hour+20*time.Second))
	got, _ := runMerge(t, bkt, dedup.Penalty, a, b)
	for name, s := range got.samples(t) {
		require.InDelta(t, 120, len(s), 6, name)
	}
}

func TestDeletedSamplesAreLeftOut(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	s := spec(0, 6*time.Hour)
	a := blocktest.Upload(t, bkt, s)
	in := open(t, bkt, a)
	// Which series is which is told by its reference.
	refs := seriesRefs(t, bkt, a)
	stones := tombstones.NewMemTombstones()
	cutName := labels.FromStrings("__name__", blocktest.FloatMetric, "series", "1").String()
	goneName := labels.FromStrings("__name__", blocktest.HistogramMetric, "series", "0").String()
	from, to := s.MinTime+hour(1), s.MinTime+hour(4)
	stones.AddInterval(refs[cutName], tombstones.Interval{Mint: from, Maxt: to})
	stones.AddInterval(refs[goneName], tombstones.Interval{Mint: math.MinInt64, Maxt: math.MaxInt64})
	in[0].Tombstones = stones
	out := newCollector()
	_, err := Run(t.Context(), in, map[int64]Output{0: out}, Options{Dedup: dedup.Chain})
	require.NoError(t, err)
	w := want(s)
	delete(w, goneName)
	for at := range w[cutName] {
		if at >= from && at <= to {
			delete(w[cutName], at)
		}
	}
	require.Equal(t, w, out.samples(t))
}

func hour(n int64) int64 { return n * time.Hour.Milliseconds() }

func seriesRefs(t *testing.T, bkt objstore.Bucket, m *block.Meta) map[string]storage.SeriesRef {
	t.Helper()
	src, err := read.Open(t.Context(), bkt, m, read.DefaultOptions())
	require.NoError(t, err)
	defer src.Close()
	var symbols []string
	require.NoError(t, src.Symbols(t.Context(), func(_ uint32, s string) error { symbols = append(symbols, s); return nil }))
	out := map[string]storage.SeriesRef{}
	var s read.Series
	for src.Next(t.Context(), &s) == nil {
		b := labels.NewScratchBuilder(4)
		for i := 0; i < len(s.Labels); i += 2 {
			b.Add(symbols[s.Labels[i]], symbols[s.Labels[i+1]])
		}
		out[b.Labels().String()] = storage.SeriesRef(s.Ref)
	}
	require.Len(t, out, 6)
	return out
}

// TestDownsamplingInPassingEqualsDownsamplingAfterwards compares the chunks of one pass with
// those that the merged block gives when it is downsampled on its own.
func TestDownsamplingInPassingEqualsDownsamplingAfterwards(t *testing.T) {
	t.Parallel()
	for _, fn := range []dedup.Func{dedup.Chain, dedup.Penalty, dedup.Exact} {
		bkt := objstore.NewInMemBucket()
		in := open(t, bkt,
			blocktest.Upload(t, bkt, spec(0, 20*time.Hour)),
			blocktest.Upload(t, bkt, spec(10*time.Second, 12*time.Hour)),
			blocktest.Upload(t, bkt, spec(20*time.Hour, 45*time.Hour)))
		own, fine, hour := newCollector(), newCollector(), newCollector()
		_, err := Run(t.Context(), in, map[int64]Output{0: own, block.Resolution5m: fine, block.Resolution1h: hour}, Options{Dedup: fn})
		require.NoError(t, err)
		own.samples(t) // checks the chunks
		for name, cs := range own.series {
			var raw []chunks.AggrChunk
			for _, c := range cs {
				raw = append(raw, chunks.AggrChunk{MinTime: c.MinTime, MaxTime: c.MaxTime, Raw: chunks.Chunk{Encoding: c.Encoding, Data: c.Bytes}})
			}
			var d downsample.Downsampler
			f, err := d.Raw(downsample.NewIterator(raw, rawOnly), block.Resolution5m)
			require.NoError(t, err)
			requireChunks(t, f, fine.series[name])
			h, err := d.Aggregated(f, block.Resolution5m, block.Resolution1h)
			require.NoError(t, err)
			requireChunks(t, h, hour.series[name])
		}
	}
}

func requireChunks(t *testing.T, want []chunks.AggrChunk, got []Chunk) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		data, err := downsample.AppendAggr(nil, want[i].Aggr)
		require.NoError(t, err)
		require.Equal(t, downsample.Encoding, got[i].Encoding)
		require.Equal(t, data, got[i].Bytes)
		require.Equal(t, want[i].MinTime, got[i].MinTime)
		require.Equal(t, want[i].MaxTime, got[i].MaxTime)
		require.Positive(t, got[i].Samples)
	}
}

func TestOverlappingAggregatesKeepWindowsAndCounterEnds(t *testing.T) {
	t.Parallel()
	make5m := func(from, to int64, scale float64) piece {
		var d downsample.Downsampler
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		// The last sample lies on the end of its window.
		for at := from + 59_999; at < to; at += 60_000 {
			app.Append(at, scale*float64(at/60_000))
		}
		out, err := d.Raw(c.Iterator(nil), block.Resolution5m)
		require.NoError(t, err)
		require.Len(t, out, 1)
		data, err := downsample.AppendAggr(nil, out[0].Aggr)
		require.NoError(t, err)
		return piece{mint: out[0].MinTime, maxt: out[0].MaxTime, enc: downsample.Encoding, data: data}
	}
	a, b := make5m(0, hour(2), 1), make5m(hour(1), hour(3), 1)
	all, err := (&series{fn: dedup.Chain}).overlappingAggregates([]piece{a, b}, block.Resolution5m)
	require.NoError(t, err)
	require.Len(t, all, 1)
	got := all[0]
	require.Equal(t, a.mint, got.MinTime)
	require.Equal(t, b.maxt, got.MaxTime)
	it := downsample.NewIterator([]chunks.AggrChunk{got}, []chunks.Aggr{chunks.Count})
	windows := 0
	for it.Next() != chunkenc.ValNone {
		_, v := it.At()
		require.InDelta(t, 5, v, 0)
		windows++
	}
	require.NoError(t, it.Err())
	require.Equal(t, 36, windows)
	c := downsample.NewCounterSeries([]chunks.AggrChunk{got})
	for c.Next() != chunkenc.ValNone {
	}
	last, ok := c.Last()
	require.True(t, ok)
	require.InDelta(t, 179, last, 0, "the true last raw value")
}

func TestOverlappingAggregatesOfHistogramsAreMerged(t *testing.T) {
	t.Parallel()
	make5m := func(from, to int64) piece {
		var d downsample.Downsampler
		c := chunkenc.NewHistogramChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for at := from + 59_999; at < to; at += 60_000 {
			_, _, app, err = app.AppendHistogram(nil, at, blocktest.HistogramValue(0, at), false)
			require.NoError(t, err)
		}
		out, err := d.Raw(c.Iterator(nil), block.Resolution5m)
		require.NoError(t, err)
		require.Len(t, out, 1)
		data, err := downsample.AppendAggr(nil, out[0].Aggr)
		require.NoError(t, err)
		return piece{mint: out[0].MinTime, maxt: out[0].MaxTime, enc: downsample.Encoding, data: data}
	}
	all := make5m(0, hour(3))
	whole, err := all.aggregates()
	require.NoError(t, err)
	text := func(cs []chunks.AggrChunk, a chunks.Aggr) (out []string) {
		it := downsample.NewIterator(cs, []chunks.Aggr{a})
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				at, v := it.At()
				out = append(out, fmt.Sprint(at, " ", v))
				continue
			}
			at, h := it.AtFloatHistogram(nil)
			out = append(out, fmt.Sprint(at, " ", h))
		}
		require.NoError(t, it.Err())
		return out
	}
	for _, fn := range []dedup.Func{dedup.Chain, dedup.Penalty, dedup.Exact} {
		s := &series{fn: fn}
		got, err := s.overlappingAggregates([]piece{make5m(0, hour(2)), make5m(hour(1), hour(3))}, block.Resolution5m)
		require.NoError(t, err)
		for a, windows := range map[chunks.Aggr]int{chunks.Count: 36, chunks.Sum: 36, chunks.Counter: 37} {
			have, want := text(got, a), text([]chunks.AggrChunk{whole}, a)
			if fn == dedup.Penalty {
				// It notices that a replica has ended only after two windows.
				windows -= 2
				require.Subset(t, want, have, a)
			} else {
				require.Subset(t, have, want, a)
			}
			require.Len(t, have, windows, "%s %s", fn, a)
		}
		floats, err := s.overlappingAggregates([]piece{make5m(0, hour(2)), {mint: 1, maxt: 2, enc: chunkenc.EncXOR, data: []byte{0, 0, 0}}}, block.Resolution5m)
		require.ErrorIs(t, err, block.ErrCorrupt)
		require.Empty(t, floats)
	}
}

func TestBrokenChunkNamesItsBlockAndSalvageGoesOn(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	dir := t.TempDir()
	m := blocktest.Create(t, dir, spec(0, 2*time.Hour))
	m = blocktest.UploadDir(t, bkt, filepath.Join(dir, m.ULID.String()))
	name := block.ObjectName(m.ULID, "chunks/000001")
	content := bytes.Clone(bkt.Objects()[name])
	content[40] ^= 1
	require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(content)))

	_, err := Run(t.Context(), open(t, bkt, m), map[int64]Output{0: newCollector()}, Options{Dedup: dedup.Chain})
	c, ok := read.AsCorrupt(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, m.ULID, c.Block)
	require.Equal(t, "chunks/000001", c.Object)

	loss, out := &Loss{}, newCollector()
	_, err = Run(t.Context(), open(t, bkt, m), map[int64]Output{0: out}, Options{Dedup: dedup.Chain, Salvage: loss})
	require.NoError(t, err)
	require.Equal(t, 1, loss.Chunks)
	require.Equal(t, 1, loss.Series)
	require.True(t, loss.Any())
	require.Len(t, loss.Details, 1)
	total := 0
	for _, s := range out.samples(t) {
		total += len(s)
	}
	require.Equal(t, 6*120-120, total)
}
