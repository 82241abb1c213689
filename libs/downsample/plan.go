package downsample

// samplesPerChunk is how many windows one chunk of aggregates holds at most, about.
const samplesPerChunk = 140

// rawSpacing is the distance of raw samples, in milliseconds, on which the estimate
// of a series' completeness rests. Samples that are closer make it no more than complete.
const rawSpacing = 60 * 1000

// windowEnd returns the last millisecond of t's window. Windows are aligned to
// multiples of the resolution, also before 1970.
func windowEnd(t, resolution int64) int64 {
	m := t % resolution
	if m < 0 {
		m += resolution
	}
	return t - m + resolution - 1
}

// chunkCount returns into how many chunks to cut a series of n samples, spaced about
// spacing, between mint and maxt.
//
// The windows to come are estimated from the time covered and from how many of the
// samples that fit into it are there; the number is the smallest that keeps chunks at
// samplesPerChunk or below. Integer divisions are part of the rule: other numbers
// would cut chunks elsewhere.
func chunkCount(mint, maxt, spacing, resolution int64, n int) int {
	windows := 1
	if maxt > mint {
		fullness := min(1, float64(n)/(float64(maxt-mint)/float64(spacing)))
		windows = int(float64((maxt-mint)/resolution)*fullness) + 1
	}
	// Smallest x with windows/x <= samplesPerChunk.
	return windows/(samplesPerChunk+1) + 1
}
