package downsample

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

const benchSamples = 48 * 120 // a day at 15 s

func benchSeries(b *testing.B) []chunks.AggrChunk {
	b.Helper()
	var out []chunks.AggrChunk
	for i := 0; i < benchSamples; i += 120 {
		var s [][2]float64
		for j := i; j < i+120; j++ {
			s = append(s, [2]float64{float64(j) * 15000, float64(j * 7)})
		}
		c := chunkOf(b, s...)
		out = append(out, chunks.AggrChunk{MinTime: int64(i) * 15000, MaxTime: int64(i+119) * 15000, Raw: c})
	}
	return out
}

// BenchmarkRead reads raw chunks of 120 samples.
func BenchmarkRead(b *testing.B) {
	chks := benchSeries(b)
	for _, aggrs := range [][]chunks.Aggr{{chunks.Raw}, {chunks.Counter}} {
		b.Run(fmt.Sprintf("%v", aggrs), func(b *testing.B) {
			var r Reader
			var bound BoundedIterator
			b.ReportAllocs()
			for range b.N {
				bound.Reset(r.Iterator(chks, aggrs), 0, benchSamples*15000)
				n := 0
				for bound.Next() != chunkenc.ValNone {
					_, _ = bound.At()
					n++
				}
				if n != benchSamples || bound.Err() != nil {
					b.Fatal(n, bound.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchSamples), "ns/sample")
		})
	}
}

// BenchmarkWrite downsamples the same series, per raw sample.
func BenchmarkWrite(b *testing.B) {
	chks := benchSeries(b)
	var d Downsampler
	var r Reader
	fine, err := d.Raw(r.Iterator(chks, []chunks.Aggr{chunks.Raw}), Resolution5m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("5m", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := d.Raw(r.Iterator(chks, []chunks.Aggr{chunks.Raw}), Resolution5m); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchSamples), "ns/sample")
	})
	b.Run("1h", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := d.Aggregated(fine, Resolution5m, Resolution1h); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchSamples), "ns/sample")
	})
}
