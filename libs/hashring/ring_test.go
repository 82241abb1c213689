package hashring

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand" //nolint:depguard // the generator under test
	"os"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

func TestKeyIsThatOfEveryOtherRouter(t *testing.T) {
	t.Parallel()
	require.Equal(t, uint64(2721383669947386403), Key("tenant", "pod", "nginx"))
	require.Equal(t, uint64(15248111468711021632), Key("tenant", "pod", "thanos"))
	require.Equal(t, uint64(13960000820273356592), Key("tenant", "__name__", "up", "instance", "a:9090", "job", "x"))
	require.Equal(t, uint64(5403005102819186059), xxhash.Sum64String("node-1:1"))
	require.Equal(t, uint64(15971319833040714544), xxhash.Sum64String("node-1:1000"))
}

func three() []Node { return []Node{{Address: "node-1"}, {Address: "node-2"}, {Address: "node-3"}} }

func owners(r *Ring, key uint64) []string {
	var out []string
	for _, n := range r.Owners(key) {
		out = append(out, r.Nodes()[n].Address)
	}
	return out
}

func TestOwnersOfKnownSeries(t *testing.T) {
	t.Parallel()
	nginx, thanos := Key("tenant", "pod", "nginx"), Key("tenant", "pod", "thanos")
	up := Key("tenant", "__name__", "up", "instance", "a:9090", "job", "x")

	ring, err := NewKetama(three(), 3)
	require.NoError(t, err)
	require.Equal(t, []string{"node-1", "node-2", "node-3"}, owners(ring, nginx))
	require.Equal(t, []string{"node-3", "node-2", "node-1"}, owners(ring, thanos))
	require.Equal(t, []string{"node-1", "node-2", "node-3"}, owners(ring, up))

	small, err := newKetama(three(), 3, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"node-2", "node-1", "node-3"}, owners(small, nginx))

	mod, err := NewHashmod([]Node{{Address: "node-3"}, {Address: "node-1"}, {Address: "node-2"}}, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"node-2"}, owners(mod, nginx))
	require.Equal(t, []string{"node-2"}, owners(mod, thanos))
	require.Equal(t, []string{"node-3"}, owners(mod, up))
}

func TestOwnersAreThoseRecorded(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/hashrings.json")
	require.NoError(t, err)
	var cases []struct {
		Algorithm string     `json:"algorithm"`
		Replicas  int        `json:"replication_factor"`
		Endpoints []Endpoint `json:"endpoints"`
		Series    []struct {
			Tenant string            `json:"tenant"`
			Labels map[string]string `json:"labels"`
			Nodes  []string          `json:"nodes"`
		} `json:"series"`
	}
	require.NoError(t, json.Unmarshal(raw, &cases))
	require.Len(t, cases, 6)
	for i, c := range cases {
		rings, err := New([]Config{{Endpoints: c.Endpoints, Algorithm: c.Algorithm}}, Settings{Replicas: c.Replicas})
		require.NoError(t, err)
		for _, s := range c.Series {
			var parts []string
			for name, value := range s.Labels {
				parts = append(parts, name+"\x00"+value)
			}
			slices.Sort(parts)
			b := AppendPart(nil, s.Tenant)
			for _, p := range parts {
				name, value, _ := cut(p)
				b = AppendPart(AppendPart(b, name), value)
			}
			ring, err := rings.For(s.Tenant)
			require.NoError(t, err)
			require.Equal(t, s.Nodes, owners(ring, xxhash.Sum64(b)), "case %d, %s %v", i, s.Tenant, s.Labels)
		}
	}
}

