package rulefile

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// MaySelect reports whether a selector may select series of a name: of a rule's result, for one. Pure.
func MaySelect(ms []*labels.Matcher, name string) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name == labels.MetricName && !m.Matches(name) })
}
