package blockset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func setOf(spans ...Span) *Set[Span] {
	for i := range spans {
		if spans[i].ID == "" {
			spans[i].ID = fmt.Sprintf("%d/%d-%d", spans[i].Resolution, spans[i].MinTime, spans[i].MaxTime)
		}
	}
	return Group(spans, func(Span) labels.Labels { return labels.FromStrings("a", "b") }, func(s Span) Span { return s })[0]
}

func show(cs []Choice[Span]) string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = fmt.Sprintf("%s@%d-%d", c.Block.ID, c.MinTime, c.MaxTime)
	}
	return strings.Join(out, " ")
}

func TestChooseTakesTheCoarsestAndFillsGaps(t *testing.T) {
	t.Parallel()
	set := setOf(
		Span{MinTime: 0, MaxTime: 100}, Span{MinTime: 100, MaxTime: 200}, Span{MinTime: 200, MaxTime: 300}, Span{MinTime: 300, MaxTime: 400},
		Span{MinTime: 0, MaxTime: 200, Resolution: 5}, Span{MinTime: 250, MaxTime: 350, Resolution: 5},
		Span{MinTime: 50, MaxTime: 150, Resolution: 60},
	)
	for name, tc := range map[string]struct {
		mint, maxt, res int64
		want            string
	}{
		"raw only":                      {120, 220, 0, "0/100-200@120-220 0/200-300@120-220"},
		"raw, one instant":              {200, 200, 0, "0/200-300@200-200"},
		"raw, end is exclusive":         {400, 500, 0, ""},
		"window below the finest":       {120, 130, 4, "0/100-200@120-130"},
		"window between two":            {120, 130, 7, "5/0-200@120-130"},
		"coarsest covers it":            {60, 149, 60, "60/50-150@60-149"},
		"gaps before and after":         {0, 199, 60, "5/0-200@0-199 60/50-150@0-199"},
		"gap between, filled by finest": {150, 349, 60, "5/0-200@150-349 0/200-300@200-249 5/250-350@150-349"},
		"rest after the last":           {300, 399, 5, "5/250-350@300-399 0/300-400@350-399"},
		"all of time":                   {math.MinInt64, math.MaxInt64, 0, "0/0-100@-9223372036854775808-9223372036854775806 0/100-200@-9223372036854775808-9223372036854775806 0/200-300@-9223372036854775808-9223372036854775806 0/300-400@-9223372036854775808-9223372036854775806"},
		"nothing":                       {10, 9, 60, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, show(set.Choose(tc.mint, tc.maxt, tc.res, nil)))
		})
	}
}

func TestChooseReadsABlockThatFillsTwoGapsOnce(t *testing.T) {
	t.Parallel()
	set := setOf(Span{MinTime: 0, MaxTime: 100}, Span{MinTime: 20, MaxTime: 40, Resolution: 5}, Span{MinTime: 60, MaxTime: 80, Resolution: 5})
	require.Equal(t, "0/0-100@0-99 5/20-40@0-99 5/60-80@0-99", show(set.Choose(0, 99, 5, nil)))
}

func TestChooseLeavesOutWhatIsNotKept(t *testing.T) {
	t.Parallel()
	set := setOf(Span{MinTime: 0, MaxTime: 100}, Span{MinTime: 100, MaxTime: 200})
	require.Equal(t, "0/100-200@0-300", show(set.Choose(0, 300, 0, func(s Span) bool { return s.MinTime > 0 })))
}

// TestEveryInstantIsCoveredByTheCoarsestThatHasIt checks choices against the definition, time by time.
func TestEveryInstantIsCoveredByTheCoarsestThatHasIt(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		var spans []Span
		for i := range 1 + rng.IntN(9) {
			start := rng.Int64N(50)
			spans = append(spans, Span{ID: fmt.Sprint(i), MinTime: start, MaxTime: start + 1 + rng.Int64N(20), Resolution: []int64{0, 5, 60}[rng.IntN(3)]})
		}
		set := setOf(spans...)
		mint := rng.Int64N(60)
		maxt := mint + rng.Int64N(20)
		maxRes := []int64{0, 5, 30, 60}[rng.IntN(4)]
		choices := set.Choose(mint, maxt, maxRes, nil)
		for at := mint; at <= maxt; at++ {
			coarsest := int64(-1)
			for _, s := range spans {
				if s.MinTime <= at && at < s.MaxTime && s.Resolution <= maxRes {
					coarsest = max(coarsest, s.Resolution)
				}
			}
			read := int64(-1)
			for _, c := range choices {
				if c.Block.MinTime <= at && at < c.Block.MaxTime && c.MinTime <= at && at <= c.MaxTime {
					read = max(read, c.Block.Resolution)
				}
			}
			require.Equal(t, coarsest, read, "at %d of [%d, %d] up to %d in %+v: %s", at, mint, maxt, maxRes, spans, show(choices))
		}
	}
}

func TestStretchesJoinWhatTouches(t *testing.T) {
	t.Parallel()
	set := setOf(Span{MinTime: 100, MaxTime: 200}, Span{MinTime: 0, MaxTime: 50}, Span{MinTime: 150, MaxTime: 170, Resolution: 5},
		Span{MinTime: 200, MaxTime: 220, Resolution: 5}, Span{MinTime: 221, MaxTime: 230})
	require.Equal(t, []Stretch{{0, 50}, {100, 220}, {221, 230}}, set.Stretches())
}

func TestGroupOrdersSetsByLabels(t *testing.T) {
	t.Parallel()
	ext := []labels.Labels{labels.FromStrings("a", "2"), labels.FromStrings("a", "1", "b", "1"), labels.FromStrings("a", "1"), labels.FromStrings("a", "2")}
	sets := Group([]int{0, 1, 2, 3}, func(i int) labels.Labels { return ext[i] }, func(i int) Span { return Span{ID: fmt.Sprint(i), MinTime: 0, MaxTime: 10} })
	require.Len(t, sets, 3)
	for i := 1; i < len(sets); i++ {
		require.Negative(t, labels.Compare(sets[i-1].External, sets[i].External))
	}
	require.Equal(t, []int{0, 3}, sets[2].Overlapping(9, 20, nil))
	require.Empty(t, sets[2].Overlapping(10, 20, nil))
	require.Equal(t, []int{3}, sets[2].Overlapping(-5, 0, func(i int) bool { return i == 3 }))
}
