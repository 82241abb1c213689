package httpapi_test

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	tsdbchunks "github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// bucketBlock is a block in memory.
type bucketBlock struct {
	mint, maxt, resolution int64 // maxt exclusive
	external               labels.Labels
	series                 []storeapi.Series // sorted, own labels only
}

// bucket is a store over blocks in memory: as simple as can be, and with nothing but what the tests need.
type bucket []bucketBlock

var _ storeapi.Store = bucket(nil)

func readBucket(t testing.TB, dir string) bucket {
	t.Helper()
	metas, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	require.NoError(t, err)
	require.NotEmpty(t, metas)
	var out bucket
	for _, path := range metas {
		out = append(out, readBlock(t, filepath.Dir(path)))
	}
	return out
}

func readBlock(t testing.TB, dir string) bucketBlock {
	t.Helper()
	meta, err := block.ReadMetaDir(dir)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "tombstones")))
	b, err := tsdb.OpenBlock(nil, dir, downsample.NewPool(), nil)
	require.NoError(t, err)
	defer b.Close()
	ir, err := b.Index()
	require.NoError(t, err)
	defer ir.Close()
	cr, err := b.Chunks()
	require.NoError(t, err)
	defer cr.Close()
	name, value := index.AllPostingsKey()
	all, err := ir.Postings(t.Context(), name, value)
	require.NoError(t, err)
	out := bucketBlock{
		mint: meta.MinTime, maxt: meta.MaxTime, resolution: meta.Thanos.Downsample.Resolution,
		external: labels.FromMap(meta.Thanos.Labels),
	}
	var builder labels.ScratchBuilder
	var metas []tsdbchunks.Meta
	for all.Next() {
		require.NoError(t, ir.Series(all.At(), &builder, &metas))
		s := storeapi.Series{Labels: builder.Labels().Copy()}
		for _, m := range metas {
			c, _, err := cr.ChunkOrIterable(m)
			require.NoError(t, err)
			agg := chunks.AggrChunk{MinTime: m.MinTime, MaxTime: m.MaxTime}
			if d, ok := c.(*downsample.Chunk); ok {
				parts, err := d.Aggr()
				require.NoError(t, err)
				for i := range parts {
					parts[i].Data = slices.Clone(parts[i].Data)
				}
				agg.Aggr = &parts
			} else {
				agg.Raw = chunks.Chunk{Encoding: c.Encoding(), Data: slices.Clone(c.Bytes())}
			}
			s.Chunks = append(s.Chunks, agg)
		}
		out.series = append(out.series, s)
	}
	require.NoError(t, all.Err())
	return out
}

// choose returns the blocks of [mint, maxt]: of each label set the coarsest allowed, gaps filled by finer ones.
func (b bucket) choose(mint, maxt, maxResolution int64) []bucketBlock {
	sorted := slices.DeleteFunc(slices.Clone(b), func(k bucketBlock) bool {
		return k.resolution > maxResolution || k.maxt <= mint || k.mint > maxt
	})
	slices.SortStableFunc(sorted, func(x, y bucketBlock) int { return -cmp.Compare(x.resolution, y.resolution) })
	var out []bucketBlock
	for _, k := range sorted {
		if !slices.ContainsFunc(out, func(o bucketBlock) bool {
			return o.resolution > k.resolution && labels.Equal(o.external, k.external) && o.mint < k.maxt && k.mint < o.maxt
		}) {
			out = append(out, k)
		}
	}
	return out
}

func (b bucket) matching(req *thanos.SeriesRequest, ms []*labels.Matcher) storeapi.Stream {
	var streams []storeapi.Stream
	for _, k := range b.choose(req.GetMinTime(), req.GetMaxTime(), req.GetMaxResolutionWindow()) {
		rest, ok := storeapi.MatchExternal(k.external, ms)
		if !ok {
			continue
		}
		ext := storeapi.NewExtender(k.external, req.GetWithoutReplicaLabels())
		var found []storeapi.Series
		for _, s := range k.series {
			if slices.ContainsFunc(rest, func(m *labels.Matcher) bool { return !m.Matches(s.Labels.Get(m.Name)) }) {
				continue
			}
			chks := slices.DeleteFunc(slices.Clone(s.Chunks), func(c chunks.AggrChunk) bool {
				return c.MaxTime < req.GetMinTime() || c.MinTime > req.GetMaxTime()
			})
			if len(chks) == 0 {
				continue
			}
			if req.GetSkipChunks() {
				chks = nil
			}
			found = append(found, storeapi.Series{Labels: ext.Extend(s.Labels), Chunks: chks})
		}
		slices.SortFunc(found, func(x, y storeapi.Series) int { return labels.Compare(x.Labels, y.Labels) })
		streams = append(streams, storeapi.NewSliceStream(found, nil, nil))
	}
	return storeapi.Merge(streams, storeapi.MergeOptions{})
}

// Series implements storeapi.Store.
func (b bucket) Series(_ context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	stream := b.matching(req, ms)
	defer stream.Close()
	for stream.Next() {
		if err := w.Series(stream.At().Labels, stream.At().Chunks); err != nil {
			return err
		}
	}
	return stream.Err()
}

func (b bucket) labels(mint, maxt int64, ms []*labels.Matcher, pick func(labels.Label) string) []string {
	var out []string
	stream := b.matching(&thanos.SeriesRequest{MinTime: mint, MaxTime: maxt, SkipChunks: true}, ms)
	defer stream.Close()
	for stream.Next() {
		stream.At().Labels.Range(func(l labels.Label) {
			if v := pick(l); v != "" {
				out = append(out, v)
			}
		})
	}
	return storeapi.Union(out)
}

// LabelNames implements storeapi.Store.
func (b bucket) LabelNames(_ context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	return &thanos.LabelNamesResponse{
		Names: b.labels(req.GetStart(), req.GetEnd(), ms, func(l labels.Label) string { return l.Name }),
	}, nil
}

// LabelValues implements storeapi.Store.
func (b bucket) LabelValues(_ context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	return &thanos.LabelValuesResponse{Values: b.labels(req.GetStart(), req.GetEnd(), ms, func(l labels.Label) string {
		if l.Name == req.GetLabel() {
			return l.Value
		}
		return ""
	})}, nil
}
