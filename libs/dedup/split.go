package dedup

// SplitOverlaps sorts the chunks of one series into replicas: each chunk goes to
// the first replica whose last chunk ends before the new one starts, or opens a new
// replica. It is how replicas are told apart once their labels have been removed.
//
// chunks must be sorted by minimum time. bounds returns the Unix milliseconds of a
// chunk's first and last sample, both inclusive. Within each replica of the result
// chunks keep their order and do not overlap.
//
// Without overlaps the result is chunks itself as the only replica, not copied; else
// the replicas share one new array. Cost: O(len(chunks) × replicas).
func SplitOverlaps[C any](chunks []C, bounds func(*C) (mint, maxt int64)) [][]C {
	if len(chunks) == 0 {
		return nil
	}
	// Few series have more replicas than this; ends then costs nothing.
	var arr [8]int64
	var arrSizes [8]int
	ends, sizes := arr[:0], arrSizes[:0]
	for i := range chunks {
		mint, maxt := bounds(&chunks[i])
		r := place(ends, mint)
		if r == len(ends) {
			ends, sizes = append(ends, maxt), append(sizes, 0)
		}
		ends[r] = maxt
		sizes[r]++
	}
	if len(ends) == 1 {
		return [][]C{chunks}
	}

	// The second pass repeats the decisions of the first, now that sizes are known.
	all := make([]C, len(chunks))
	out := make([][]C, len(sizes))
	off := 0
	for r, n := range sizes {
		out[r] = all[off : off : off+n]
		off += n
	}
	ends = ends[:0]
	for i := range chunks {
		mint, maxt := bounds(&chunks[i])
		r := place(ends, mint)
		if r == len(ends) {
			ends = append(ends, maxt)
		}
		ends[r] = maxt
		out[r] = append(out[r], chunks[i])
	}
	return out
}

// place returns the first replica that ends before mint, len(ends) when none does.
func place(ends []int64, mint int64) int {
	for r, end := range ends {
		if end < mint {
			return r
		}
	}
	return len(ends)
}
