package hashring

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// SectionsPerNode is how many places each node has on a ring. It is part of the contract.
const SectionsPerNode = 1000

// NewKetama returns a consistent hash ring: when a node comes or goes, only the keys it owns
// change their owner.
//
// Section i of a node, from 1 on, stands at xxhash64 of "<address>:<i>". The replicas of a key
// are found clockwise from the first section at or behind it. With two zones or more a node is passed
// over while its zone holds replicas and more of them than the emptiest zone.
func NewKetama(nodes []Node, replicas int) (*Ring, error) {
	return newKetama(nodes, replicas, SectionsPerNode)
}

func newKetama(nodes []Node, replicas, sections int) (*Ring, error) {
	if err := check(nodes, replicas); err != nil {
		return nil, err
	}
	r := &Ring{nodes: slices.Clone(nodes), replicas: replicas}
	places := placesOf(r.nodes, sections)
	r.hashes = make([]uint64, len(places))
	for i, p := range places {
		r.hashes[i] = p.hash
	}
	w := newWalk(r.nodes, replicas)
	r.owners = make([]uint32, 0, len(places)*replicas)
	for i := range places {
		owners, err := w.from(places, i)
		if err != nil {
			return nil, err
		}
		r.owners = append(r.owners, owners...)
	}
	r.index()
	return r, nil
}

// place is one section.
type place struct {
	hash uint64
	node uint32
}

func placesOf(nodes []Node, sections int) []place {
	places := make([]place, 0, len(nodes)*sections)
	var b []byte
	for i, n := range nodes {
		b = append(append(b[:0], n.Address...), ':')
		head := len(b)
		for s := 1; s <= sections; s++ {
			b = strconv.AppendInt(b[:head], int64(s), 10)
			places = append(places, place{hash: xxhash.Sum64(b), node: uint32(i)})
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.node, b.node))
	})
	return places
}

// walk finds owners around a ring.
type walk struct {
	zoneOf   []int // of each node
	zones    []string
	replicas int
	inZone   []int  // replicas placed in each zone
	taken    []bool // nodes
	owners   []uint32
}

func newWalk(nodes []Node, replicas int) *walk {
	w := &walk{zoneOf: make([]int, len(nodes)), replicas: replicas, taken: make([]bool, len(nodes))}
	for i, n := range nodes {
		z := slices.Index(w.zones, n.Zone)
		if z < 0 {
			z = len(w.zones)
			w.zones = append(w.zones, n.Zone)
		}
		w.zoneOf[i] = z
	}
	w.inZone = make([]int, len(w.zones))
	return w
}

// from returns the owners of the section at start; the slice is reused by the next call.
func (w *walk) from(places []place, start int) ([]uint32, error) {
	clear(w.taken)
	clear(w.inZone)
	w.owners = w.owners[:0]
	idle := 0 // sections passed since the last owner was found
	for at := start; len(w.owners) < w.replicas; at++ {
		if at == len(places) {
			at = 0
		}
		// What is passed over once more is passed over for ever.
		if idle++; idle > len(places) {
			return nil, fmt.Errorf("%w: %d replicas cannot be spread evenly over zones %q: no more than %d find a place",
				ErrImpossible, w.replicas, w.zones, len(w.owners))
		}
		node := places[at].node
		if w.taken[node] || w.crowded(w.zoneOf[node]) {
			continue
		}
		w.taken[node] = true
		w.inZone[w.zoneOf[node]]++
		w.owners = append(w.owners, node)
		idle = 0
	}
	return w.owners, nil
}

// crowded reports whether a zone has to wait for others to catch up.
func (w *walk) crowded(zone int) bool {
	if len(w.zones) < 2 || w.inZone[zone] == 0 {
		return false
	}
	return w.inZone[zone] > slices.Min(w.inZone)
}
