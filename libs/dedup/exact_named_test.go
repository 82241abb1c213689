package dedup

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

// steady is a counter that grows by ten a second and is reset at the given seconds.
func steady(seconds int, resets ...int) *process {
	p := &process{start: sceneStart, values: make([]float64, seconds)}
	v := 1000.0
	for i := range p.values {
		if v += 10; slices.Contains(resets, i) {
			v = 0
			p.resets = append(p.resets, sceneStart+int64(i)*1000)
		}
		p.values[i] = v
	}
	return p
}

// gone is a gap in seconds after the start.
func gone(from, to int64) [2]int64 { return [2]int64{sceneStart + from*1000, sceneStart + to*1000} }

func widest(list []fsample) int64 {
	w := int64(0)
	for i := 1; i < len(list); i++ {
		w = max(w, list[i].t-list[i-1].t)
	}
	return w
}

// grown is what increase() over all samples makes of a counter, without extrapolation.
func grown(list []fsample) float64 {
	sum := 0.0
	for i := 1; i < len(list); i++ {
		if d := list[i].v - list[i-1].v; d >= 0 {
			sum += d
		} else {
			sum += list[i].v
		}
	}
	return sum
}

func TestExactOnReportedFailures(t *testing.T) {
	t.Parallel()
	const hour = 3600
	for name, tc := range map[string]struct {
		seconds  int
		resets   []int
		replicas []*scraper
		widest   int64 // ms
		slack    float64
	}{
		"a gap in one replica that the other one fills": {
			seconds: hour, replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(1200, 1800)}}, {interval: 15000, phase: 7000}}, widest: 16500,
		},
		"a gap while the other replica has one as well, elsewhere": {
			seconds: 2 * hour, resets: []int{1500}, widest: 16500,
			replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(1200, 1800)}}, {interval: 15000, phase: 7000, gaps: [][2]int64{gone(1830, 2400)}}},
		},
		"a change in mid-window to values that are behind": {
			seconds: hour, slack: 450, widest: 60000,
			replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(1200, 1800)}}, {interval: 15000, phase: 7000, skew: 40000, loss: 0.05}},
		},
		"a change in mid-window to values that are ahead": {
			seconds: hour, slack: 450, widest: 60000,
			replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(1200, 1800)}}, {interval: 15000, phase: 7000, skew: -40000, loss: 0.05}},
		},
		"the clock of one replica is wrong by ninety seconds around a reset": {
			seconds: hour, resets: []int{1500}, slack: 1000, widest: 120000,
			replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(1470, 1530)}}, {interval: 15000, phase: 7000, skew: 90000, loss: 0.05}},
		},
		"losses that alternate": {
			seconds: hour, widest: 22000, // the first scrape after one's loss is 22 s behind the other's last
			replicas: []*scraper{
				{interval: 15000, gaps: alternating(0)},
				{interval: 15000, phase: 7000, gaps: alternating(60)},
			},
		},
		"15 s against 30 s, the finer one with a gap": {
			seconds: hour, widest: 30000,
			replicas: []*scraper{{interval: 30000, phase: 4000}, {interval: 15000, phase: 11000, gaps: [][2]int64{gone(1200, 1800)}}},
		},
		"two replicas gone at once, and a third one that scrapes more rarely": {
			seconds: hour, widest: 35000,
			replicas: []*scraper{
				{interval: 15000, gaps: [][2]int64{gone(1200, 1800)}},
				{interval: 15000, phase: 7000, gaps: [][2]int64{gone(1150, 1900)}},
				{interval: 30000, phase: 4000},
			},
		},
		"one replica restarted, and scrapes at another phase since": {
			seconds: hour, widest: 16500,
			replicas: []*scraper{{interval: 15000, phase: 2000, gaps: [][2]int64{gone(1500, 3600)}}, {interval: 15000, phase: 7000}, {interval: 15000, phase: 13000, gaps: [][2]int64{gone(0, 1590)}}},
		},
		"both replicas restarted": {
			seconds: hour, widest: 45000, resets: []int{1530},
			replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(1500, 1545)}}, {interval: 15000, phase: 7000, gaps: [][2]int64{gone(1500, 1530)}}},
		},
		"a replica that lags by minutes": {
			seconds: hour, widest: 16500,
			replicas: []*scraper{{interval: 15000, gaps: [][2]int64{gone(3300, 3600)}}, {interval: 15000, phase: 7000}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := steady(tc.seconds, tc.resets...)
			rnd := rand.New(rand.NewPCG(5, 5))
			var chks []chunks.AggrChunk
			for _, r := range tc.replicas {
				chks = append(chks, encode(t, r.scrape(rnd, p), 120)...)
			}
			got := mergeExact(t, chunks.SortUnique(chks))
			require.Equal(t, len(tc.resets), falls(got), "falls")
			require.LessOrEqual(t, widest(got), tc.widest, "widest gap")
			first, last := got[0], got[len(got)-1]
			require.GreaterOrEqual(t, last.t, sceneStart+int64(tc.seconds)*1000-16000, "the end is there")
			truth := p.between(first.t, last.t)
			lost := 0.0 // what a reset takes with it since the last scrape
			for range tc.resets {
				lost += 10 * float64(tc.widest) / 1000
			}
			require.InDelta(t, truth, grown(got), lost+tc.slack+1, "increase")
			chain := drain(t, MergeChunks(Chain, chunks.SortUnique(chks), onlyRaw, Options{}))
			require.LessOrEqual(t, len(got), len(chain))
		})
	}
}

