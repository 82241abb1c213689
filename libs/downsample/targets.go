package downsample

// Targets returns the resolutions to which data of resolution from, 0 for raw, that spans span milliseconds
// is to be downsampled, ascending. covered tells whether all of it exists at a resolution already. Pure.
//
// Data of 1h is made of 5m: where 5m exists already, it is for that block to be downsampled further.
func Targets(from, span int64, covered func(resolution int64) bool) []int64 {
	var out []int64
	if from == 0 {
		if span < MinSpan5m || covered(Resolution5m) {
			return nil
		}
		out = append(out, Resolution5m)
	}
	if from != Resolution1h && span >= MinSpan1h && !covered(Resolution1h) {
		out = append(out, Resolution1h)
	}
	return out
}
