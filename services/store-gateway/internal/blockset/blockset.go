// Package blockset orders the blocks of one producer, that is, of one set of external
// labels, by resolution and time, and chooses among them.
//
// A time that several resolutions cover is read from one of them only: the coarsest
// that the caller accepts. Where that one has a gap, the next finer one fills it.
package blockset

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Span is what choosing needs to know of a block.
type Span struct {
	// ID breaks ties, so that choices do not depend on the order of loading.
	ID string
	// MinTime is inclusive, MaxTime exclusive, Unix milliseconds.
	MinTime, MaxTime int64
	// Resolution is in milliseconds between samples, 0 for raw data.
	Resolution int64
}

// Set holds the blocks of one set of external labels. B is the block's type. A Set is
// not changed once it is in use.
type Set[B any] struct {
	// External are the labels all blocks have in common.
	External labels.Labels

	levels []level[B] // coarsest first
}

type level[B any] struct {
	resolution int64
	blocks     []entry[B] // by MinTime
}

type entry[B any] struct {
	span  Span
	block B
}

// Group makes the sets of blocks, ordered by their external labels.
func Group[B any](blocks []B, external func(B) labels.Labels, span func(B) Span) []*Set[B] {
	byLabels := map[string]*Set[B]{}
	var sets []*Set[B]
	for _, b := range blocks {
		ext := external(b)
		key := string(ext.Bytes(nil))
		s := byLabels[key]
		if s == nil {
			s = &Set[B]{External: ext}
			byLabels[key] = s
			sets = append(sets, s)
		}
		s.add(entry[B]{span: span(b), block: b})
	}
	for _, s := range sets {
		s.sort()
	}
	slices.SortFunc(sets, func(a, b *Set[B]) int { return labels.Compare(a.External, b.External) })
	return sets
}

func (s *Set[B]) add(e entry[B]) {
	for i := range s.levels {
		if s.levels[i].resolution == e.span.Resolution {
			s.levels[i].blocks = append(s.levels[i].blocks, e)
			return
		}
	}
	s.levels = append(s.levels, level[B]{resolution: e.span.Resolution, blocks: []entry[B]{e}})
}

func (s *Set[B]) sort() {
	slices.SortFunc(s.levels, func(a, b level[B]) int { return cmp.Compare(b.resolution, a.resolution) })
	for _, l := range s.levels {
		slices.SortFunc(l.blocks, func(a, b entry[B]) int {
			return cmp.Or(cmp.Compare(a.span.MinTime, b.span.MinTime), cmp.Compare(a.span.MaxTime, b.span.MaxTime),
				strings.Compare(a.span.ID, b.span.ID))
		})
	}
}

// Choice is a block to be read and the times it is read for, both inclusive.
type Choice[B any] struct {
	Block            B
	MinTime, MaxTime int64
}

// Choose returns the blocks to be read for [mint, maxt], both inclusive, in none
// coarser than maxResolution.
//
// keep says which blocks may be chosen; one that may not be leaves no gap for a finer
// one to fill. Nil keeps all.
func (s *Set[B]) Choose(mint, maxt, maxResolution int64, keep func(B) bool) []Choice[B] {
	first, _ := slices.BinarySearchFunc(s.levels, maxResolution, func(l level[B], r int64) int { return cmp.Compare(r, l.resolution) })
	end := maxt
	if end < math.MaxInt64 {
		end++
	}
	if mint >= end {
		return nil
	}
	c := chooser[B]{set: s, keep: keep, at: map[string]int{}}
	c.choose(first, mint, end)
	return c.out
}

type chooser[B any] struct {
	set  *Set[B]
	keep func(B) bool
	out  []Choice[B]
	at   map[string]int // index in out, by ID
}

// choose covers [mint, end) with blocks of the i-th level and fills what is left with
// those of the next ones.
func (c *chooser[B]) choose(i int, mint, end int64) {
	if i >= len(c.set.levels) || mint >= end {
		return
	}
	covered := mint
	for _, e := range c.set.levels[i].blocks {
		if e.span.MaxTime <= mint {
			continue
		}
		if e.span.MinTime >= end {
			break
		}
		c.choose(i+1, covered, e.span.MinTime)
		c.take(e, mint, end)
		covered = max(covered, e.span.MaxTime)
	}
	c.choose(i+1, covered, end)
}

// take adds a block; one that fills several gaps is read once, for all of them.
func (c *chooser[B]) take(e entry[B], mint, end int64) {
	if c.keep != nil && !c.keep(e.block) {
		return
	}
	if k, ok := c.at[e.span.ID]; ok {
		c.out[k].MinTime = min(c.out[k].MinTime, mint)
		c.out[k].MaxTime = max(c.out[k].MaxTime, end-1)
		return
	}
	c.at[e.span.ID] = len(c.out)
	c.out = append(c.out, Choice[B]{Block: e.block, MinTime: mint, MaxTime: end - 1})
}

// Overlapping returns all blocks, of any resolution, that reach into [mint, maxt].
func (s *Set[B]) Overlapping(mint, maxt int64, keep func(B) bool) (out []B) {
	for _, l := range s.levels {
		for _, e := range l.blocks {
			if e.span.MinTime <= maxt && e.span.MaxTime > mint && (keep == nil || keep(e.block)) {
				out = append(out, e.block)
			}
		}
	}
	return out
}

// Stretch is a range of time that is covered without a gap.
type Stretch struct{ MinTime, MaxTime int64 }

// Stretches returns the times that blocks of any resolution cover, in order. Blocks that
// overlap or touch make one stretch.
func (s *Set[B]) Stretches() (out []Stretch) {
	var all []Stretch
	for _, l := range s.levels {
		for _, e := range l.blocks {
			all = append(all, Stretch{e.span.MinTime, e.span.MaxTime})
		}
	}
	slices.SortFunc(all, func(a, b Stretch) int { return cmp.Compare(a.MinTime, b.MinTime) })
	for _, st := range all {
		if k := len(out) - 1; k >= 0 && st.MinTime <= out[k].MaxTime {
			out[k].MaxTime = max(out[k].MaxTime, st.MaxTime)
			continue
		}
		out = append(out, st)
	}
	return out
}
