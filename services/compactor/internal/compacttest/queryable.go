package compacttest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	tsdbchunks "github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
)

// Queryable answers PromQL queries from blocks as a querier does: replica labels are dropped, and
// what is then one series is merged by fn. Everything is in memory.
type Queryable struct {
	fn     dedup.Func
	series []memSeries
}

type memSeries struct {
	lset labels.Labels
	chks []chunks.AggrChunk
}

// NewQueryable reads the blocks of one resolution in the local folders dirs.
func NewQueryable(tb testing.TB, fn dedup.Func, replicaLabels []string, dirs ...string) *Queryable {
	tb.Helper()
	byName := map[string]*memSeries{}
	for _, dir := range dirs {
		m, err := block.ReadMetaDir(dir)
		require.NoError(tb, err)
		eachSeries(tb, dir, func(lset labels.Labels, chks []chunks.AggrChunk) {
			b := labels.NewBuilder(lset)
			m.ExternalLabels().Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
			full := b.Del(replicaLabels...).Labels()
			key := full.String()
			if byName[key] == nil {
				byName[key] = &memSeries{lset: full}
			}
			byName[key].chks = append(byName[key].chks, chks...)
		})
	}
	q := &Queryable{fn: fn}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s := byName[name]
		s.chks = chunks.SortUnique(s.chks)
		q.series = append(q.series, *s)
	}
	slices.SortFunc(q.series, func(a, b memSeries) int { return labels.Compare(a.lset, b.lset) })
	return q
}

// eachSeries reads a block with the TSDB's own reader.
func eachSeries(tb testing.TB, dir string, f func(labels.Labels, []chunks.AggrChunk)) {
	tb.Helper()
	b, err := tsdb.OpenBlock(nil, dir, downsample.NewPool(), nil)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, b.Close()) }()
	ir, err := b.Index()
	require.NoError(tb, err)
	defer func() { require.NoError(tb, ir.Close()) }()
	cr, err := b.Chunks()
	require.NoError(tb, err)
	defer func() { require.NoError(tb, cr.Close()) }()
	n, v := index.AllPostingsKey()
	ps, err := ir.Postings(tb.Context(), n, v)
	require.NoError(tb, err)
	var lb labels.ScratchBuilder
	var metas []tsdbchunks.Meta
	for ps.Next() {
		require.NoError(tb, ir.Series(ps.At(), &lb, &metas))
		var out []chunks.AggrChunk
		for _, cm := range metas {
			c, it, err := cr.ChunkOrIterable(cm)
			require.NoError(tb, err)
			require.Nil(tb, it)
			ac := chunks.AggrChunk{MinTime: cm.MinTime, MaxTime: cm.MaxTime}
			data := append([]byte(nil), c.Bytes()...)
			if c.Encoding() == downsample.Encoding {
				parts, err := downsample.DecodeAggr(data)
				require.NoError(tb, err)
				ac.Aggr = &parts
			} else {
				ac.Raw = chunks.Chunk{Encoding: c.Encoding(), Data: data}
			}
			out = append(out, ac)
		}
		f(lb.Labels(), out)
	}
	require.NoError(tb, ps.Err())
}

// Querier implements storage.Queryable.
func (q *Queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return &memQuerier{q: q, mint: mint, maxt: maxt}, nil
}

type memQuerier struct {
	storage.LabelQuerier // of no use to the engine

	q          *Queryable
	mint, maxt int64
}

// Close implements storage.Querier.
func (*memQuerier) Close() error { return nil }

// Select implements storage.Querier.
func (m *memQuerier) Select(_ context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := &memSet{at: -1, mint: m.mint, maxt: m.maxt, fn: m.q.fn}
	if hints != nil {
		set.aggrs = downsample.AggregatesFor(hints.Func)
		set.opts = dedup.Options{Counter: dedup.AdjustsCounter(hints.Func), TrueValues: hints.Func == "resets"}
	}
	for _, s := range m.q.series {
		if !slices.ContainsFunc(ms, func(mt *labels.Matcher) bool { return !mt.Matches(s.lset.Get(mt.Name)) }) {
			set.series = append(set.series, s)
		}
	}
	return set
}

type memSet struct {
	series     []memSeries
	at         int
	mint, maxt int64
	fn         dedup.Func
	aggrs      []chunks.Aggr
	opts       dedup.Options
}

// Next implements storage.SeriesSet.
func (s *memSet) Next() bool { s.at++; return s.at < len(s.series) }

// At implements storage.SeriesSet.
func (s *memSet) At() storage.Series {
	cur := s.series[s.at]
	return &storage.SeriesEntry{Lset: cur.lset, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return downsample.NewBoundedIterator(dedup.MergeChunks(s.fn, cur.chks, s.aggrs, s.opts), s.mint, s.maxt)
	}}
}

// Err implements storage.SeriesSet.
func (*memSet) Err() error { return nil }

// Warnings implements storage.SeriesSet.
func (*memSet) Warnings() annotations.Annotations { return nil }
