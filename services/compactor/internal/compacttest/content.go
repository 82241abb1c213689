// Package compacttest reads blocks with the TSDB's own reader and compares them, for tests.
package compacttest

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
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
	out := map[string][]chunks.AggrChunk{}
	eachSeries(tb, dir, func(lset labels.Labels, chks []chunks.AggrChunk) { out[lset.String()] = chks })
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

// recoded returns chunks of aggregates with their floats written by the TSDB, so that chunks of
// the same samples are equal byte for byte, whoever wrote them.
func recoded(tb testing.TB, cs []chunks.AggrChunk) []chunks.AggrChunk {
	tb.Helper()
	out := slices.Clone(cs)
	for i := range out {
		out[i].Aggr = new(*cs[i].Aggr)
		for a := range out[i].Aggr {
			part := &out[i].Aggr[a]
			if part.Encoding != chunkenc.EncXOR {
				continue
			}
			c, again := chunkenc.NewXORChunk(), chunkenc.NewXORChunk()
			c.Reset(part.Data)
			app, err := again.Appender()
			require.NoError(tb, err)
			it := c.Iterator(nil)
			for it.Next() != chunkenc.ValNone {
				app.Append(it.At())
			}
			require.NoError(tb, it.Err())
			part.Data = again.Bytes()
		}
	}
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
			require.Equal(tb, recoded(tb, wc), recoded(tb, gc), "chunks of series %s of %s", name, want)
		}
	}
}
