// Package hapair generates the history that an HA pair of Prometheus servers uploads: 2h
// blocks of two replicas with a 15 s interval, the second replica scraping 7 s after the
// first, each missing ten minutes of every second block.
//
// A target has `up`, 12 counters of requests, 36 cumulative histogram buckets, 16 counters
// of CPU seconds and two gauges. Counters are integers; a restart of a target, about once
// in three days, begins its requests and buckets anew.
//
// What comes out is the same for the same Spec.
package hapair

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/promontory-io/promontory/tools/bench/internal/blocks"
)

const (
	// Start is when the history begins: 2025-11-09 00:00 UTC, three days after a range of 14
	// days has begun, so that fourteen days of history reach over its end and into the next.
	Start int64 = 1762646400000
	// SeriesPerTarget is how many series a target has.
	SeriesPerTarget = 1 + 12 + 36 + 16 + 2
	// Replicas is how many servers have the history.
	Replicas = 2

	interval     = 15_000 // between samples, in milliseconds
	offset       = 7_000  // of the second replica
	blockRange   = 2 * 3600 * 1000
	perBlock     = blockRange / interval
	perChunk     = 120 // as many as a server puts into a chunk
	gapSamples   = 40  // ten minutes
	restartEvery = 20_000
)

// Spec sizes the history.
type Spec struct {
	Targets, Days int
}

// Generate makes the blocks as a FILESYSTEM bucket in dir, which must not exist. The
// external labels are cluster="eu1" and replica="r0" or "r1".
func Generate(dir string, s Spec) error {
	// Beside it first: a folder that is there is complete.
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("generate history: %w", err)
	}
	g := &generator{rng: rand.New(rand.NewPCG(1, 2)), targets: make([]target, s.Targets)} //nolint:gosec // the same every time
	g.describe()
	for n := range s.Days * 12 {
		if err := g.block(tmp, n); err != nil {
			return fmt.Errorf("generate history: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("generate history: %w", err)
	}
	return os.Rename(tmp, dir)
}

// End is the end of the history of s, exclusive, in Unix milliseconds.
func (s Spec) End() int64 { return Start + int64(s.Days)*24*time.Hour.Milliseconds() }

// series is one series and where its value comes from.
type series struct {
	lset   labels.Labels
	target int
	number int // within the target
}

// target is the state of one target: the values of its series.
type target struct {
	now, later [SeriesPerTarget]float64 // at this interval, and as the second replica sees them
}

// The numbers of a target's series.
const (
	firstRequest = 1
	firstBucket  = firstRequest + 12
	firstCPU     = firstBucket + 36
	memory       = firstCPU + 16
	goroutines   = memory + 1
)

type generator struct {
	rng     *rand.Rand
	targets []target
	series  []series
	symbols []string
	// values are those of one block: [target][number][replica][sample].
	values [][SeriesPerTarget][Replicas][perBlock]float64
}

// describe makes the label sets.
func (g *generator) describe() {
	for t := range g.targets {
		base := []string{
			"job", "api-" + strconv.Itoa(t%5), "instance", fmt.Sprintf("10.0.%d.%d:8080", t/250, t%250),
			"namespace", "prod-" + strconv.Itoa(t%3), "pod", fmt.Sprintf("api-%d-%05d", t%5, t),
		}
		n := 0
		add := func(name string, own ...string) {
			g.series = append(g.series, series{lset: labels.FromStrings(slices.Concat([]string{"__name__", name}, base, own)...), target: t, number: n})
			n++
		}
		add("up")
		for i := range 12 {
			add("http_requests_total", "code", strconv.Itoa(200+100*(i%3)), "method", []string{"GET", "POST", "PUT", "DELETE"}[i/3])
		}
		for i := range 36 {
			le := strconv.FormatFloat(0.005*float64(int(1)<<(i%12)), 'g', -1, 64)
			if i%12 == 11 {
				le = "+Inf"
			}
			add("http_request_duration_seconds_bucket", "le", le, "handler", "h"+strconv.Itoa(i/12))
		}
		for i := range 16 {
			add("node_cpu_seconds_total", "cpu", strconv.Itoa(i/8), "mode", []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}[i%8])
		}
		add("process_resident_memory_bytes")
		add("go_goroutines")
		g.targets[t].now[0], g.targets[t].later[0] = 1, 1
		g.targets[t].now[memory], g.targets[t].now[goroutines] = 1e8, 100
	}
	slices.SortFunc(g.series, func(a, b series) int { return labels.Compare(a.lset, b.lset) })
	sets := make([]labels.Labels, len(g.series))
	for i := range g.series {
		sets[i] = g.series[i].lset
	}
	g.symbols = blocks.Symbols(sets)
	g.values = make([][SeriesPerTarget][Replicas][perBlock]float64, len(g.targets))
}