// alternating is a minute in every two, as gaps, beginning at from seconds.
func alternating(from int64) [][2]int64 {
	var out [][2]int64
	for ; from < 3600; from += 120 {
		out = append(out, gone(from, from+60))
	}
	return out
}

var staleNaN = math.Float64frombits(value.StaleNaN)

// line is samples with value 1 from and to, in seconds after the start, and a marker behind if wanted.
func line(from, to, every int64, stale bool) []fsample {
	var out []fsample
	for ; from < to; from += every {
		out = append(out, fsample{sceneStart + from*1000, 1})
	}
	if stale {
		out = append(out, fsample{sceneStart + from*1000, staleNaN})
	}
	return out
}

func TestExactShowsMarkersOnlyWhereNoReplicaHasSamples(t *testing.T) {
	t.Parallel()
	marks := func(list []fsample) (out []int64) {
		for _, x := range list {
			if value.IsStaleNaN(x.v) {
				out = append(out, (x.t-sceneStart)/1000)
			}
		}
		return out
	}
	whole := line(7, 1800, 15, false)
	failing := slices.Concat(line(0, 600, 15, true), line(1200, 1800, 15, false))
	got := mergeExact(t, join(encode(t, failing, 120), encode(t, whole, 120)))
	require.Empty(t, marks(got), "one replica could not scrape, the other one could")
	require.LessOrEqual(t, widest(got), int64(16500))

	once := slices.Concat(line(0, 600, 15, true), line(615, 1800, 15, false))
	got = mergeExact(t, join(encode(t, once, 120), encode(t, whole, 120)))
	require.Empty(t, marks(got), "a single scrape failed")

	gone := line(7, 900, 15, true)
	got = mergeExact(t, join(encode(t, failing, 120), encode(t, gone, 120)))
	require.Equal(t, []int64{907}, marks(got), "the target was gone for both")
	require.True(t, slices.IsSortedFunc(got, func(a, b fsample) int { return int(a.t - b.t) }))

	got = mergeExact(t, join(encode(t, line(0, 600, 15, true), 120), encode(t, line(7, 600, 15, true), 120)))
	require.True(t, value.IsStaleNaN(got[len(got)-1].v), "the target is gone")
	require.Equal(t, []int64{600, 607}, marks(got))
}

func TestExactLeavesAReplicaThatIsStuck(t *testing.T) {
	t.Parallel()
	p := steady(2 * 3600)
	rnd := rand.New(rand.NewPCG(1, 1))
	stuck := (&scraper{interval: 15000}).scrape(rnd, p)
	for i := range stuck {
		if i >= 130 {
			stuck[i].v = stuck[130].v
		}
	}
	got := mergeExact(t, join(encode(t, stuck, 120), encode(t, (&scraper{interval: 15000, phase: 7000}).scrape(rnd, p), 120)))
	require.Zero(t, falls(got))
	last := got[len(got)-1]
	require.InDelta(t, p.at(last.t), last.v, 1)
	late := 0
	for _, x := range got {
		if x.v != p.at(x.t) {
			late++
		}
	}
	require.LessOrEqual(t, late, 120, "at most the rest of the chunk in which it got stuck")
}

