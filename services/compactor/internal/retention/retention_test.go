package retention

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
)

const day = 24 * time.Hour

var now = time.UnixMilli(1000 * day.Milliseconds())

// mk makes a block that ends some time ago.
func mk(n uint64, ago, span time.Duration, resolution int64, labels map[string]string) *plan.Block {
	m := &block.Meta{}
	end := now.Add(-ago)
	m.ULID = blocktest.ID(end, n)
	m.MinTime, m.MaxTime = end.Add(-span).UnixMilli(), end.UnixMilli()
	m.Compaction.Sources = []ulid.ULID{m.ULID}
	m.Thanos.Labels, m.Thanos.Downsample.Resolution = labels, resolution
	return &plan.Block{Meta: m}
}

func TestBlocksGoWhenTheirResolutionsRetentionIsOver(t *testing.T) {
	t.Parallel()
	rules := Rules{Default: Keep{Raw: 10 * day, FiveMinutes: 20 * day}}
	for name, tc := range map[string]struct {
		b    *plan.Block
		gone bool
	}{
		"young raw":      {mk(1, 9*day, time.Hour, block.ResolutionRaw, nil), false},
		"on the edge":    {mk(1, 10*day, time.Hour, block.ResolutionRaw, nil), false},
		"old raw":        {mk(1, 10*day+time.Millisecond, time.Hour, block.ResolutionRaw, nil), true},
		"5m kept longer": {mk(1, 11*day, time.Hour, block.Resolution5m, nil), false},
		"old 5m":         {mk(1, 21*day, time.Hour, block.Resolution5m, nil), true},
		"1h for ever":    {mk(1, 900*day, time.Hour, block.Resolution1h, nil), false},
		"unknown":        {mk(1, 900*day, time.Hour, 17, nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Expired([]*plan.Block{tc.b}, rules, false, nil, now)
			require.Equal(t, tc.gone, len(got) == 1)
			if tc.gone {
				require.Contains(t, got[0].Details(), "exceeding retention of")
			}
			tc.b.Deleting = true
			require.Empty(t, Expired([]*plan.Block{tc.b}, rules, false, nil, now), "it is marked already")
		})
	}
}

func TestFirstMatchingPolicyCounts(t *testing.T) {
	t.Parallel()
	var in []PolicyYAML
	require.NoError(t, yaml.Unmarshal([]byte(`
- {name: short, selector: '{tenant="a"}', resolution_raw: 3d}
- {selector: '{tenant=~"a|b"}', resolution_raw: 5d}
`), &in))
	ps, err := ParsePolicies(in)
	require.NoError(t, err)
	rules := Rules{Default: Keep{Raw: 30 * day}, Policies: ps}
	blocks := []*plan.Block{
		mk(1, 4*day, time.Hour, 0, map[string]string{"tenant": "a"}),
		mk(2, 4*day, time.Hour, 0, map[string]string{"tenant": "b"}),
		mk(3, 6*day, time.Hour, 0, map[string]string{"tenant": "b"}),
		mk(4, 6*day, time.Hour, 0, map[string]string{"tenant": "c"}),
	}
	got := Expired(blocks, rules, false, nil, now)
	require.Len(t, got, 2)
	require.Equal(t, blocks[2], got[0].Block)
	require.Equal(t, "policy 2", got[0].Policy)
	require.Equal(t, blocks[0], got[1].Block)
	require.Equal(t, "short", got[1].Policy)
}

func TestRawDataWaitForTheirDownsampledCopy(t *testing.T) {
	t.Parallel()
	rules := Rules{Default: Keep{Raw: 10 * day, FiveMinutes: 50 * day}}
	raw := mk(1, 20*day, 2*day, 0, nil)
	got := Expired([]*plan.Block{raw}, rules, true, nil, now)
	require.Len(t, got, 1)
	require.Contains(t, got[0].Held, "not downsampled")
	fine := mk(2, 20*day, 2*day, block.Resolution5m, nil)
	fine.Meta.Compaction.Sources = raw.Meta.Compaction.Sources
	require.Empty(t, Expired([]*plan.Block{raw, fine}, rules, true, nil, now)[0].Held)
	require.Empty(t, Expired([]*plan.Block{raw}, rules, false, nil, now)[0].Held, "nobody downsamples")
	raw.NoDownsample = true
	require.Empty(t, Expired([]*plan.Block{raw}, rules, true, nil, now)[0].Held, "it never will be")
}

func TestBacklogIsDownsampledBeforeItGoes(t *testing.T) {
	t.Parallel()
	rules := Rules{Default: Keep{Raw: 10 * day, FiveMinutes: 50 * day}}
	var blocks []*plan.Block
	for n := range uint64(30) {
		blocks = append(blocks, mk(n+1, 100*day-time.Duration(n)*2*time.Hour, 2*time.Hour, 0, nil))
	}
	young := mk(99, 0, 2*time.Hour, 0, nil)
	blocks = append(blocks, young)
	rounds, _ := plan.Simulate(blocks, plan.Options{Downsampling: true, Now: now})
	awaited := plan.NewAwaited(rounds)
	heldBack := 0
	for _, v := range Expired(blocks, rules, true, awaited, now) {
		require.NotEqual(t, young, v.Block)
		if v.Held != "" {
			require.Contains(t, v.Held, "first")
			heldBack++
		}
	}
	require.GreaterOrEqual(t, heldBack, 20, "two days become a block that is downsampled")
	for _, v := range Expired(blocks, rules, false, awaited, now) {
		require.Empty(t, v.Held, "nobody downsamples")
	}
	rules.Default.FiveMinutes = 5 * day
	for _, v := range Expired(blocks, rules, true, awaited, now) {
		require.Empty(t, v.Held, "the coarse data would go even earlier")
	}
}

func TestRetentionThatHidesDataIsRefusedWithAnExplanation(t *testing.T) {
	t.Parallel()
	require.NoError(t, Rules{Default: Keep{Raw: 40 * time.Hour, FiveMinutes: 10 * day, OneHour: time.Hour}}.Validate(true))
	require.NoError(t, Rules{}.Validate(true))
	require.NoError(t, Rules{Default: Keep{Raw: time.Hour}}.Validate(false))
	err := Rules{Default: Keep{Raw: 39 * time.Hour, FiveMinutes: 9 * day}}.Validate(true)
	require.ErrorContains(t, err, "--retention.resolution-raw: 1d15h is too short")
	require.ErrorContains(t, err, "--retention.resolution-5m: 9d is too short")
	require.ErrorContains(t, Rules{Policies: []Policy{{Name: "x", Keep: Keep{Raw: time.Hour}}}}.Validate(true), "x: resolution_raw")
	require.ErrorContains(t, Rules{Default: Keep{OneHour: -time.Hour}}.Validate(true), "negative")
	_, err = ParsePolicies([]PolicyYAML{{Name: "bad", Selector: "{"}})
	require.ErrorContains(t, err, "bad: selector")
}
