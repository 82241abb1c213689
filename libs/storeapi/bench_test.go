package storeapi

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// benchSeries is n series with eight labels and chunksEach chunks of 270 bytes.
func benchSeries(n, chunksEach int, replica string) []Series {
	out := make([]Series, n)
	data := bytes.Repeat([]byte(replica+"23456789"), 30)
	for i := range out {
		out[i].Labels = labels.FromStrings("__name__", "http_requests_total", "cluster", "eu1", "code", "200",
			"instance", fmt.Sprintf("10.0.%03d.%03d:9090", i/250, i%250), "job", "app-7", "method", "GET",
			"namespace", "default", "pod", fmt.Sprintf("app-7-%08d", i))
		for c := range chunksEach {
			out[i].Chunks = append(out[i].Chunks, chunks.AggrChunk{
				MinTime: 1_763_632_800_000 + int64(c)*1_800_000, MaxTime: 1_763_632_800_000 + int64(c+1)*1_800_000 - 1,
				Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: data, Hash: 42},
			})
		}
	}
	return out
}

var benchSizes = []struct{ series, chunks int }{{1000, 0}, {1000, 8}}

// BenchmarkWrite encodes into frames; the bytes are the frames' content.
func BenchmarkWrite(b *testing.B) {
	for _, size := range benchSizes {
		series := benchSeries(size.series, size.chunks, "a")
		for _, batch := range []int64{1, 64} {
			b.Run(fmt.Sprintf("chunks=%d/batch=%d", size.chunks, batch), func(b *testing.B) {
				b.ReportAllocs()
				var n int64
				for b.Loop() {
					w := newWriter(func(f *outFrame) error {
						n += int64(len(f.view))
						f.Put(nil)
						return nil
					}, WriterOptions{BatchSize: batch})
					for i := range series {
						if err := w.Series(series[i].Labels, series[i].Chunks); err != nil {
							b.Fatal(err)
						}
					}
					if err := w.Flush(); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(n / int64(b.N))
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size.series), "ns/series")
			})
		}
	}
}

// BenchmarkDecode decodes frames of 64 series.
func BenchmarkDecode(b *testing.B) {
	for _, size := range benchSizes {
		w, frames := capture(WriterOptions{BatchSize: 64})
		for _, s := range benchSeries(size.series, size.chunks, "a") {
			if err := w.Series(s.Labels, s.Chunks); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("chunks=%d", size.chunks), func(b *testing.B) {
			b.ReportAllocs()
			var d Decoder
			var n int64
			for b.Loop() {
				for _, f := range *frames {
					n += int64(len(f))
					if _, err := d.Decode(f); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.SetBytes(n / int64(b.N))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size.series), "ns/series")
		})
	}
}

// BenchmarkMerge merges streams in memory: the same series from all (replicas, with
// the same or other chunks), or each stream with its own.
func BenchmarkMerge(b *testing.B) {
	const n = 1000
	for _, k := range []int{1, 2, 8, 64} {
		for _, kind := range []string{"own", "same", "replicas"} {
			var in [][]Series
			total := 0
			for i := range k {
				s := benchSeries(n, 4, map[bool]string{true: fmt.Sprint(i % 10), false: "a"}[kind == "replicas"])
				if kind == "own" {
					for j := range s {
						lb := labels.NewBuilder(s[j].Labels)
						s[j].Labels = lb.Set("zone", fmt.Sprintf("%02d", i)).Labels()
					}
				}
				total += len(s)
				in = append(in, s)
			}
			b.Run(fmt.Sprintf("streams=%d/%s", k, kind), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					streams := make([]Stream, k)
					for i := range in {
						streams[i] = NewSliceStream(in[i], nil, nil)
					}
					m := Merge(streams, MergeOptions{})
					for m.Next() {
					}
					if m.Err() != nil {
						b.Fatal(m.Err())
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*total), "ns/series")
			})
		}
	}
}

// BenchmarkOrder passes sorted series through an Orderer.
func BenchmarkOrder(b *testing.B) {
	series := benchSeries(1000, 0, "a")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		o := NewOrderer(func(labels.Labels, int) error { n++; return nil })
		for i := range series {
			if err := o.Add(series[i].Labels, i); err != nil {
				b.Fatal(err)
			}
		}
		if err := o.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(series)), "ns/series")
}
