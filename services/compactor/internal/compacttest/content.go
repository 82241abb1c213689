// Package compacttest reads blocks with the TSDB's own reader and compares them, for tests.
package compacttest

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	tsdbchunks "github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
)

// ByRange keys blocks by what they cover.
func ByRange(bs []*plan.Block) map[string]*block.Meta {
	out := map[string]*block.Meta{}
	for _, b := range bs {
		m := b.Meta
		out[fmt.Sprintf("%d-%d@%d", m.MinTime, m.MaxTime, m.Thanos.Downsample.Resolution)] = m
	}
	return out
}

// Content is a block's series, read by the TSDB's own reader.
func Content(tb testing.TB, bkt objstore.Bucket, m *block.Meta) map[string][]chunks.AggrChunk {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), m.ULID.String())
	_, err := block.Download(tb.Context(), bkt, m.ULID, dir, block.DownloadOptions{})
	require.NoError(tb, err)
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
	out := map[string][]chunks.AggrChunk{}
	var lb labels.ScratchBuilder
	var metas []tsdbchunks.Meta
	for ps.Next() {
		require.NoError(tb, ir.Series(ps.At(), &lb, &metas))
		name := lb.Labels().String()
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
			out[name] = append(out[name], ac)
		}
	}
	require.NoError(tb, ps.Err())
	return out
}

// Point is a sample; the value as text.
type Point struct {
	T int64
	V string
}

// Points reads one aggregate of a series; histograms as text.
func Points(tb testing.TB, cs []chunks.AggrChunk, a chunks.Aggr) []Point {
	tb.Helper()
	it := downsample.NewIterator(cs, []chunks.Aggr{a})
	var out []Point
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			t, v := it.At()
			out = append(out, Point{t, fmt.Sprint(v)})
			continue
		}
		t, h := it.AtFloatHistogram(nil)
		out = append(out, Point{t, h.String()})
	}
	require.NoError(tb, it.Err())
	return out
}

// RequireSameContent compares two blocks series by series and sample by sample.
func RequireSameContent(tb testing.TB, wantBkt objstore.Bucket, want *block.Meta, gotBkt objstore.Bucket, got *block.Meta) {
	tb.Helper()
	w, g := Content(tb, wantBkt, want), Content(tb, gotBkt, got)
	require.Len(tb, g, len(w))
	aggrs := []chunks.Aggr{chunks.Raw}
	if want.Thanos.Downsample.Resolution > 0 {
		aggrs = []chunks.Aggr{chunks.Count, chunks.Sum, chunks.Min, chunks.Max, chunks.Counter}
	}
	for name, wc := range w {
		gc, ok := g[name]
		require.True(tb, ok, "series %s is missing", name)
		for _, a := range aggrs {
			require.Equal(tb, Points(tb, wc, a), Points(tb, gc, a), "series %s %s of %s", name, a, want)
		}
		if want.Thanos.Downsample.Resolution > 0 {
			require.Equal(tb, wc, gc, "chunks of series %s of %s", name, want)
		}
	}
}
