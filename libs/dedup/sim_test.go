package dedup

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

// The simulator: one true process, and replicas that look at it.

type fsample struct {
	t int64
	v float64
}

// process is a value at each true time, in steps of a second.
type process struct {
	start  int64
	values []float64
	resets []int64 // times at which a counter began anew
}

func (p *process) at(t int64) float64 {
	i := (t - p.start) / 1000
	return p.values[max(0, min(i, int64(len(p.values)-1)))]
}

// between returns what a counter grew by in (from, to], resets evened out.
func (p *process) between(from, to int64) float64 {
	sum := p.at(to) - p.at(from)
	for _, r := range p.resets {
		if r > from && r <= to {
			sum += p.at(r - 1)
		}
	}
	return sum
}

func counterProcess(rnd *rand.Rand, start int64, seconds int, resetEvery float64) *process {
	p := &process{start: start, values: make([]float64, seconds)}
	v := float64(rnd.IntN(100000))
	rate := math.Exp(rnd.Float64()*5 - 1)
	for i := range p.values {
		if i%300 == 0 {
			rate *= math.Exp(rnd.Float64()*0.4 - 0.2)
		}
		v += math.Floor(rate*2*rnd.Float64() + rnd.Float64())
		if resetEvery > 0 && i > 0 && rnd.Float64()*resetEvery < 1 && i-p.lastReset() > 900 {
			v = 0
			p.resets = append(p.resets, start+int64(i)*1000)
		}
		p.values[i] = v
	}
	return p
}

func (p *process) lastReset() int {
	if len(p.resets) == 0 {
		return 0
	}
	return int((p.resets[len(p.resets)-1] - p.start) / 1000)
}

func gaugeProcess(rnd *rand.Rand, start int64, seconds int) *process {
	p := &process{start: start, values: make([]float64, seconds)}
	v, level := 50.0, 50.0
	for i := range p.values {
		if rnd.IntN(600) == 0 {
			level = 10 + 80*rnd.Float64()
		}
		v += (level-v)*0.02 + rnd.NormFloat64()
		p.values[i] = v
	}
	return p
}

// scraper is how one replica looks at the process.
type scraper struct {
	interval, phase int64
	jitter          int64   // ms, both ways
	skew            int64   // its clock is that much ahead of the true one
	loss            float64 // of single scrapes
	gaps            [][2]int64
	chunkLen        int
}

func (s *scraper) scrape(rnd *rand.Rand, p *process) []fsample {
	var out []fsample
	end := p.start + int64(len(p.values))*1000
	for t := p.start + s.phase; t < end; t += s.interval {
		at := t
		if s.jitter > 0 {
			at += rnd.Int64N(2*s.jitter+1) - s.jitter
		}
		if rnd.Float64() < s.loss || slices.ContainsFunc(s.gaps, func(g [2]int64) bool { return at >= g[0] && at < g[1] }) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].t >= at+s.skew {
			continue
		}
		out = append(out, fsample{at + s.skew, p.at(at)})
	}
	return out
}

// encode cuts samples into chunks of n, and anew at each block of two hours.
func encode(t testing.TB, list []fsample, n int) []chunks.AggrChunk {
	t.Helper()
	const block = 2 * 3600 * 1000
	var out []chunks.AggrChunk
	for len(list) > 0 {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		k := 0
		for k < len(list) && k < n && list[k].t/block == list[0].t/block {
			app.Append(list[k].t, list[k].v)
			k++
		}
		out = append(out, chunks.AggrChunk{
			MinTime: list[0].t, MaxTime: list[k-1].t,
			Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: slices.Clone(c.Bytes())},
		})
		list = list[k:]
	}
	return out
}

func join(lists ...[]chunks.AggrChunk) []chunks.AggrChunk {
	return chunks.SortUnique(slices.Concat(lists...))
}

func drain(t testing.TB, it chunkenc.Iterator) []fsample {
	t.Helper()
	var out []fsample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		require.Equal(t, chunkenc.ValFloat, typ)
		ts, v := it.At()
		if n := len(out); n > 0 && out[n-1].t >= ts {
			t.Fatalf("%d comes after %d", ts, out[n-1].t)
		}
		out = append(out, fsample{ts, v})
	}
	require.NoError(t, it.Err())
	return out
}

func mergeExact(t testing.TB, chks []chunks.AggrChunk) []fsample {
	t.Helper()
	return drain(t, MergeChunks(Exact, chks, onlyRaw, Options{}))
}

// scene is one random case.
type scene struct {
	proc     *process
	scrapers []*scraper
	lists    [][]fsample
	chks     []chunks.AggrChunk
	maxSkew  int64
}

type sceneConfig struct {
	gauge  bool
	skew   bool
	jitter bool
	even   bool // same interval for all
	hours  float64
}

const sceneStart = 1_763_632_800_000 + 37*60*1000 // 37 minutes into a block of two hours

