package hashring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const sample = `[
  {"hashring": "exact", "tenants": ["a", "b"], "endpoints": ["10.0.0.1:10901"], "external_labels": {"ring": "x"}},
  {"hashring": "glob", "tenants": ["team-*"], "tenant_matcher_type": "glob", "algorithm": "ketama",
   "endpoints": [{"address": "h1:10901", "az": "a"}, {"address": "h2:10901", "capnproto_address": "h2:1", "az": "b"}]},
  {"hashring": "default", "endpoints": ["d:10901"]}
]`

func TestTheFirstRingThatMatchesWins(t *testing.T) {
	t.Parallel()
	cfgs, err := Parse([]byte(sample))
	require.NoError(t, err)
	require.Equal(t, Endpoint{Address: "h1:10901", CapnProtoAddress: "h1:19391", Zone: "a"}, cfgs[1].Endpoints[0])
	require.Equal(t, "h2:1", cfgs[1].Endpoints[1].CapnProtoAddress)
	rings, err := New(cfgs, Settings{Algorithm: AlgorithmHashmod, Replicas: 1})
	require.NoError(t, err)
	for tenant, node := range map[string]string{"a": "10.0.0.1:10901", "b": "10.0.0.1:10901", "c": "d:10901", "": "d:10901"} {
		ring, err := rings.For(tenant)
		require.NoError(t, err)
		require.Equal(t, []string{node}, owners(ring, 1), tenant)
	}
	ring, err := rings.For("team-1")
	require.NoError(t, err)
	require.Len(t, ring.Nodes(), 2)
	require.Equal(t, `{ring="x"}`, rings.ExternalLabels("a").String())
	require.True(t, rings.ExternalLabels("c").IsEmpty())
	require.Len(t, rings.Nodes(), 4)
	require.Equal(t, []Info{{"exact", 1, 2}, {"glob", 2, 1}, {"default", 1, 0}}, rings.Infos())
}

func TestOnlyHashmodReshuffles(t *testing.T) {
	t.Parallel()
	build := func(algorithm, tenants string, nodes ...string) *Rings {
		c := Config{Algorithm: algorithm}
		if tenants != "" {
			c.Tenants = []string{tenants}
		}
		for _, n := range nodes {
			c.Endpoints = append(c.Endpoints, Endpoint{Address: n})
		}
		r, err := New([]Config{c}, Settings{Algorithm: AlgorithmHashmod, Replicas: 1})
		require.NoError(t, err)
		return r
	}
	for name, c := range map[string]struct {
		from, to *Rings
		want     bool
	}{
		"the same":           {build("hashmod", "", "a", "b"), build("hashmod", "", "a", "b"), false},
		"a node more":        {build("hashmod", "", "a", "b"), build("hashmod", "", "a", "b", "c"), true},
		"by default":         {build("", "", "a", "b"), build("", "", "a"), true},
		"other tenants":      {build("hashmod", "x", "a", "b"), build("hashmod", "y", "a", "b"), true},
		"ketama":             {build("ketama", "", "a", "b"), build("ketama", "", "a", "b", "c"), false},
		"another algorithm":  {build("hashmod", "", "a", "b"), build("ketama", "", "a", "b"), true},
		"hashmod from there": {build("ketama", "", "a", "b"), build("hashmod", "", "a", "b"), true},
	} {
		require.Equal(t, c.want, c.to.Reshuffles(c.from), name)
	}
}

func TestATenantWithoutRingIsAnError(t *testing.T) {
	t.Parallel()
	rings, err := New([]Config{{Tenants: []string{"a"}, Endpoints: []Endpoint{{Address: "x"}}}}, Settings{Replicas: 1})
	require.NoError(t, err)
	_, err = rings.For("b")
	require.ErrorIs(t, err, ErrNoRing)
}

func TestShuffleOverridesChooseTheSize(t *testing.T) {
	t.Parallel()
	cfgs, err := Parse([]byte(`[{"algorithm": "ketama", "endpoints": ["a","b","c","d","e"], "shuffle_sharding_config": {
		"shard_size": 2, "overrides": [
			{"shard_size": 3, "tenants": ["big"]},
			{"shard_size": 4, "tenants": ["huge-*"], "tenant_matcher_type": "glob"},
			{"shard_size": 5}]}}]`))
	require.NoError(t, err)
	rings, err := New(cfgs, Settings{Replicas: 1})
	require.NoError(t, err)
	for tenant, n := range map[string]int{"small": 2, "big": 3, "huge-1": 4} {
		for range 2 { // the second answer comes from the cache
			ring, err := rings.For(tenant)
			require.NoError(t, err)
			require.Len(t, ring.Nodes(), n, tenant)
		}
	}
}

func TestBadConfigurationsAreRefusedByNameAndReason(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                            "line 1",
		`[]`:                          "no hashring in the list",
		"[\n{\"hashring\": 1}]":       "line 2",
		`[{"endpoints": [{}]}]`:       "no address",
		`[{"endpoints": ["a"]}] more`: "something follows",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		`[{"hashring": "r", "endpoints": ["a"], "algorithm": "x"}]`:                                                       `hashring 0 "r": algorithm "x"`,
		`[{"endpoints": ["a"], "tenants": ["[" ], "tenant_matcher_type": "glob"}]`:                                        "syntax error in pattern",
		`[{"endpoints": ["a"], "tenant_matcher_type": "regex"}]`:                                                          "neither exact nor glob",
		`[{"endpoints": ["a"], "shuffle_sharding_config": {"shard_size": 1}}]`:                                            "shuffle sharding needs algorithm ketama",
		`[{"endpoints": ["a"], "algorithm": "ketama", "shuffle_sharding_config": {"shard_size": 2}}]`:                     "shard_size 2",
		`[{"endpoints": ["a"], "algorithm": "ketama", "shuffle_sharding_config": {"shard_size": 1, "overrides": [{}]}}]`:  "override 0: shard_size 0",
		`[{"endpoints": ["a"], "algorithm": "ketama", "shuffle_sharding_config": {"shard_size": -1, "overrides": [{}]}}]`: "shard_size -1",
	} {
		cfgs, err := Parse([]byte(text))
		require.NoError(t, err, text)
		_, err = New(cfgs, Settings{Replicas: 1})
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`[{"endpoints": [{"address": "a", "az": "z"}, "b"], "algorithm": "ketama", "shuffle_sharding_config": {"shard_size": 1}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfgs, err := Parse(data)
		if err != nil {
			return
		}
		total := 0
		for _, c := range cfgs {
			total += len(c.Endpoints)
		}
		if total > 20 {
			return // large rings only take time
		}
		rings, err := New(cfgs, Settings{Algorithm: AlgorithmKetama, Replicas: 2})
		if err != nil {
			return
		}
		ring, err := rings.For("tenant")
		if err != nil {
			return
		}
		if n := len(ring.Owners(42)); n != 2 {
			t.Fatalf("%d owners", n)
		}
	})
}