func TestExactMergesCopiesAndOutOfOrderChunks(t *testing.T) {
	t.Parallel()
	p := steady(3600)
	rnd := rand.New(rand.NewPCG(1, 1))
	list := (&scraper{interval: 15000}).scrape(rnd, p)
	want := encode(t, list, 120)
	require.Equal(t, list, mergeExact(t, join(want, want)), "the same chunks")
	require.Equal(t, list, mergeExact(t, append(slices.Clone(want), want...)[:len(want)]))
	twice := slices.Clone(want)
	twice = append(twice, want...)
	slices.SortStableFunc(twice, func(a, b chunks.AggrChunk) int { return a.Compare(&b) })
	require.Equal(t, list, mergeExact(t, twice), "the same chunks, not unified")
	require.Equal(t, list, mergeExact(t, join(want, encode(t, list, 77))), "the same samples, cut otherwise")
	require.Equal(t, list, mergeExact(t, join(encode(t, slices.Concat(list[:60], list[90:]), 120), encode(t, list[55:95], 120))), "late ones in a chunk of their own")
	require.Equal(t, list[:5], mergeExact(t, encode(t, list[:5], 3)))

	doubled := slices.Clone(list)
	doubled[50].t, doubled[50].v = doubled[49].t, 7
	got := mergeExact(t, join(encode(t, doubled, 120), encode(t, list, 77)))
	require.Equal(t, falls(list), falls(got), "a timestamp that is there twice")
}

func TestExactKeepsZeroSamplesAtStartTimestamps(t *testing.T) {
	t.Parallel()
	// Both replicas write a zero at the moment the target says it was started.
	p := steady(3600, 1803)
	rnd := rand.New(rand.NewPCG(1, 1))
	var chks []chunks.AggrChunk
	for _, r := range []*scraper{{interval: 15000, gaps: [][2]int64{gone(1790, 1900)}}, {interval: 15000, phase: 7000}} {
		list := r.scrape(rnd, p)
		i, _ := slices.BinarySearchFunc(list, sceneStart+1_803_000, func(s fsample, t int64) int { return int(s.t - t) })
		list = slices.Insert(list, i, fsample{sceneStart + 1_803_000, 0})
		chks = append(chks, encode(t, list, 120)...)
	}
	got := mergeExact(t, chunks.SortUnique(chks))
	require.Equal(t, 1, falls(got))
	require.Contains(t, got, fsample{sceneStart + 1_803_000, 0})
}

func TestExactDoesNotDecodeWhatItDoesNotNeed(t *testing.T) {
	t.Parallel()
	p := steady(2 * 3600)
	rnd := rand.New(rand.NewPCG(1, 1))
	list := (&scraper{interval: 15000}).scrape(rnd, p)
	good := encode(t, list, 120)
	other := encode(t, (&scraper{interval: 15000, phase: 7000}).scrape(rnd, p), 120)
	for i := range other {
		// The number of samples stays readable, the samples do not.
		other[i].Raw.Data = other[i].Raw.Data[:len(other[i].Raw.Data)/2]
	}
	got := mergeExact(t, join(good, other[:len(other)-1]))
	require.Equal(t, list, got, "a replica without gaps")

	// A seek does not decode what lies well before, either.
	for i := range good[:2] {
		good[i].Raw.Data = good[i].Raw.Data[:len(good[i].Raw.Data)/2]
	}
	it := MergeChunks(Exact, join(good, other[:len(other)-1]), onlyRaw, Options{})
	require.Equal(t, chunkenc.ValFloat, it.Seek(good[3].MinTime))
	require.Equal(t, good[3].MinTime, it.AtT())

	// Where it is needed the damage is named.
	it = MergeChunks(Exact, join(good, other), onlyRaw, Options{})
	for it.Next() != chunkenc.ValNone {
	}
	require.ErrorContains(t, it.Err(), "chunk from")
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Seek(sceneStart))
}

func TestExactMergedAgainWithItselfStaysTheSame(t *testing.T) {
	t.Parallel()
	lost, total := 0, 0
	every(t, 200, func(t *testing.T, rnd *rand.Rand, i int) {
		s := newScene(t, rnd, sceneConfig{hours: 2, gauge: i%2 == 0, jitter: true})
		once := mergeExact(t, s.chks)
		chks := encode(t, once, 120)
		require.Equal(t, once, mergeExact(t, chks))
		again := mergeExact(t, join(chks, encode(t, once, 100)))
		in := map[fsample]bool{}
		for _, x := range once {
			in[x] = true
		}
		for _, x := range again {
			require.True(t, in[x], "case %d: %v is new", i, x)
		}
		lost, total = lost+len(once)-len(again), total+len(once)
	})
	// A chunk of a single sample, at the end of a block, is all that may go.
	require.LessOrEqual(t, lost, total/100_000)
}

