// Package plan decides what the compactor does next. It is pure: it takes the blocks
// of a bucket with their markers and a moment, and returns jobs, marks to be set and
// problems, each in a stable order. No I/O, no state.
//
// Blocks of one resolution and one set of external labels form a group. Within a group
// blocks are merged in windows that are aligned to multiples of the ranges 2h, 8h, 2d
// and 14d. A window is complete when the group's newest block lies behind it. Windows
// are looked at from the largest range down, and a block belongs to the first complete
// window in which it has company: a backlog of two weeks becomes one block in one
// step and is not rewritten from 2h to 8h to 2d on the way.
//
// Blocks that overlap in time and belong to no complete window are merged at once,
// because everybody who reads them pays for the overlap. A block that is marked for no
// compaction splits its window: nothing is merged across it.
//
// A raw result that spans long enough is downsampled in the same pass, unless
// downsampled blocks of all its sources exist.
package plan

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
)

// Ranges returns the spans of blocks in Unix milliseconds, ascending.
func Ranges() []int64 {
	h := time.Hour.Milliseconds()
	return []int64{1 * h, 2 * h, 8 * h, 48 * h, 14 * 24 * h}
}

const (
	// DefaultMaxIndexBytes is the size that no index must reach: 32-bit references of
	// 16 bytes each address that much.
	DefaultMaxIndexBytes int64 = 64 << 30
	// indexShare is the part of it that the indexes of a job's sources may have in sum.
	indexShare = 0.85
	// tombstoneShare is the part of a block's series with deletions from which on the
	// block is rewritten for their sake alone.
	tombstoneShare = 0.05
	// futureTolerance is how far a block may reach into the future before its clock is
	// taken to be wrong.
	futureTolerance = 24 * time.Hour
)

// Options is what a plan depends on besides the blocks.
type Options struct {
	// Ranges are Ranges() where empty; ascending, each a multiple of the one before.
	Ranges []int64
	// Vertical allows blocks that overlap to be merged. Without it they are Problems.
	Vertical bool
	// Downsampling adds 5m and 1h blocks.
	Downsampling bool
	// MaxIndexBytes is DefaultMaxIndexBytes where it is 0.
	MaxIndexBytes int64
	// Now is the moment of planning.
	Now time.Time
	// Skip leaves a job out, by its Key, for instance because it failed a moment ago. Its
	// blocks are not used otherwise. Nil skips none.
	Skip func(key string) bool
}

func (o Options) withDefaults() Options {
	if len(o.Ranges) == 0 {
		o.Ranges = Ranges()
	}
	if o.MaxIndexBytes == 0 {
		o.MaxIndexBytes = DefaultMaxIndexBytes
	}
	if o.Skip == nil {
		o.Skip = func(string) bool { return false }
	}
	return o
}

// Kind is why a job is done.
type Kind string

// The kinds of jobs.
const (
	// Compact merges the blocks of a window.
	Compact Kind = "compact"
	// Vertical merges blocks that overlap and belong to no complete window.
	Vertical Kind = "vertical"
	// Rewrite writes one block anew without what its tombstones delete.
	Rewrite Kind = "rewrite"
	// Downsample makes downsampled blocks of one block.
	Downsample Kind = "downsample"
)

// Job is one unit of work: its sources are read once, and one block is written for
// each target.
type Job struct {
	Kind  Kind
	Group string
	// Labels are the external labels of the results.
	Labels map[string]string
	// Resolution is that of the sources.
	Resolution int64
	// Sources are sorted by time and at least one.
	Sources []*Block
	// Targets are the resolutions to be written, ascending. All kinds but Downsample
	// write the sources' own too.
	Targets []int64
	// MinTime and MaxTime are the range of the results, MaxTime exclusive.
	MinTime, MaxTime int64
	// Overlap says that some sources overlap.
	Overlap bool
}

// Key identifies the job by what it does: the same in each plan, as long as its sources
// and targets are the same.
func (j *Job) Key() string {
	h := fnv.New64a()
	for _, b := range j.Sources {
		id := b.ID()
		_, _ = h.Write(id[:]) // writing to a hash cannot fail
	}
	return fmt.Sprintf("%s/%s/%v/%016x", j.Kind, j.Group, j.Targets, h.Sum64())
}

// Bytes is the size of the sources, 0 if unknown.
func (j *Job) Bytes() int64 {
	var n int64
	for _, b := range j.Sources {
		n += b.SizeBytes
	}
	return n
}

// Samples is how many samples the sources have according to their metadata.
func (j *Job) Samples() uint64 {
	var n uint64
	for _, b := range j.Sources {
		n += b.Meta.Stats.NumSamples
	}
	return n
}

// KeepsResolution reports whether a block of the sources' own resolution is written.
func (j *Job) KeepsResolution() bool { return j.Kind != Downsample }

// Mark is a no-compact mark to be set.
type Mark struct {
	ID      ulid.ULID
	Reason  block.Reason
	Details string
}

