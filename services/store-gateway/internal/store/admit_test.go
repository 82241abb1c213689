package store

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func many(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i*7919113)
	}
	return b.String() + "x"
}

// It is not parallel: it looks at what is allocated meanwhile.
func TestExpressionsCostNoMoreThanTheyAreTakenFor(t *testing.T) { //nolint:paralleltest // see above
	for name, expr := range map[string]string{
		"alternatives": many(3000, "app-%d|"), "wildcards": many(2000, "app-%d.*|"), "automaton": many(1500, "(.*%x.*[a-f]{1,3}.)|"),
		"classes": strings.Repeat(`\pL`, 500), "fold": "(?i)" + strings.Repeat("abkx.*", 2000), "counted": strings.Repeat(".{1000}", 40),
		"nested": strings.Repeat("((a[bc]){30}){30}", 20), "star": strings.Repeat(".+", 5000), "escaped": many(3000, `app\.%d|`),
	} {
		m := &thanos.LabelMatcher{Type: thanos.LabelMatcher_RE, Name: "pod", Value: expr}
		estimate, counted := matcherBytes(m)
		if counted {
			estimate = max(estimate, expandedBytes(expr))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		matcher, err := labels.NewMatcher(labels.MatchRegexp, "pod", expr)
		require.NoError(t, err, name)
		matcher.Matches("app-3-5ccdxxxxxxxxxxxxxxxxxxxxxxxxxx")
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, int64(after.TotalAlloc-before.TotalAlloc), estimate+1<<20, name)
	}
}

func TestLongListsOfNamesAreCheap(t *testing.T) {
	t.Parallel()
	n, _ := matcherBytes(&thanos.LabelMatcher{Type: thanos.LabelMatcher_RE, Value: many(2000, `node-%d\.example\.com|`)})
	require.Less(t, n, int64(16<<20))
	n, _ = matcherBytes(&thanos.LabelMatcher{Type: thanos.LabelMatcher_EQ, Value: strings.Repeat("[", 1<<20)})
	require.Zero(t, n)
}

func TestAnExpressionThatIsTooLargeIsRefusedBeforeItIsCompiled(t *testing.T) {
	t.Parallel()
	s := New(Config{}, budget.New(10<<20, nil), nil, nil)
	for expr, says := range map[string]string{
		strings.Repeat("[ab]", 1000):   `memory budget: the expression of pod=~"[ab][ab]`,
		"((a{30}){30}[ab]{1000}){1}":   `memory budget: the expression of pod=~"((a{30}){30}[ab]{1000}){1}" of {job="x", pod=~"((a{30}){30}[ab]{1000}){1}"} needs`,
		strings.Repeat(`\pL`, 1000):    "the limit is 10485760 bytes",
		many(20000, "some.*thing%d.*"): "(4",
	} {
		_, err := s.admit(t.Context(), []*thanos.LabelMatcher{{Name: "job", Value: "x"}, {Type: thanos.LabelMatcher_RE, Name: "pod", Value: expr}})
		require.ErrorIs(t, err, storeapi.ErrLimit)
		require.ErrorContains(t, err, says)
		require.Less(t, len(err.Error()), 1500)
		require.Zero(t, s.budget.Used())
	}
	res, err := s.admit(t.Context(), []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "pod", Value: "app-.*|x[0-9]+"}})
	require.NoError(t, err)
	res.Release()
}
