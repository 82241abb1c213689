package selects_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// inMemory answers with merged slices, so that what is measured is reading, not the wire.
type inMemory struct {
	source
	replicas [][]storeapi.Series
}

func (m inMemory) Series(context.Context, *thanos.SeriesRequest, []*labels.Matcher, fanout.Options) (storeapi.Stream, error) {
	var streams []storeapi.Stream
	for _, r := range m.replicas {
		streams = append(streams, storeapi.NewSliceStream(r, nil, nil))
	}
	return storeapi.Merge(streams, storeapi.MergeOptions{}), nil
}

// BenchmarkSelect reads series of ten chunks of 120 samples each, of one replica or a pair.
func BenchmarkSelect(b *testing.B) {
	const numSeries, numChunks, perChunk = 500, 10, 120
	for _, replicas := range []int{1, 2} {
		b.Run(fmt.Sprintf("replicas=%d", replicas), func(b *testing.B) {
			m := inMemory{}
			for r := range replicas {
				var list []storeapi.Series
				for i := range numSeries {
					var lists [][]fakepeer.Sample
					for c := range numChunks {
						lists = append(lists, fakepeer.Ramp(int64(c*perChunk)*15_000+int64(r)*7_000, 15_000, perChunk, float64(c*perChunk)))
					}
					list = append(list, fakepeer.Series(b, labels.FromStrings("__name__", "up", "i", fmt.Sprintf("%04d", i)), lists...))
				}
				m.replicas = append(m.replicas, list)
			}
			c := selects.New(m, selects.Config{}, nil)
			b.ReportAllocs()
			samples := 0
			for b.Loop() {
				q, err := c.Queryable(selects.Options{Dedup: true, ReplicaLabels: []string{"replica"}}).Querier(0, 1<<50)
				require.NoError(b, err)
				set := q.Select(b.Context(), false, nil, up)
				var it chunkenc.Iterator
				for set.Next() {
					it = set.At().Iterator(it)
					for it.Next() != chunkenc.ValNone {
						samples++
					}
				}
				require.NoError(b, set.Err())
				require.NoError(b, q.Close())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
			b.ReportMetric(float64(samples)/float64(b.N)/numSeries, "samples/series")
		})
	}
}