// advance takes a target to the next interval.
func (g *generator) advance(t *target) {
	if g.rng.IntN(restartEvery) == 0 {
		clear(t.now[firstRequest:firstCPU])
	}
	count := func(i, inc int) {
		t.now[i] += float64(inc)
		t.later[i] = t.now[i] + float64(inc*offset/interval)
	}
	for i := range 12 {
		count(firstRequest+i, g.rng.IntN(6*(i+1)+1))
	}
	for h := range 3 {
		inc := 0
		for le := range 12 {
			inc += g.rng.IntN(4)
			count(firstBucket+12*h+le, inc)
		}
	}
	for i := range 16 {
		count(firstCPU+i, g.rng.IntN(16))
	}
	t.now[memory] = max(1e7, t.now[memory]+float64(4096*(g.rng.IntN(201)-100)))
	t.later[memory] = t.now[memory] + float64(4096*g.rng.IntN(3))
	t.now[goroutines] = max(10, t.now[goroutines]+float64(g.rng.IntN(7)-3))
	t.later[goroutines] = t.now[goroutines] + float64(g.rng.IntN(3)-1)
}

// block writes block number n of both replicas.
func (g *generator) block(dir string, n int) error {
	for k := range g.targets {
		t := &g.targets[k]
		for i := range perBlock {
			g.advance(t)
			for s := range SeriesPerTarget {
				g.values[k][s][0][i], g.values[k][s][1][i] = t.now[s], t.later[s]
			}
		}
	}
	mint := Start + int64(n)*blockRange
	for r := range Replicas {
		w, err := blocks.NewWriter(dir, blocks.ID(Replicas*n+r), mint, mint+blockRange, map[string]string{"cluster": "eu1", "replica": "r" + strconv.Itoa(r)}, g.symbols)
		if err != nil {
			return err
		}
		gap := perBlock
		if n%Replicas == r {
			gap = 100 + 37*(n%5)
		}
		for _, s := range g.series {
			metas, err := encode(g.values[s.target][s.number][r][:], mint+int64(r)*offset, gap)
			if err != nil {
				return err
			}
			if err := w.Add(s.lset, metas...); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

// encode makes the chunks of values from begin on, without those of the gap, which
// begins at sample number gap.
func encode(values []float64, begin int64, gap int) ([]chunks.Meta, error) {
	var out []chunks.Meta
	var app chunkenc.Appender
	for i, v := range values {
		if i >= gap && i < gap+gapSamples {
			continue
		}
		at := begin + int64(i)*interval
		if len(out) == 0 || out[len(out)-1].Chunk.NumSamples() >= perChunk {
			c := chunkenc.NewXORChunk()
			var err error
			if app, err = c.Appender(); err != nil {
				return nil, fmt.Errorf("begin chunk: %w", err)
			}
			out = append(out, chunks.Meta{Chunk: c, MinTime: at})
		}
		app.Append(at, v)
		out[len(out)-1].MaxTime = at
	}
	return out, nil
}
