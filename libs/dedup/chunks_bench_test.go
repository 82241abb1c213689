package dedup

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// BenchmarkMergeChunks reads a day at 15 s from the chunks of an HA pair, second replica 7 s later.
func BenchmarkMergeChunks(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	day := counterProcess(rnd, sceneStart, 24*3600, 50_000)
	gauge := gaugeProcess(rnd, sceneStart, 24*3600)
	pair := func(p *process, loss float64, gaps bool, phase int64) []chunks.AggrChunk {
		r0 := &scraper{interval: 15000, loss: loss}
		r1 := &scraper{interval: 15000, phase: phase, loss: loss}
		for i := int64(0); gaps && i < 6; i++ {
			r0.gaps = append(r0.gaps, missed(2*i))
			r1.gaps = append(r1.gaps, missed(2*i+1))
		}
		return join(encode(b, r0.scrape(rnd, p), 120), encode(b, r1.scrape(rnd, p), 120))
	}
	list := (&scraper{interval: 15000}).scrape(rnd, day)
	hist := join(encodeHistograms(b, 5760, 0), encodeHistograms(b, 5760, 7000))
	for _, in := range []struct {
		name string
		chks []chunks.AggrChunk
	}{
		{"counter/whole", pair(day, 0, false, 7000)},
		{"counter/identical", pair(day, 0, false, 0)},
		{"counter/copies", join(encode(b, list, 120), encode(b, list, 100))},
		{"counter/gaps", pair(day, 0, true, 7000)},
		{"counter/lossy", pair(day, 0.1, false, 7000)},
		{"gauge/whole", pair(gauge, 0, false, 7000)},
		{"gauge/lossy", pair(gauge, 0.1, false, 7000)},
		{"histogram/whole", hist},
	} {
		for _, fn := range Funcs() {
			b.Run(fmt.Sprintf("%s/%s", in.name, fn), func(b *testing.B) {
				var m Merger
				samples := 0
				var h *histogram.Histogram
				b.ReportAllocs()
				for b.Loop() {
					it := m.MergeChunks(Func(fn), in.chks, onlyRaw, Options{Counter: true})
					for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
						if typ == chunkenc.ValHistogram {
							if h == nil {
								h = new(histogram.Histogram)
							}
							_, h = it.AtHistogram(h)
						} else {
							_, _ = it.At()
						}
						samples++
					}
					if it.Err() != nil {
						b.Fatal(it.Err())
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
				b.ReportMetric(float64(samples)/float64(b.N), "samples/op")
			})
		}
	}
}

// BenchmarkSeek jumps through the same day by the hour.
func BenchmarkSeek(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	day := counterProcess(rnd, sceneStart, 24*3600, 50_000)
	for _, loss := range []float64{0, 0.1} {
		var chks []chunks.AggrChunk
		for _, phase := range []int64{0, 7000} {
			chks = append(chks, encode(b, (&scraper{interval: 15000, phase: phase, loss: loss}).scrape(rnd, day), 120)...)
		}
		chks = chunks.SortUnique(chks)
		for _, fn := range Funcs() {
			b.Run(fmt.Sprintf("loss=%v/%s", loss, fn), func(b *testing.B) {
				var m Merger
				b.ReportAllocs()
				for b.Loop() {
					it := m.MergeChunks(Func(fn), chks, onlyRaw, Options{Counter: true})
					for at := int64(sceneStart); it.Seek(at) != chunkenc.ValNone; at += 3_600_000 {
					}
					if it.Err() != nil {
						b.Fatal(it.Err())
					}
				}
			})
		}
	}
}

// missed is ten minutes in the middle of the n-th two hours.
func missed(n int64) [2]int64 {
	from := sceneStart + n*2*3600*1000 + 3600*1000
	return [2]int64{from, from + 600_000}
}
