package api

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

func TestRetentionIsToldAsItFallsOnEachGroup(t *testing.T) {
	t.Parallel()
	meta := func(tenant, replica string) *block.Meta {
		m := &block.Meta{}
		m.Thanos.Labels = map[string]string{"tenant": tenant, "replica": replica}
		return m
	}
	rules := retention.Rules{
		Default: retention.Keep{Raw: 48 * time.Hour, OneHour: time.Hour},
		Policies: []retention.Policy{{
			Name: "rich", Keep: retention.Keep{FiveMinutes: time.Minute},
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "tenant", "(?i)GOLD.*"), labels.MustNewMatcher(labels.MatchEqual, "replica", "a")},
		}},
	}
	got := NewRetention(rules, []*block.Meta{meta("gold1", "a"), meta("gold1", "b"), meta("tin", "a"), meta("gold1", "a")})
	require.Equal(t, []Policy{
		{Name: "rich", Selector: `{tenant=~"(?i)GOLD.*",replica="a"}`, FiveMinutesSeconds: 60},
		{Name: "default", RawSeconds: 172800, OneHourSeconds: 3600},
	}, got.Policies)
	require.Equal(t, []Group{
		{Labels: map[string]string{"tenant": "gold1", "replica": "a"}, Policy: 0},
		{Labels: map[string]string{"tenant": "gold1", "replica": "b"}, Policy: 1},
		{Labels: map[string]string{"tenant": "tin", "replica": "a"}, Policy: 1},
	}, got.Groups, "each once, and the selector is read as the compactor reads it")
	require.Equal(t, []Group{}, NewRetention(rules, nil).Groups, "no block, no null")
}
