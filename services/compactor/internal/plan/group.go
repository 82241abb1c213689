package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
)

// group plans for the blocks of one group.
type group struct {
	key     string
	o       Options
	cov     coverage
	claimed map[ulid.ULID]bool
	plan    *Plan
	// walls are blocks that this plan itself has set aside: nothing is merged across them.
	walls map[ulid.ULID]bool
}

// run plans for all blocks, sorted by time.
func (g *group) run(all []*Block) {
	g.walls = map[ulid.ULID]bool{}
	blocks := g.withoutFuture(all)
	g.settleOverlaps(blocks)
	// A block that makes an index too large becomes a wall, and planning begins anew:
	// each round adds a wall, so this ends.
	for {
		jobs := g.jobs(blocks)
		mark, over := g.oversized(jobs)
		if !over {
			for _, j := range jobs {
				for _, b := range j.Sources {
					g.claimed[b.ID()] = true
				}
				if !g.o.Skip(j.Key()) {
					g.plan.Jobs = append(g.plan.Jobs, j)
				}
			}
			return
		}
		g.walls[mark.ID] = true
		g.plan.Marks = append(g.plan.Marks, mark)
	}
}

// withoutFuture sets blocks aside whose clock is wrong: as the newest of their group
// they would make every window look complete.
func (g *group) withoutFuture(all []*Block) []*Block {
	limit := g.o.Now.Add(futureTolerance).UnixMilli()
	out := make([]*Block, 0, len(all))
	for _, b := range all {
		if g.o.Now.IsZero() || b.Meta.MaxTime <= limit {
			out = append(out, b)
			continue
		}
		g.plan.Problems = append(g.plan.Problems, Problem{
			Kind: ProblemFuture, Group: g.key, Blocks: []*Block{b},
			Reason: fmt.Sprintf("block reaches to %s, which is in the future", formatTime(b.Meta.MaxTime)),
		})
	}
	return out
}

func (g *group) wall(b *Block) bool { return b.barrier() || g.walls[b.ID()] }

// settleOverlaps makes walls of overlapping blocks that may not be merged.
func (g *group) settleOverlaps(blocks []*Block) {
	var open []*Block
	for _, b := range blocks {
		if !g.wall(b) {
			open = append(open, b)
		}
	}
	for _, c := range clusters(open) {
		switch {
		case c[0].resolution() != block.ResolutionRaw:
			for _, b := range c {
				g.walls[b.ID()] = true
				g.plan.Marks = append(g.plan.Marks, Mark{
					ID: b.ID(), Reason: block.ReasonDownsampleVerticalCompaction,
					Details: "downsampled blocks that overlap are not merged: " + names(c),
				})
			}
		case !g.o.Vertical:
			for _, b := range c {
				g.walls[b.ID()] = true
			}
			g.plan.Problems = append(g.plan.Problems, Problem{
				Kind: ProblemOverlap, Group: g.key, Blocks: c,
				Reason: "blocks overlap and vertical compaction is off: " + names(c),
			})
		}
	}
}

// clusters returns the sets of two or more blocks that overlap, directly or through
// others. blocks are sorted by time.
func clusters(blocks []*Block) [][]*Block {
	var out [][]*Block
	var cur []*Block
	end := int64(math.MinInt64)
	flush := func() {
		if len(cur) > 1 {
			out = append(out, cur)
		}
		cur = nil
	}
	for _, b := range blocks {
		if b.Meta.MinTime >= end {
			flush()
		}
		cur = append(cur, b)
		end = max(end, b.Meta.MaxTime)
	}
	flush()
	return out
}

// jobs plans without regard to sizes.
func (g *group) jobs(blocks []*Block) []Job {
	if len(blocks) == 0 {
		return nil
	}
	newest := blocks[len(blocks)-1].Meta.MinTime
	taken := map[ulid.ULID]bool{}
	var out []Job
	add := func(kind Kind, sources []*Block) {
		j := newJob(kind, sources)
		j.Targets = []int64{j.Resolution}
		if g.o.Downsampling {
			j.Targets = append(j.Targets, g.cov.targets(sources, j.Resolution, j.MaxTime-j.MinTime)...)
		}
		for _, b := range sources {
			taken[b.ID()] = true
		}
		out = append(out, j)
	}

	for _, r := range slices.Backward(g.o.Ranges) {
		for _, run := range g.windows(blocks, r, newest, taken) {
			add(Compact, run)
		}
	}
	for _, c := range g.verticals(blocks, taken) {
		add(Vertical, c)
	}
	middle := g.o.Ranges[len(g.o.Ranges)/2]
	for _, b := range blocks {
		if taken[b.ID()] || g.wall(b) || b.Meta.MinTime >= newest || b.span() < middle {
			continue
		}
		if float64(b.Meta.Stats.NumTombstones)/float64(b.Meta.Stats.NumSeries+1) > tombstoneShare {
			add(Rewrite, []*Block{b})
		}
	}
	return out
}

// windows returns the runs of two or more blocks that complete windows of range r hold.
func (g *group) windows(blocks []*Block, r, newest int64, taken map[ulid.ULID]bool) [][]*Block {
	var out [][]*Block
	var run []*Block
	window := int64(math.MinInt64)
	flush := func() {
		if len(run) > 1 {
			out = append(out, run)
		}
		run = nil
	}
	for _, b := range blocks {
		start := floor(b.Meta.MinTime, r)
		if start != window {
			flush()
			window = start
		}
		switch {
		case g.wall(b):
			flush()
		case taken[b.ID()], b.Meta.MaxTime > start+r, start+r > newest:
		default:
			run = append(run, b)
		}
	}
	flush()
	return out
}

// verticals returns overlapping blocks no one of which is in a job already.
func (g *group) verticals(blocks []*Block, taken map[ulid.ULID]bool) [][]*Block {
	if !g.o.Vertical {
		return nil
	}
	var open []*Block
	for _, b := range blocks {
		if !g.wall(b) {
			open = append(open, b)
		}
	}
	return slices.DeleteFunc(clusters(open), func(c []*Block) bool {
		return slices.ContainsFunc(c, func(b *Block) bool { return taken[b.ID()] })
	})
}

// oversized finds a job whose index could become too large, and the source to leave out.
func (g *group) oversized(jobs []Job) (Mark, bool) {
	limit := int64(indexShare * float64(g.o.MaxIndexBytes))
	for _, j := range jobs {
		var sum int64
		biggest := j.Sources[0]
		for _, b := range j.Sources {
			sum += b.IndexBytes
			if b.IndexBytes > biggest.IndexBytes {
				biggest = b
			}
		}
		if len(j.Sources) > 1 && sum >= limit {
			return Mark{
				ID: biggest.ID(), Reason: block.ReasonIndexSizeExceeding,
				Details: fmt.Sprintf("indexes of %d blocks have %d bytes together, %d are allowed; this is the largest of them", len(j.Sources), sum, limit),
			}, true
		}
	}
	return Mark{}, false
}

// floor rounds t down to a multiple of r, also before 1970.
func floor(t, r int64) int64 {
	m := t % r
	if m < 0 {
		m += r
	}
	return t - m
}

func names(bs []*Block) string {
	out := make([]string, len(bs))
	for i, b := range bs {
		out[i] = b.ID().String()
	}
	return strings.Join(out, ", ")
}