// ProblemKind says what is wrong with blocks that planning leaves aside.
type ProblemKind string

// The kinds of problems.
const (
	// ProblemOverlap is blocks that overlap although vertical compaction is off.
	ProblemOverlap ProblemKind = "overlap"
	// ProblemFuture is a block that reaches far into the future.
	ProblemFuture ProblemKind = "future"
)

// Problem is blocks of one group that cannot be planned with. The rest of the group can.
type Problem struct {
	Kind   ProblemKind
	Group  string
	Blocks []*Block
	Reason string
}

// Plan is what is to be done now. The jobs do not share sources, so all may run at once.
type Plan struct {
	Jobs     []Job
	Marks    []Mark
	Problems []Problem
}

// Make plans for all blocks of a bucket.
func Make(blocks []*Block, o Options) Plan {
	o = o.withDefaults()
	var p Plan
	groups := Groups(blocks)
	claimed := map[ulid.ULID]bool{}
	cov := newCoverage(blocks)
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := group{key: key, o: o, cov: cov, claimed: claimed, plan: &p}
		g.run(groups[key])
	}
	if o.Downsampling {
		downsampleJobs(&p, blocks, o, cov, claimed)
	}
	slices.SortStableFunc(p.Jobs, func(a, b Job) int { return a.compare(&b) })
	return p
}

// compare puts compactions first, for what they merge need not be downsampled on its
// own, raw before downsampled data, then older before newer.
func (j *Job) compare(o *Job) int {
	last := func(k Kind) int {
		if k == Downsample {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(last(j.Kind), last(o.Kind)),
		cmp.Compare(j.Resolution, o.Resolution),
		cmp.Compare(j.MinTime, o.MinTime),
		cmp.Compare(j.Group, o.Group),
		j.Sources[0].ID().Compare(o.Sources[0].ID()),
	)
}

// Groups sorts blocks into groups by their key. Blocks marked for deletion are left out.
func Groups(blocks []*Block) map[string][]*Block {
	out := map[string][]*Block{}
	for _, b := range blocks {
		if !b.Deleting {
			key := b.Meta.GroupKey()
			out[key] = append(out[key], b)
		}
	}
	for _, g := range out {
		sortBlocks(g)
	}
	return out
}

// coverage knows which compaction sources exist in each resolution of a label set.
type coverage struct{ block.Coverage }

func newCoverage(blocks []*Block) coverage {
	c := coverage{block.NewCoverage()}
	for _, b := range blocks {
		if !b.Deleting {
			c.Add(b.Meta)
		}
	}
	return c
}

// has reports whether all sources of all blocks exist at the resolution.
func (c coverage) has(bs []*Block, resolution int64) bool {
	return !slices.ContainsFunc(bs, func(b *Block) bool { return !c.Has(b.Meta, resolution) })
}

// targets returns the resolutions below which a result of bs that spans span
// milliseconds is to be downsampled.
func (c coverage) targets(bs []*Block, from, span int64) []int64 {
	if slices.ContainsFunc(bs, func(b *Block) bool { return b.NoDownsample }) {
		return nil
	}
	return downsample.Targets(from, span, func(resolution int64) bool { return c.has(bs, resolution) })
}

// downsampleJobs plans for blocks that no compaction takes up.
func downsampleJobs(p *Plan, blocks []*Block, o Options, cov coverage, claimed map[ulid.ULID]bool) {
	future := map[ulid.ULID]bool{}
	for _, pr := range p.Problems {
		if pr.Kind == ProblemFuture {
			for _, b := range pr.Blocks {
				future[b.ID()] = true
			}
		}
	}
	for _, b := range blocks {
		if b.Deleting || claimed[b.ID()] || future[b.ID()] {
			continue
		}
		targets := cov.targets([]*Block{b}, b.resolution(), b.span())
		if len(targets) == 0 {
			continue
		}
		j := newJob(Downsample, []*Block{b})
		j.Targets = targets
		if !o.Skip(j.Key()) {
			claimed[b.ID()] = true
			p.Jobs = append(p.Jobs, j)
		}
	}
}

// newJob fills in what follows from the sources.
func newJob(kind Kind, sources []*Block) Job {
	first := sources[0].Meta
	j := Job{
		Kind: kind, Group: first.GroupKey(), Labels: first.Thanos.Labels, Resolution: first.Thanos.Downsample.Resolution,
		Sources: sources, MinTime: first.MinTime, MaxTime: first.MaxTime,
	}
	for i, b := range sources {
		if i > 0 && b.Meta.MinTime < j.MaxTime {
			j.Overlap = true
		}
		j.MinTime, j.MaxTime = min(j.MinTime, b.Meta.MinTime), max(j.MaxTime, b.Meta.MaxTime)
	}
	return j
}

// Covered reports whether all sources of b exist at the resolution among blocks.
func Covered(blocks []*Block, b *Block, resolution int64) bool {
	return newCoverage(blocks).has([]*Block{b}, resolution)
}
