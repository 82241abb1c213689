package job

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/services/compactor/internal/merge"
	"github.com/promontory-io/promontory/services/compactor/internal/write"
)

// shape is the data of an HA pair: 2h blocks at a 15 s interval; per target up, 12
// request counters, 36 cumulative histogram buckets, 16 CPU counters and two gauges;
// r1 scrapes 7 s after r0; each replica misses ten minutes of every second block.
type shape struct {
	targets, hours int
	start          int64
}

type shapeSeries struct {
	lset  labels.Labels
	gauge bool
	step  float64 // mean increment per interval
	frac  bool    // increments with fractions
	v     float64
}

const (
	shapeInterval = 15_000
	shapeOffset   = 7_000
)

func (s shape) series() []*shapeSeries {
	var out []*shapeSeries
	for target := range s.targets {
		base := []string{
			"job", "api-" + strconv.Itoa(target%5), "instance", fmt.Sprintf("10.0.%d.%d:8080", target/250, target%250),
			"namespace", "prod", "pod", fmt.Sprintf("api-%d-%05d", target%5, target),
		}
		add := func(ss shapeSeries, name string, more ...string) {
			ss.lset = labels.FromStrings(slices.Concat(base, []string{"__name__", name}, more)...)
			out = append(out, &ss)
		}
		add(shapeSeries{gauge: true, v: 1}, "up")
		for i := range 12 {
			add(shapeSeries{step: float64(3 * (i + 1))}, "http_requests_total", "code", strconv.Itoa(200+100*(i%3)), "method", []string{"GET", "POST", "PUT", "DELETE"}[i/3])
		}
		for i := range 36 {
			add(shapeSeries{step: float64(i%12 + 1)}, "http_request_duration_seconds_bucket", "le", strconv.FormatFloat(0.005*float64(i+1), 'g', -1, 64), "handler", "h"+strconv.Itoa(i/12))
		}
		for i := range 16 {
			add(shapeSeries{step: 2, frac: true}, "node_cpu_seconds_total", "cpu", strconv.Itoa(i/8), "mode", "m"+strconv.Itoa(i%8))
		}
		add(shapeSeries{gauge: true, step: 100, v: 1e6}, "process_resident_memory_bytes")
		add(shapeSeries{gauge: true, step: 3, v: 100}, "go_goroutines")
	}
	slices.SortFunc(out, func(a, b *shapeSeries) int { return labels.Compare(a.lset, b.lset) })
	return out
}

// advance returns the value at this interval and seven seconds later.
func (ss *shapeSeries) advance(rng *rand.Rand) (now, later float64) {
	now = ss.v
	switch {
	case ss.gauge && ss.step == 0:
		return now, now
	case ss.gauge:
		ss.v += float64(rng.IntN(int(2*ss.step)+1)) - ss.step
		return now, now + float64(rng.IntN(3)-1)
	}
	if rng.IntN(20000) == 0 {
		ss.v = 0
		return now, now
	}
	inc := float64(rng.IntN(int(2*ss.step) + 1))
	if ss.frac {
		inc = float64(rng.IntN(int(200*ss.step))) / 100
	}
	ss.v += inc
	if ss.frac {
		return now, now + float64(int(inc*50))/100
	}
	return now, now + float64(int(inc/2))
}

// write makes all blocks in the bucket.
func (s shape) write(tb testing.TB, bkt objstore.Bucket) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	all := s.series()
	var symbols []string
	for _, ss := range all {
		ss.lset.Range(func(l labels.Label) { symbols = append(symbols, l.Name, l.Value) })
	}
	slices.Sort(symbols)
	symbols = slices.Compact(symbols)
	block2h := 2 * time.Hour.Milliseconds()
	steps := int(block2h / shapeInterval)
	values := make([][2]float64, steps)
	for n := range s.hours / 2 {
		mint := s.start + int64(n)*block2h
		var outs [2]*write.Block
		for r := range 2 {
			m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: blocktest.ID(time.UnixMilli(mint+block2h), uint64(2*n+r)), MinTime: mint, MaxTime: mint + block2h, Version: 1}}
			m.Compaction.Level, m.Compaction.Sources = 1, []ulid.ULID{m.ULID}
			m.Thanos.Labels = map[string]string{"cluster": "eu1", "replica": "r" + strconv.Itoa(r)}
			m.Thanos.Source = block.SourceSidecar
			var err error
			outs[r], err = write.New(context.Background(), zap.NewNop(), bkt, m, write.Options{Dir: tb.TempDir(), Read: New(zap.NewNop(), bkt, Config{}).readOptions(1)})
			require.NoError(tb, err)
			require.NoError(tb, outs[r].Begin(symbols))
		}
		for _, ss := range all {
			for i := range values {
				values[i][0], values[i][1] = ss.advance(rng)
			}
			for r := range 2 {
				gap := -1
				if n%2 == r {
					gap = 100 + 37*(n%5)
				}
				cs := encodeShape(tb, values, r, mint, gap)
				require.NoError(tb, outs[r].Add(ss.lset, cs))
			}
		}
		for r := range 2 {
			require.NoError(tb, outs[r].Finish())
			_, err := outs[r].Publish(context.Background())
			require.NoError(tb, err)
		}
	}
}

func encodeShape(tb testing.TB, values [][2]float64, r int, mint int64, gap int) []merge.Chunk {
	var out []merge.Chunk
	var c *chunkenc.XORChunk
	var app chunkenc.Appender
	var cur merge.Chunk
	for i := range values {
		if gap >= 0 && i >= gap && i < gap+40 {
			continue
		}
		if c == nil {
			c = chunkenc.NewXORChunk()
			var err error
			app, err = c.Appender()
			require.NoError(tb, err)
		}
		t := mint + int64(i)*shapeInterval + int64(r)*shapeOffset
		app.Append(t, values[i][r])
		if c.NumSamples() == 1 {
			cur.MinTime = t
		}
		cur.MaxTime = t
		if c.NumSamples() == 120 || i == len(values)-1 {
			cur.Encoding, cur.Bytes, cur.Samples = chunkenc.EncXOR, c.Bytes(), c.NumSamples()
			out = append(out, cur)
			c = nil
		}
	}
	return out
}

// TestMeasureTheFullShape prints what compacting an HA pair costs, in a process of its
// own. PROMONTORY_SHAPE_DIR is a folder for the bucket: the first run fills it, the
// second one measures. PROMONTORY_SHAPE_TARGETS (45) and PROMONTORY_SHAPE_DAYS (14)
// change the size.
func TestMeasureTheFullShape(t *testing.T) {
	dir := os.Getenv("PROMONTORY_SHAPE_DIR")
	if dir == "" {
		t.Skip("set PROMONTORY_SHAPE_DIR to measure")
	}
	s := shape{targets: envInt("PROMONTORY_SHAPE_TARGETS", 45), hours: 24 * envInt("PROMONTORY_SHAPE_DAYS", 14), start: 1762387200000}
	source := filepath.Join(dir, "source")
	if _, err := os.Stat(source); err != nil {
		s.writeTo(t, source)
		t.Skip("bucket made; run again to measure")
	}
	measure(t, source, filepath.Join(dir, "work"))
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}