func cut(s string) (string, string, bool) {
	for i := range len(s) {
		if s[i] == 0 {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func TestKetamaMovesOnlyTheKeysOfANewNode(t *testing.T) {
	t.Parallel()
	before, err := NewKetama(three(), 1)
	require.NoError(t, err)
	after, err := NewKetama(append(three(), Node{Address: "node-4"}), 1)
	require.NoError(t, err)
	moved := 0
	for i := range 10_000 {
		key := Key("t", "i", fmt.Sprint(i))
		a, b := owners(before, key)[0], owners(after, key)[0]
		if a != b {
			require.Equal(t, "node-4", b)
			moved++
		}
	}
	require.InDelta(t, 2500, moved, 400)
}

func TestReplicasAreSpreadOverZones(t *testing.T) {
	t.Parallel()
	var nodes []Node
	for i := range 9 {
		nodes = append(nodes, Node{Address: fmt.Sprintf("n%d", i), Zone: fmt.Sprintf("z%d", i%3)})
	}
	ring, err := NewKetama(nodes, 3)
	require.NoError(t, err)
	for i := range 1000 {
		zones := map[string]bool{}
		for _, o := range ring.Owners(rand.New(rand.NewSource(int64(i))).Uint64()) {
			zones[nodes[o].Zone] = true
		}
		require.Len(t, zones, 3)
	}
}

func TestImpossibleRingsAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	zones := func(sizes ...int) (out []Node) {
		for z, n := range sizes {
			for i := range n {
				out = append(out, Node{Address: fmt.Sprintf("n-%d-%d", z, i), Zone: fmt.Sprintf("z%d", z)})
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		nodes    []Node
		replicas int
		algo     string
		want     string
	}{
		"fewer nodes than replicas":          {three(), 4, AlgorithmKetama, "3 nodes cannot hold 4 replicas"},
		"fewer nodes than replicas, hashmod": {three(), 4, AlgorithmHashmod, "3 nodes cannot hold 4 replicas"},
		"zones that can never be even":       {zones(1, 5), 4, AlgorithmKetama, "cannot be spread evenly over zones"},
		"no replicas":                        {three(), 0, AlgorithmKetama, "replication factor 0"},
		"a node twice":                       {append(three(), Node{Address: "node-1"}), 2, AlgorithmKetama, "node-1 is listed twice"},
		"a node without address":             {[]Node{{}}, 1, AlgorithmHashmod, "no address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			build := NewKetama
			if c.algo == AlgorithmHashmod {
				build = NewHashmod
			}
			_, err := build(c.nodes, c.replicas)
			require.ErrorIs(t, err, ErrImpossible)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestShardsDrawFromThePinnedGenerator(t *testing.T) {
	t.Parallel()
	// Should these numbers ever change, routers of two builds would disagree.
	rnd := rand.New(rand.NewSource(1))
	require.Equal(t, uint64(5577006791947779410), rnd.Uint64())
	require.Equal(t, uint64(8674665223082153551), rnd.Uint64())
}

func TestAShardHasItsSizeAndStays(t *testing.T) {
	t.Parallel()
	var nodes []Node
	for i := range 12 {
		nodes = append(nodes, Node{Address: fmt.Sprintf("n%02d", i), Zone: fmt.Sprintf("z%d", i%3)})
	}
	cfg := ShuffleConfig{ShardSize: 4}
	seen := map[string]bool{}
	for i := range 20 {
		tenant := fmt.Sprintf("tenant-%d", i)
		a, err := Shard(nodes, 3, tenant, cfg)
		require.NoError(t, err)
		b, err := Shard(nodes, 3, tenant, cfg)
		require.NoError(t, err)
		require.Equal(t, a.Nodes(), b.Nodes())
		require.Len(t, a.Nodes(), 6, "four over three zones is two in each")
		perZone := map[string]int{}
		for _, n := range a.Nodes() {
			perZone[n.Zone]++
		}
		require.Equal(t, map[string]int{"z0": 2, "z1": 2, "z2": 2}, perZone)
		seen[fmt.Sprint(a.Nodes())] = true
	}
	require.Greater(t, len(seen), 5, "tenants have different shards")

	flat, err := Shard(nodes, 3, "t", ShuffleConfig{ShardSize: 4, ZoneAwarenessDisabled: true})
	if err == nil {
		require.Len(t, flat.Nodes(), 4)
	} else {
		require.ErrorIs(t, err, ErrImpossible)
	}
	_, err = Shard(nodes, 3, "t", ShuffleConfig{ShardSize: 13})
	require.ErrorContains(t, err, "shard_size 13")
}

func TestASectionIsTheFirstAtOrBehindItsKey(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 40} {
		var nodes []Node
		for i := range n {
			nodes = append(nodes, Node{Address: fmt.Sprint("node-", i)})
		}
		r, err := NewKetama(nodes, 1)
		require.NoError(t, err)
		keys := []uint64{0, 1, math.MaxUint64}
		for _, h := range r.hashes {
			keys = append(keys, h-1, h, h+1)
		}
		for _, k := range keys {
			want, _ := slices.BinarySearch(r.hashes, k)
			require.Equal(t, want%len(r.hashes), r.section(k), "%d nodes, key %d", n, k)
		}
	}
}
