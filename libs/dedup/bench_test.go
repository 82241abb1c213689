package dedup

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// BenchmarkMerge reads a day at 15 s from XOR chunks of 120 samples, per replica.
func BenchmarkMerge(b *testing.B) {
	const perReplica = 48 * 120
	for _, fn := range []Func{Penalty, Chain} {
		for _, counter := range []bool{false, true} {
			for n := 1; n <= 3; n++ {
				if fn == Chain && counter {
					continue
				}
				b.Run(fmt.Sprintf("%s/counter=%v/replicas=%d", fn, counter, n), func(b *testing.B) {
					lists := make([][]*chunkenc.XORChunk, n)
					for r := range lists {
						lists[r] = benchChunks(b, perReplica, int64(r)*7000)
					}
					var m Merger
					seqs := make([]xorSequence, n)
					its := make([]chunkenc.Iterator, n)
					samples := 0
					b.ReportAllocs()
					b.ResetTimer()
					for range b.N {
						for r := range lists {
							seqs[r].reset(lists[r])
							its[r] = &seqs[r]
						}
						it := m.Merge(fn, its, Options{Counter: counter})
						for it.Next() != chunkenc.ValNone {
							_, _ = it.At()
							samples++
						}
						if it.Err() != nil {
							b.Fatal(it.Err())
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n*perReplica), "ns/input")
				})
			}
		}
	}
}

func benchChunks(b *testing.B, samples int, phase int64) []*chunkenc.XORChunk {
	b.Helper()
	var out []*chunkenc.XORChunk
	for i := 0; i < samples; i += 120 {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			b.Fatal(err)
		}
		for j := i; j < i+120; j++ {
			app.Append(int64(j)*15000+phase, float64(j*7))
		}
		out = append(out, c)
	}
	return out
}

// xorSequence is the plainest iterator over chunks, with memory used again.
type xorSequence struct {
	chunkenc.Iterator
	chks []*chunkenc.XORChunk
}

func (s *xorSequence) reset(chks []*chunkenc.XORChunk) {
	s.Iterator = chks[0].Iterator(s.Iterator)
	s.chks = chks[1:]
}

func (s *xorSequence) Next() chunkenc.ValueType {
	for {
		if typ := s.Iterator.Next(); typ != chunkenc.ValNone || len(s.chks) == 0 {
			return typ
		}
		s.reset(s.chks)
	}
}

func (s *xorSequence) Seek(t int64) chunkenc.ValueType {
	for {
		if typ := s.Iterator.Seek(t); typ != chunkenc.ValNone || len(s.chks) == 0 {
			return typ
		}
		s.reset(s.chks)
	}
}
