package rulefile

import (
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

func TestASelectorMaySelectWhatItsMatchersOfTheNameLetThrough(t *testing.T) {
	t.Parallel()
	for selector, want := range map[string]bool{
		`up`: true, `{__name__="up"}`: true, `{job="a"}`: true, `{__name__=~"u.", job="a"}`: true, `{__name__!="down"}`: true,
		`down`: false, `{__name__!="up", job="a"}`: false, `{__name__=~"u.", __name__!~"up|x"}`: false,
	} {
		ms, err := parser.ParseMetricSelector(selector)
		require.NoError(t, err)
		require.Equal(t, want, MaySelect(ms, "up"), selector)
	}
}
