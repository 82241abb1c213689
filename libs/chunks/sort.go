package chunks

import "slices"

// SortUnique sorts the chunks of one series by minimum, then maximum time, and drops
// every chunk whose bytes another one with the same time range has too, as replicas
// that store the same data send them. Chunks that compare equal keep their order. It
// works in place and returns the shortened slice.
func SortUnique(cs []AggrChunk) []AggrChunk {
	byTime := func(a, b AggrChunk) int { return a.Compare(&b) }
	if !slices.IsSortedFunc(cs, byTime) {
		slices.SortStableFunc(cs, byTime)
	}
	out := cs[:0]
	for i := range cs {
		c := &cs[i]
		known := false
		// Only the chunks just before it can have the same range.
		for j := len(out) - 1; j >= 0 && !known && out[j].Compare(c) == 0; j-- {
			known = out[j].Equal(c)
		}
		if !known {
			out = append(out, *c)
		}
	}
	clear(cs[len(out):])
	return out
}
