package dedup

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// downsampled makes the chunks of one replica, the older part at 5m and the newer part raw.
func downsampled(t *testing.T, list []fsample, rawFrom int64) []chunks.AggrChunk {
	t.Helper()
	var older, newer []fsample
	for _, x := range list {
		if x.t < rawFrom {
			older = append(older, x)
		} else {
			newer = append(newer, x)
		}
	}
	var d downsample.Downsampler
	out, err := d.Raw(MergeChunks(Exact, encode(t, older, 120), onlyRaw, Options{}), downsample.Resolution5m)
	require.NoError(t, err)
	return append(out, encode(t, newer, 120)...)
}

func TestExactMergesDownsampledReplicas(t *testing.T) {
	t.Parallel()
	every(t, 60, func(t *testing.T, rnd *rand.Rand, i int) {
		const hours = 40
		p := counterProcess(rnd, sceneStart, hours*3600, 20000)
		rawFrom := int64(sceneStart + 30*3600*1000)
		var chks []chunks.AggrChunk
		for r := range int64(2) {
			s := &scraper{interval: 60000, phase: r * 7000}
			for range 3 {
				from := sceneStart + 3_600_000 + rnd.Int64N((hours-3)*3600*1000)
				s.gaps = append(s.gaps, [2]int64{from, from + rnd.Int64N(3_600_000)})
			}
			chks = append(chks, downsampled(t, s.scrape(rnd, p), rawFrom)...)
		}
		chks = chunks.SortUnique(chks)

		for _, function := range []string{"", "min_over_time", "max_over_time", "sum_over_time", "count_over_time"} {
			aggrs := downsample.AggregatesFor(function)
			got := drain(t, MergeChunks(Exact, chks, aggrs, Options{}))
			for _, x := range got {
				if function != "sum_over_time" && function != "count_over_time" && x.t < rawFrom-600_000 {
					// Within the values of the window, which ends at the timestamp.
					lo, hi := p.at(x.t), p.at(x.t)
					for at := x.t - 300_000; at <= x.t; at += 1000 {
						lo, hi = min(lo, p.at(at)), max(hi, p.at(at))
					}
					require.True(t, x.v >= lo && x.v <= hi, "case %d, %q at %d: %v is not in %v..%v", i, function, x.t, x.v, lo, hi)
				}
			}
			for range 4 {
				mint := sceneStart + rnd.Int64N(hours*3600*1000)
				maxt := mint + rnd.Int64N(20*3600*1000)
				lo, hi := Widened(Exact, mint, maxt, 5*time.Minute)
				it := MergeChunks(Exact, visible(chks, lo, hi), aggrs, Options{})
				var part []fsample
				for typ := it.Seek(mint); typ != chunkenc.ValNone && it.AtT() <= maxt; typ = it.Next() {
					ts, v := it.At()
					part = append(part, fsample{ts, v})
				}
				require.NoError(t, it.Err())
				require.Equal(t, clipped(got, mint, maxt), part, "case %d, %q, %d..%d", i, function, mint, maxt)
			}
		}

		counter := drain(t, MergeChunks(Exact, chks, downsample.AggregatesFor("rate"), Options{Counter: true}))
		require.Zero(t, falls(counter), "case %d: resets are evened out", i)
		first, last := counter[0], counter[len(counter)-1]
		truth := p.between(first.t, last.t)
		// Resets in an hour that nobody saw take some of the growth with them.
		require.InEpsilon(t, truth, last.v-first.v, 0.1, "case %d: growth", i)
	})
}

func TestExactSeesTrueValuesOfRawCounters(t *testing.T) {
	t.Parallel()
	s := newScene(t, rand.New(rand.NewPCG(4, 4)), sceneConfig{hours: 3})
	require.NotEmpty(t, s.proc.resets)
	got := drain(t, MergeChunks(Exact, s.chks, downsample.AggregatesFor("rate"), Options{Counter: true}))
	require.Equal(t, mergeExact(t, s.chks), got, "whatever the function, the samples are the same")
}
