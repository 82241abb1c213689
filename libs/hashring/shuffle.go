package hashring

import (
	"crypto/md5" //nolint:gosec // not for secrecy: the seed is part of the contract
	"encoding/binary"
	"fmt"
	"math/rand" //nolint:depguard // shards are drawn from its generator, in every release and program
	"slices"
)

// ShuffleConfig gives each tenant a part of a ring only, so that a tenant who brings nodes down
// does not bring down everybody's.
type ShuffleConfig struct {
	// ShardSize is how many nodes a tenant has, rounded up to the same number in each zone; 0
	// is all of them.
	ShardSize int
	// ZoneAwarenessDisabled takes the nodes of all zones together.
	ZoneAwarenessDisabled bool
}

// Shard returns the part of a ketama ring that belongs to a tenant. It is the same wherever and
// whenever it is computed.
func Shard(nodes []Node, replicas int, tenant string, cfg ShuffleConfig) (*Ring, error) {
	return shard(nodes, replicas, SectionsPerNode, tenant, cfg)
}

func shard(nodes []Node, replicas, sections int, tenant string, cfg ShuffleConfig) (*Ring, error) {
	if cfg.ShardSize > len(nodes) {
		return nil, fmt.Errorf("%w: shard_size %d of tenant %q is more than the %d nodes there are", ErrImpossible, cfg.ShardSize, tenant, len(nodes))
	}
	var zones []string
	for _, n := range nodes {
		if cfg.ZoneAwarenessDisabled {
			zones = []string{""}
			break
		}
		if !slices.Contains(zones, n.Zone) {
			zones = append(zones, n.Zone)
		}
	}
	perZone := (cfg.ShardSize + len(zones) - 1) / len(zones)
	places := placesOf(nodes, sections)
	chosen := make([]bool, len(nodes))
	for _, z := range zones {
		member := func(n uint32) bool { return cfg.ZoneAwarenessDisabled || nodes[n].Zone == z }
		seed := tenant
		if !cfg.ZoneAwarenessDisabled {
			seed += "\x00" + z
		}
		if err := draw(places, perZone, seed, chosen, member); err != nil {
			return nil, fmt.Errorf("%w for tenant %q in zone %q", err, tenant, z)
		}
	}
	part := make([]Node, 0, cfg.ShardSize)
	for i, c := range chosen {
		if c {
			part = append(part, nodes[i])
		}
	}
	return newKetama(part, replicas, sections)
}

// draw chooses n nodes at places that a generator seeded by seed points to.
func draw(places []place, n int, seed string, chosen []bool, member func(uint32) bool) error {
	sum := md5.Sum([]byte(seed)) //nolint:gosec // see above
	// Routers agree on shards only if they draw the same numbers: the source of the first
	// version of math/rand, whose numbers never change.
	rnd := rand.New(rand.NewSource(int64(binary.BigEndian.Uint64(sum[:8])))) //nolint:gosec // see above
	for range n {
		key := rnd.Uint64()
		start, _ := slices.BinarySearchFunc(places, key, func(p place, k uint64) int {
			switch {
			case p.hash < k:
				return -1
			case p.hash > k:
				return 1
			}
			return 0
		})
		found := false
		for i := range places {
			p := places[(start+i)%len(places)]
			if !chosen[p.node] && member(p.node) {
				chosen[p.node], found = true, true
				break
			}
		}
		if !found {
			return fmt.Errorf("%w: fewer than %d nodes to choose from", ErrImpossible, n)
		}
	}
	return nil
}