func newScene(t testing.TB, rnd *rand.Rand, cfg sceneConfig) *scene {
	t.Helper()
	seconds := int(cfg.hours * 3600)
	s := &scene{}
	if cfg.gauge {
		s.proc = gaugeProcess(rnd, sceneStart, seconds)
	} else {
		s.proc = counterProcess(rnd, sceneStart, seconds, 5000)
	}
	base := []int64{5000, 10000, 15000, 15000, 15000, 30000, 60000}[rnd.IntN(7)]
	n := 2
	if rnd.IntN(3) == 0 {
		n = 3 + rnd.IntN(2)
	}
	for range n {
		r := &scraper{interval: base, chunkLen: []int{120, 120, 120, 60, 200}[rnd.IntN(5)]}
		if !cfg.even && rnd.IntN(6) == 0 {
			r.interval = 2 * base
		}
		r.phase = rnd.Int64N(r.interval)
		if cfg.jitter && rnd.IntN(2) == 0 {
			r.jitter = 1 + rnd.Int64N([]int64{2, 50, r.interval / 12}[rnd.IntN(3)])
		}
		if cfg.skew && rnd.IntN(2) == 0 {
			r.skew = rnd.Int64N(90_000) - 45_000
		}
		if rnd.IntN(4) == 0 {
			r.loss = rnd.Float64() * 0.15
		}
		for range rnd.IntN(4) {
			from := sceneStart + rnd.Int64N(int64(seconds)*1000)
			r.gaps = append(r.gaps, [2]int64{from, from + 20_000 + rnd.Int64N([]int64{120_000, 1_200_000}[rnd.IntN(2)])})
		}
		s.scrapers = append(s.scrapers, r)
		list := r.scrape(rnd, s.proc)
		s.lists = append(s.lists, list)
		s.chks = append(s.chks, encode(t, list, r.chunkLen)...)
		s.maxSkew = max(s.maxSkew, r.skew, -r.skew)
	}
	s.chks = chunks.SortUnique(s.chks)
	return s
}

// encodeHistograms encodes n native histograms that only grow, 15 s apart, in chunks of 120.
func encodeHistograms(t testing.TB, n int, phase int64) []chunks.AggrChunk {
	t.Helper()
	var list []hsample
	for i := range n {
		ts := sceneStart + int64(i)*15000 + phase
		list = append(list, hsample{ts, histogramAt(ts - sceneStart)})
	}
	return encodeHistogramList(t, list, 120)
}

type hsample struct {
	t int64
	h *histogram.Histogram
}

// histogramAt is a histogram that has grown for ms.
func histogramAt(ms int64) *histogram.Histogram {
	h := tsdbutil.GenerateTestHistogram(ms / 100)
	h.CounterResetHint = histogram.UnknownCounterReset
	return h
}

// encodeHistogramList lets the TSDB cut chunks where the layout changes or a counter is reset.
func encodeHistogramList(t testing.TB, list []hsample, n int) []chunks.AggrChunk {
	t.Helper()
	var out []chunks.AggrChunk
	var c chunkenc.Chunk
	var app chunkenc.Appender
	first, last := int64(0), int64(0)
	flush := func() {
		if c != nil && c.NumSamples() > 0 {
			out = append(out, chunks.AggrChunk{
				MinTime: first, MaxTime: last,
				Raw: chunks.Chunk{Encoding: chunkenc.EncHistogram, Data: slices.Clone(c.Bytes())},
			})
		}
	}
	for _, s := range list {
		if c == nil || c.NumSamples() >= n {
			flush()
			var err error
			c = chunkenc.NewHistogramChunk()
			app, err = c.Appender()
			require.NoError(t, err)
			first = s.t
		}
		next, recoded, a, err := app.AppendHistogram(nil, s.t, s.h, false)
		require.NoError(t, err)
		app = a
		if next != nil {
			if !recoded {
				flush()
				first = s.t
			}
			c = next
		}
		last = s.t
	}
	flush()
	return out
}

func encodeFloatHistogramList(t testing.TB, list []hsample, n int) []chunks.AggrChunk {
	t.Helper()
	var out []chunks.AggrChunk
	for len(list) > 0 {
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		k := 0
		for k < len(list) && k < n {
			next, recoded, a, err := app.AppendFloatHistogram(nil, list[k].t, list[k].h.ToFloat(nil), false)
			require.NoError(t, err)
			if next != nil && !recoded {
				break // a reset or another layout: begin anew
			}
			if next != nil {
				c = next.(*chunkenc.FloatHistogramChunk)
			}
			app = a
			k++
		}
		out = append(out, chunks.AggrChunk{
			MinTime: list[0].t, MaxTime: list[k-1].t,
			Raw: chunks.Chunk{Encoding: chunkenc.EncFloatHistogram, Data: slices.Clone(c.Bytes())},
		})
		list = list[k:]
	}
	return out
}