// The merged series is cut into chunks at other places than the replicas, so that ranks differ a little: where a chunk
// of a replica ranks above a merged one beside it, its samples are chosen, which are as good. Everywhere else
// no sample goes, and some come where the distances of the merged chunk, which has those of all replicas, look like a gap.
// Neither falls nor ends change anywhere.
func TestExactMergedAgainWithAReplicaLosesNothingWhereTheReplicaDoesNotRankHigher(t *testing.T) {
	t.Parallel()
	changed, added, total, untouched := 0, 0, 0, 0
	every(t, 200, func(t *testing.T, rnd *rand.Rand, i int) {
		s := newScene(t, rnd, sceneConfig{hours: 2})
		once := mergeExact(t, s.chks)
		merged := encode(t, once, 120)
		for r, list := range s.lists {
			replica := encode(t, list, s.scrapers[r].chunkLen)
			again := mergeExact(t, join(merged, replica))
			require.Equal(t, falls(once), falls(again), "case %d", i)
			require.Equal(t, []int64{once[0].t, once[len(once)-1].t}, []int64{again[0].t, again[len(again)-1].t}, "case %d", i)
			above := ranksAbove(replica, merged)
			for _, x := range different(once, again) {
				changed++
				if slices.ContainsFunc(above, func(c chunks.AggrChunk) bool {
					return x.t >= c.MinTime-lookAround && x.t <= c.MaxTime+lookAround
				}) {
					continue
				}
				require.Contains(t, again, x, "case %d: lost, and no chunk of replica %d ranks higher there", i, r)
				require.Contains(t, list, x, "case %d: nobody's", i)
				added++
			}
			if len(above) == 0 {
				untouched++
			}
			total += len(again)
		}
	})
	t.Logf("%d of %d samples are others, of which %d fill gaps; %d replicas have no chunk that ranks higher", changed, total, added, untouched)
	require.LessOrEqual(t, changed, total/400)
	require.Positive(t, untouched)
}

func TestExactMergedAgainWithAReplicaOfAWholePairStaysTheSame(t *testing.T) {
	t.Parallel()
	every(t, 50, func(t *testing.T, rnd *rand.Rand, i int) {
		p := counterProcess(rnd, sceneStart, 3*3600, 5000)
		interval := []int64{5000, 15000, 30000, 60000}[rnd.IntN(4)]
		r0 := (&scraper{interval: interval, phase: rnd.Int64N(interval)}).scrape(rnd, p)
		r1 := (&scraper{interval: interval, phase: rnd.Int64N(interval)}).scrape(rnd, p)
		once := mergeExact(t, join(encode(t, r0, 120), encode(t, r1, 120)))
		for _, cut := range []int{60, 120, 200} {
			merged := encode(t, once, cut)
			require.Equal(t, once, mergeExact(t, join(merged, encode(t, r0, 120))), "case %d", i)
			require.Equal(t, once, mergeExact(t, join(merged, encode(t, r1, 120))), "case %d", i)
		}
	})
}

// ranksAbove returns the chunks of list that are better than one of others that is near enough to matter.
func ranksAbove(list, others []chunks.AggrChunk) []chunks.AggrChunk {
	var out []chunks.AggrChunk
	for i := range list {
		var c piece
		c.describe(&list[i], list[i].Raw)
		if slices.ContainsFunc(others, func(o chunks.AggrChunk) bool {
			var m piece
			m.describe(&o, o.Raw)
			return o.MinTime-lookAround <= c.maxt && o.MaxTime+lookAround >= c.mint && c.better(&m)
		}) {
			out = append(out, list[i])
		}
	}
	return out
}

// different returns what is in one of two sorted lists only.
func different(a, b []fsample) []fsample {
	in := map[fsample]int{}
	for _, x := range a {
		in[x]++
	}
	for _, x := range b {
		in[x]--
	}
	var out []fsample
	for x, n := range in {
		if n != 0 {
			out = append(out, x)
		}
	}
	return out
}

func TestExactMergeNeedsChunks(t *testing.T) {
	t.Parallel()
	it := Merge(Exact, iterators(t, [][][2]float64{{{1, 1}}, {{2, 2}}}), Options{})
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.ErrorContains(t, it.Err(), "works on chunks")
	none := MergeChunks(Exact, nil, onlyRaw, Options{})
	require.Equal(t, chunkenc.ValNone, none.Next())
	require.NoError(t, none.Err())
	require.ErrorContains(t, MergeChunks("best", nil, onlyRaw, Options{}).Err(), `"best"`)
}
