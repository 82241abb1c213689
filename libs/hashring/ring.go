package hashring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrImpossible says that a ring cannot place as many replicas as asked for.
var ErrImpossible = errors.New("impossible hashring")

// Node is a member of a ring.
type Node struct {
	// Address is that of its gRPC server, host:port. It alone decides where the node stands.
	Address string
	// CapnProtoAddress is that of its Cap'n Proto server.
	CapnProtoAddress string
	// Zone is the availability zone, "" for none.
	Zone string
}

// Ring maps keys to nodes. It is immutable and safe for concurrent use.
type Ring struct {
	nodes    []Node
	replicas int
	// hashes are the sections of the ring in ascending order; none with hashmod.
	hashes []uint64
	// first is, for each value of the top bits of a key, the first section at or behind the smallest such
	// key: from there the right one is a step or two away.
	first []uint32
	// owners are replicas node indexes for each section, or for each remainder with hashmod.
	owners []uint32
}

// Nodes are the members; owners are indexes into it. It must not be changed.
func (r *Ring) Nodes() []Node { return r.nodes }

// Replicas is how many owners a key has.
func (r *Ring) Replicas() int { return r.replicas }

// Owners returns the nodes that own key, the first replica first. It must not be changed.
func (r *Ring) Owners(key uint64) []uint32 {
	var at int
	if len(r.hashes) == 0 {
		at = int(key % uint64(len(r.nodes)))
	} else {
		at = r.section(key)
	}
	return r.owners[at*r.replicas : (at+1)*r.replicas : (at+1)*r.replicas]
}

// topBits is how many bits of a key the table of first sections is for.
const topBits = 12

// index fills the table of first sections.
func (r *Ring) index() {
	r.first = make([]uint32, 1<<topBits)
	at := 0
	for top := range r.first {
		for at < len(r.hashes) && r.hashes[at] < uint64(top)<<(64-topBits) {
			at++
		}
		r.first[top] = uint32(at)
	}
}

// section is the first one at or behind key, around the end to the first.
func (r *Ring) section(key uint64) int {
	at := int(r.first[key>>(64-topBits)])
	for ; at < len(r.hashes); at++ {
		if r.hashes[at] >= key {
			return at
		}
	}
	return 0
}

// Single returns the ring of one node, for a process that keeps what it gets.
func Single(address string) *Ring {
	return &Ring{nodes: []Node{{Address: address}}, replicas: 1, owners: []uint32{0}}
}

// NewHashmod returns a ring in which replica n of a key belongs to node (key + n) modulo the
// number of nodes, sorted by address. Zones do not count.
func NewHashmod(nodes []Node, replicas int) (*Ring, error) {
	if err := check(nodes, replicas); err != nil {
		return nil, err
	}
	r := &Ring{nodes: slices.Clone(nodes), replicas: replicas}
	slices.SortFunc(r.nodes, func(a, b Node) int { return strings.Compare(a.Address, b.Address) })
	r.owners = make([]uint32, 0, len(nodes)*replicas)
	for i := range r.nodes {
		for n := range replicas {
			// key + n wraps around at 2^64 for the last few keys; the remainder of the sum of
			// remainders is the same for all others, and no router places those keys elsewhere
			// in practice: one in 2^64 / replicas.
			r.owners = append(r.owners, uint32((i+n)%len(r.nodes)))
		}
	}
	return r, nil
}

func check(nodes []Node, replicas int) error {
	if replicas < 1 {
		return fmt.Errorf("%w: replication factor %d", ErrImpossible, replicas)
	}
	if len(nodes) < replicas {
		return fmt.Errorf("%w: %d nodes cannot hold %d replicas of a series", ErrImpossible, len(nodes), replicas)
	}
	seen := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		switch {
		case n.Address == "":
			return fmt.Errorf("%w: a node has no address", ErrImpossible)
		case seen[n.Address]:
			return fmt.Errorf("%w: node %s is listed twice", ErrImpossible, n.Address)
		}
		seen[n.Address] = true
	}
	return nil
}
