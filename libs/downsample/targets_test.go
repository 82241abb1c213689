package downsample

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDataIsDownsampledToWhatItIsLongEnoughForAndDoesNotHaveYet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		from, span int64
		there      []int64
		want       []int64
	}{
		{"too short", 0, MinSpan5m - 1, nil, nil},
		{"raw", 0, MinSpan5m, nil, []int64{Resolution5m}},
		{"raw, long", 0, MinSpan1h, nil, []int64{Resolution5m, Resolution1h}},
		{"raw, long, 1h is there", 0, MinSpan1h, []int64{Resolution1h}, []int64{Resolution5m}},
		{"raw, long, 5m is there", 0, MinSpan1h, []int64{Resolution5m}, nil},
		{"5m, too short", Resolution5m, MinSpan1h - 1, nil, nil},
		{"5m", Resolution5m, MinSpan1h, []int64{Resolution5m}, []int64{Resolution1h}},
		{"5m, 1h is there", Resolution5m, MinSpan1h, []int64{Resolution1h}, nil},
		{"1h", Resolution1h, 10 * MinSpan1h, nil, nil},
	} {
		require.Equal(t, tt.want, Targets(tt.from, tt.span, func(r int64) bool { return slices.Contains(tt.there, r) }), tt.name)
	}
}
