package plan

import (
	"encoding/binary"
	"hash/fnv"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/promontory-io/promontory/libs/block"
)

// maxRounds bounds a simulation: each round leaves fewer or longer blocks, and there
// are only a handful of ranges.
const maxRounds = 64

// Simulate plays plans through until nothing is left to do and returns them in order,
// with the blocks that remain. Sizes of results are taken to be those of their sources.
func Simulate(blocks []*Block, o Options) (rounds []Plan, left []*Block) {
	left = blocks
	for range maxRounds {
		p := Make(left, o)
		if len(p.Jobs) == 0 && len(p.Marks) == 0 {
			if len(p.Problems) > 0 && len(rounds) == 0 {
				rounds = append(rounds, p)
			}
			return rounds, left
		}
		rounds = append(rounds, p)
		left = Apply(left, p)
	}
	return rounds, left
}

// Apply returns the blocks as they are after all jobs and marks of p.
func Apply(blocks []*Block, p Plan) []*Block {
	gone := map[ulid.ULID]bool{}
	marked := map[ulid.ULID]bool{}
	for _, m := range p.Marks {
		marked[m.ID] = true
	}
	var made []*Block
	for i := range p.Jobs {
		j := &p.Jobs[i]
		for _, t := range j.Targets {
			made = append(made, j.Result(fakeID(j, t), t))
		}
		if j.KeepsResolution() {
			for _, b := range j.Sources {
				gone[b.ID()] = true
			}
		}
	}
	var out []*Block
	for _, b := range blocks {
		if gone[b.ID()] {
			continue
		}
		if marked[b.ID()] {
			c := *b
			c.NoCompact = true
			b = &c
		}
		out = append(out, b)
	}
	return dropCovered(append(out, made...))
}

// Result returns what a job's result of resolution r would look like, as a block
// without content of its own.
func (j *Job) Result(id ulid.ULID, r int64) *Block {
	m := &block.Meta{BlockMeta: ResultMeta(j, id)}
	m.Thanos.Labels = j.Labels
	m.Thanos.Downsample.Resolution = r
	m.Thanos.Source = block.SourceCompactor
	b := &Block{Meta: m}
	for _, s := range j.Sources {
		b.IndexBytes += s.IndexBytes
		b.SizeBytes += s.SizeBytes
		m.Stats.NumSamples += s.Meta.Stats.NumSamples
		m.Stats.NumChunks += s.Meta.Stats.NumChunks
		m.Stats.NumSeries = max(m.Stats.NumSeries, s.Meta.Stats.NumSeries)
	}
	if r != j.Resolution {
		b.IndexBytes, b.SizeBytes = b.IndexBytes/4, b.SizeBytes/4
	}
	return b
}

// ResultMeta returns time range and compaction section of a job's results. Downsampled
// blocks of one source have that source's; merged ones a section of their own. A block
// written anew has one more source than the old one, itself: among blocks with the same
// sources the older stays.
func ResultMeta(j *Job, id ulid.ULID) tsdb.BlockMeta {
	if !j.KeepsResolution() {
		src := j.Sources[0].Meta
		m := tsdb.BlockMeta{ULID: id, MinTime: src.MinTime, MaxTime: src.MaxTime, Version: block.MetaVersion}
		m.Compaction = src.Clone().Compaction
		m.Compaction.Sources = append([]ulid.ULID(nil), j.Sources[0].sources()...)
		return m
	}
	parents := make([]*tsdb.BlockMeta, len(j.Sources))
	for i, b := range j.Sources {
		c := b.Meta.BlockMeta
		c.Compaction.Sources = b.sources()
		parents[i] = &c
	}
	m := *tsdb.CompactBlockMetas(id, parents...)
	m.Version = block.MetaVersion
	if len(j.Sources) == 1 {
		m.Compaction.Sources = append(m.Compaction.Sources, id)
	}
	return m
}

// dropCovered leaves out blocks all of whose sources are in another block of their group.
func dropCovered(blocks []*Block) []*Block {
	groups := Groups(blocks)
	covered := map[ulid.ULID]bool{}
	for _, g := range groups {
		for _, b := range g {
			for _, a := range g {
				if a != b && !covered[a.ID()] && covers(a, b) {
					covered[b.ID()] = true
					break
				}
			}
		}
	}
	var out []*Block
	for _, b := range blocks {
		if !covered[b.ID()] {
			out = append(out, b)
		}
	}
	return out
}

func covers(a, b *Block) bool {
	as, bs := a.sources(), b.sources()
	if len(as) < len(bs) || (len(as) == len(bs) && a.ID().Compare(b.ID()) > 0) {
		return false
	}
	have := make(map[ulid.ULID]bool, len(as))
	for _, s := range as {
		have[s] = true
	}
	for _, s := range bs {
		if !have[s] {
			return false
		}
	}
	return true
}

// fakeID makes the ULID of a simulated result, always the same.
func fakeID(j *Job, target int64) ulid.ULID {
	h := fnv.New128a()
	_, _ = h.Write([]byte(j.Key()))
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(target)))
	var id ulid.ULID
	copy(id[:], h.Sum(nil))
	// Times of ULIDs have 48 bits; the highest must stay clear for the text form.
	id[0] = 0x7f
	return id
}
