package selects_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	thanosengine "github.com/thanos-io/promql-engine/engine"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// resolutions are the same samples in chunks of raw blocks, and in those of blocks of 1h, then 5m, then raw data.
func resolutions(t *testing.T, lists ...[]fakepeer.Sample) (raw, mixed []storeapi.Series) {
	for n, list := range lists {
		name := lset("__name__", "up", "i", fmt.Sprint(n))
		var all, parts []chunks.AggrChunk
		for _, part := range []struct {
			from, to   int64
			resolution int64
		}{{0, 48 * hour, downsample.Resolution1h}, {48 * hour, 96 * hour, downsample.Resolution5m}, {96 * hour, 120 * hour, 0}} {
			var own []chunks.AggrChunk
			for from := part.from; from < part.to; from += hour / 2 {
				c := chunkenc.NewXORChunk()
				app, err := c.Appender()
				require.NoError(t, err)
				chk := chunks.AggrChunk{MinTime: math.MaxInt64, Raw: chunks.Chunk{Encoding: chunkenc.EncXOR}}
				for _, s := range list {
					if s.T >= from && s.T < from+hour/2 {
						app.Append(s.T, s.V)
						chk.MinTime, chk.MaxTime = min(chk.MinTime, s.T), s.T
					}
				}
				chk.Raw.Data = c.Bytes()
				own = append(own, chk)
			}
			all = append(all, own...)
			if part.resolution > 0 {
				var d downsample.Downsampler
				down, err := d.Raw(downsample.NewIterator(own, []chunks.Aggr{chunks.Raw}), part.resolution)
				require.NoError(t, err)
				own = down
			}
			parts = append(parts, own...)
		}
		raw = append(raw, storeapi.Series{Labels: name, Chunks: all})
		mixed = append(mixed, storeapi.Series{Labels: name, Chunks: parts})
	}
	return raw, mixed
}

type engine interface {
	NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error)
}

func evaluated(t *testing.T, e engine, list []storeapi.Series, opts selects.Options, query string, step time.Duration) map[string]map[int64]float64 {
	// What a select gets is its own.
	list = slices.Clone(list)
	for i := range list {
		list[i].Chunks = slices.Clone(list[i].Chunks)
	}
	c := selects.New(inMemory{replicas: [][]storeapi.Series{list}}, selects.Config{}, nil)
	q, err := e.NewRangeQuery(t.Context(), c.Queryable(opts), nil, query, time.UnixMilli(8*hour), time.UnixMilli(119*hour), step)
	require.NoError(t, err)
	defer q.Close()
	r := q.Exec(t.Context())
	require.NoError(t, r.Err)
	m, err := r.Matrix()
	require.NoError(t, err)
	out := map[string]map[int64]float64{}
	for _, s := range m {
		points := map[int64]float64{}
		for _, p := range s.Floats {
			points[p.T] = p.F
		}
		out[s.Metric.String()] = points
	}
	return out
}

// A range that reaches over a change of resolution is answered as well as one that does not: what a window does not tell is the
// only error.
func TestRangesOverSeveralResolutionsShowNoSeams(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 3))
	var counter, steady, gauge []fakepeer.Sample
	total := 0.0
	for at := int64(7000); at < 120*hour; at += 15_000 {
		total += 5 + rnd.Float64()*10
		if rnd.IntN(4000) == 0 {
			total = rnd.Float64()
		}
		counter = append(counter, fakepeer.Sample{T: at, V: total})
		steady = append(steady, fakepeer.Sample{T: at, V: float64(at) / 1000})
		gauge = append(gauge, fakepeer.Sample{T: at, V: 100 + 50*math.Sin(float64(at)/(7*hour)) + rnd.Float64()})
	}
	counters, mixedCounters := resolutions(t, counter, steady)
	gauges, mixedGauges := resolutions(t, gauge)
	opts := promql.EngineOpts{MaxSamples: 1e8, Timeout: time.Minute}
	engines := map[string]engine{"prometheus": promql.NewEngine(opts), "thanos": thanosengine.New(thanosengine.Opts{EngineOpts: opts})}
	for _, tc := range []struct {
		query       string
		raw, mixed  []storeapi.Series
		step        time.Duration
		worst, mean float64 // relative errors
	}{
		{`rate(up[4h])`, counters, mixedCounters, time.Hour, 0.03, 0.01},
		{`increase(up[4h])`, counters, mixedCounters, time.Hour, 0.03, 0.01},
		// Not on the border of a window: it does not know of up to an hour of four at either end.
		{`rate(up[4h])`, counters, mixedCounters, 37 * time.Minute, 0.06, 0.01},
		{`sum(rate(up[8h]))`, counters, mixedCounters, time.Hour, 0.03, 0.01},
		{`sum_over_time(up[4h])`, gauges, mixedGauges, time.Hour, 0.002, 0.001},
		{`avg_over_time(up[4h])`, gauges, mixedGauges, time.Hour, 0.002, 0.001},
		{`min_over_time(up[4h])`, gauges, mixedGauges, time.Hour, 0.002, 0.001},
		{`max_over_time(up[4h])`, gauges, mixedGauges, time.Hour, 0.002, 0.001},
		{`quantile_over_time(0.5, up[8h])`, gauges, mixedGauges, time.Hour, 0.1, 0.05},
		{`avg(up)`, gauges, mixedGauges, time.Hour, 0.1, 0.05},
	} {
		for name, e := range engines {
			for _, replicas := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, every %s, replicas %v", tc.query, name, tc.step, replicas), func(t *testing.T) {
					t.Parallel()
					o := selects.Options{MaxSourceResolution: time.Hour}
					if replicas {
						o.Dedup, o.ReplicaLabels = true, []string{"replica"}
					}
					want := evaluated(t, e, tc.raw, o, tc.query, tc.step)
					got := evaluated(t, e, tc.mixed, o, tc.query, tc.step)
					require.Len(t, got, len(want))
					for metric, points := range want {
						var sum, worst float64
						var when int64
						for at, v := range points {
							w, ok := got[metric][at]
							require.True(t, ok, "%s at %d h", metric, at/hour)
							off := math.Abs(w-v) / v
							if sum += off; off > worst {
								worst, when = off, at
							}
						}
						mean := sum / float64(len(points))
						t.Logf("%s: worst error %.4f at %.2f h, mean %.4f", metric, worst, float64(when)/hour, mean)
						require.LessOrEqual(t, worst, tc.worst)
						require.LessOrEqual(t, mean, tc.mean)
					}
				})
			}
		}
	}
}
