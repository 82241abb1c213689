package plan

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
)

// randomBlocks makes a bucket: producers with gaps, replicas, late and long blocks, marks.
func randomBlocks(rng *rand.Rand) []*Block {
	var out []*Block
	n := 0
	add := func(a, b int64, group string) {
		n++
		bl := mk(n, a, b, labels(group))
		bl.NoCompact = rng.IntN(25) == 0
		bl.NoDownsample = rng.IntN(40) == 0
		bl.Deleting = rng.IntN(40) == 0
		bl.Meta.Compaction.Failed = rng.IntN(60) == 0
		bl.IndexBytes = int64(rng.IntN(200))
		out = append(out, bl)
	}
	for g := range 1 + rng.IntN(3) {
		group := fmt.Sprint(g)
		end := int64(rng.IntN(400)) * 2
		for t := int64(rng.IntN(50)) * 2; t < end; {
			span := []int64{2, 2, 2, 2, 2, 2, 2, 8, 48}[rng.IntN(9)]
			if rng.IntN(20) != 0 {
				add(t/span*span, t/span*span+span, group)
			}
			if rng.IntN(10) == 0 { // a replica or a late block
				add(t, t+2, group)
			}
			t = (t/span + 1) * span
		}
	}
	return out
}

func TestPlansKeepTheirPromisesOnRandomBuckets(t *testing.T) {
	t.Parallel()
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 1))
		blocks := randomBlocks(rng)
		o := Options{Vertical: rng.IntN(3) > 0, Downsampling: rng.IntN(2) == 0, Now: now}
		if rng.IntN(4) == 0 {
			o.MaxIndexBytes = 2000
		}
		for round := 0; ; round++ {
			require.Less(t, round, 20, "seed %d does not converge", seed)
			p := Make(blocks, o)
			again := Make(shuffled(rng, blocks), o)
			require.Equal(t, keys(p), keys(again), "seed %d: the plan depends on the order of blocks", seed)
			checkPlan(t, seed, blocks, p, o)
			if len(p.Jobs) == 0 && len(p.Marks) == 0 {
				break
			}
			next := Apply(blocks, p)
			checkProgress(t, seed, blocks, next, p, o)
			blocks = next
		}
	}
}

func shuffled(rng *rand.Rand, in []*Block) []*Block {
	out := append([]*Block(nil), in...)
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func keys(p Plan) []string {
	var out []string
	for i := range p.Jobs {
		out = append(out, p.Jobs[i].Key())
	}
	return out
}

func checkPlan(t *testing.T, seed uint64, blocks []*Block, p Plan, o Options) {
	t.Helper()
	used := map[ulid.ULID]bool{}
	for i := range p.Jobs {
		j := &p.Jobs[i]
		for _, b := range j.Sources {
			require.False(t, used[b.ID()], "seed %d: block in two jobs", seed)
			used[b.ID()] = true
			require.Equal(t, j.Group, b.Meta.GroupKey(), "seed %d: groups mixed", seed)
			require.False(t, b.Deleting, "seed %d: deleted data come back", seed)
			if j.KeepsResolution() {
				require.False(t, b.barrier(), "seed %d: marked block merged", seed)
			} else {
				require.False(t, b.NoDownsample, "seed %d: marked block downsampled", seed)
			}
		}
		if j.KeepsResolution() {
			require.Contains(t, j.Targets, j.Resolution)
			require.False(t, j.Overlap && (!o.Vertical || j.Resolution > 0), "seed %d: overlap merged in %s", seed, j)
			checkNotAcross(t, seed, blocks, j)
		}
	}
}

// checkNotAcross: no block that takes no part lies between the sources, unless it overlaps
// one of them anyway.
func checkNotAcross(t *testing.T, seed uint64, blocks []*Block, j *Job) {
	t.Helper()
	in := map[ulid.ULID]bool{}
	for _, b := range j.Sources {
		in[b.ID()] = true
	}
	for _, b := range blocks {
		if in[b.ID()] || b.Deleting || b.Meta.GroupKey() != j.Group || b.Meta.MinTime >= j.MaxTime || b.Meta.MaxTime <= j.MinTime {
			continue
		}
		touches := false
		for _, s := range j.Sources {
			touches = touches || (b.Meta.MinTime < s.Meta.MaxTime && s.Meta.MinTime < b.Meta.MaxTime)
		}
		require.True(t, touches, "seed %d: %s merges across %s", seed, j, b.Meta)
	}
}

// checkProgress: what was covered stays covered, and new overlaps do not arise.
func checkProgress(t *testing.T, seed uint64, before, after []*Block, p Plan, o Options) {
	t.Helper()
	have := map[string]map[ulid.ULID]bool{}
	for _, b := range after {
		k := b.Meta.GroupKey()
		if have[k] == nil {
			have[k] = map[ulid.ULID]bool{}
		}
		for _, s := range b.sources() {
			have[k][s] = true
		}
	}
	for _, b := range before {
		for _, s := range b.sources() {
			require.True(t, have[b.Meta.GroupKey()][s], "seed %d: source %s of %s is lost", seed, s, b.Meta)
		}
	}
	require.LessOrEqual(t, overlaps(after, block.ResolutionRaw), overlaps(before, block.ResolutionRaw), "seed %d: new overlaps", seed)
	if len(p.Marks) == 0 {
		raw := func(bs []*Block) (n int) {
			for _, b := range bs {
				if b.resolution() == block.ResolutionRaw {
					n++
				}
			}
			return n
		}
		merged := 0
		for i := range p.Jobs {
			if p.Jobs[i].KeepsResolution() && p.Jobs[i].Resolution == block.ResolutionRaw {
				merged += len(p.Jobs[i].Sources) - 1
			}
		}
		require.LessOrEqual(t, raw(after), raw(before)-merged, "seed %d", seed)
	}
	_ = o
}

// overlaps counts overlapping pairs of a resolution.
func overlaps(bs []*Block, resolution int64) int {
	n := 0
	for _, g := range Groups(bs) {
		for i, a := range g {
			for _, b := range g[i+1:] {
				if a.resolution() == resolution && b.Meta.MinTime < a.Meta.MaxTime {
					n++
				}
			}
		}
	}
	return n
}

func TestSimulationEndsWithEveryCompleteWindowMerged(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var blocks []*Block
		for n := range 100 + rng.IntN(300) {
			if rng.IntN(15) > 0 {
				blocks = append(blocks, two(2*n, int64(2*n), int64(2*n+2))...)
				blocks = append(blocks, two(2*n+1, int64(2*n), int64(2*n+2))...)
			}
		}
		rounds, left := Simulate(blocks, Options{Vertical: true, Now: now})
		require.LessOrEqual(t, len(rounds), 2, "seed %d: data are rewritten", seed)
		require.Zero(t, overlaps(left, block.ResolutionRaw))
		sortBlocks(left)
		newest := left[len(left)-1].Meta.MinTime
		perWindow := map[int64]int{}
		for _, b := range left {
			for _, r := range Ranges() {
				if w := floor(b.Meta.MinTime, r); b.Meta.MaxTime <= w+r && w+r <= newest {
					perWindow[w*100+r%97]++
				}
			}
		}
		for w, n := range perWindow {
			require.Equal(t, 1, n, "seed %d window %d", seed, w)
		}
	}
}
