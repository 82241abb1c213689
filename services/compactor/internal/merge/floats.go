package merge

import (
	"slices"

	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// plainFloats reports whether mergeFloats can do the series: nothing but floats, and
// if they overlap they are merged with penalty.
func (s *series) plainFloats() bool {
	return allFloats(s.pieces) && (s.fn == dedup.Penalty || !overlapping(s.pieces))
}

// mergeFloats is the merge of what most series are. It comes to the same as pulling the samples
// one by one out of s.stretch, but does each step for whole chunks.
func (s *series) mergeFloats(stats *Stats) error {
	st := &s.stretch
	st.reset(s.pieces, stats)
	further := s.wantFine || s.wantHour
	s.points = s.points[:0]
	for st.next < len(st.pieces) {
		p := st.take()
		begin := len(s.points)
		var err error
		switch {
		case !copyable(p):
			stats.Merged += len(p)
			if err = s.penalty(p); err == nil && s.wantOwn {
				s.pack.addFloats(s.points[begin:])
			}
		case further:
			s.points, err = st.decode(s.points, &p[0])
			fallthrough
		default:
			st.copyChunk(&p[0])
		}
		if err != nil {
			return err
		}
		if !further {
			s.points = s.points[:0]
		}
	}
	s.pack.flush()
	if !further {
		return nil
	}
	fine, err := s.down.Floats(s.points, block.Resolution5m)
	if err != nil {
		return err
	}
	return s.further(fine)
}

// penalty decodes the chunks of a stretch and appends what the merge makes of them to
// s.points.
func (s *series) penalty(p []piece) error {
	replicas := s.stretch.replicas(p)
	for len(s.decoded) < len(replicas)+1 {
		s.decoded = append(s.decoded, nil)
	}
	for i, r := range replicas {
		var deleted tombstones.Intervals
		mine := s.decoded[i][:0]
		for _, x := range r {
			var err error
			if mine, err = s.stretch.decode(mine, &p[x.piece]); err != nil {
				return err
			}
			for _, iv := range p[x.piece].deleted {
				deleted = deleted.Add(iv)
			}
		}
		if len(deleted) > 0 {
			f := filter{deleted: deleted}
			mine = slices.DeleteFunc(mine, func(x xorchunk.Point) bool { return f.in(x.T) })
		}
		s.decoded[i] = mine
	}
	// Two at a time, from the left; only results in between need memory of their own.
	left, last := s.decoded[0], len(replicas)-1
	for i := 1; i < last; i++ {
		merged := dedup.AppendPenalty(s.decoded[len(replicas)][:0], left, s.decoded[i])
		s.decoded[len(replicas)] = left
		s.decoded[0], left = merged, merged
	}
	if last == 0 {
		s.points = append(s.points, left...)
		return nil
	}
	s.points = dedup.AppendPenalty(s.points, left, s.decoded[last])
	return nil
}
