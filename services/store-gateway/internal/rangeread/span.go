package rangeread

// Span is a run of neighbouring ranges that are read with one request: those with
// the indexes First up to, but without, Last.
type Span struct {
	First, Last int
	Start, End  int64
}

// Coalesce joins n ranges, given by at in ascending order of their starts, as long as
// the gap between two is below maxGap and the bytes from the first start to the last
// end stay within maxLen. A single range may be longer than that.
func Coalesce(n int, at func(i int) (start, end int64), maxGap, maxLen int64) []Span {
	var out []Span
	for i := range n {
		start, end := at(i)
		if k := len(out) - 1; k >= 0 {
			cur := &out[k]
			if start-cur.End < maxGap && max(end, cur.End)-cur.Start <= maxLen {
				cur.End = max(cur.End, end)
				cur.Last = i + 1
				continue
			}
		}
		out = append(out, Span{First: i, Last: i + 1, Start: start, End: end})
	}
	return out
}
