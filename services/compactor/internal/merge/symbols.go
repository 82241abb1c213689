package merge

import (
	"context"
	"fmt"
	"slices"

	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// symbols are the strings of all sources, numbered in their order, so that comparing
// numbers is comparing strings.
type symbols struct {
	strings []string
}

// refs translates one source's references to numbers of symbols.
type refs struct {
	list   []uint32          // by reference, where these count from 0
	sparse map[uint32]uint32 // by reference, where these are offsets
}

func (r *refs) of(ref uint32) (uint32, bool) {
	if r.sparse != nil {
		id, ok := r.sparse[ref]
		return id, ok
	}
	if int(ref) >= len(r.list) {
		return 0, false
	}
	return r.list[ref], true
}

// readSymbols reads the symbols of all sources, one source after the other.
func readSymbols(ctx context.Context, sources []*read.Source) (*symbols, []refs, error) {
	known := map[string]uint32{}
	var all []string
	out := make([]refs, len(sources))
	for i, s := range sources {
		r := &out[i]
		err := s.Symbols(ctx, func(ref uint32, symbol string) error {
			id, ok := known[symbol]
			if !ok {
				id = uint32(len(all))
				known[symbol] = id
				all = append(all, symbol)
			}
			switch {
			case r.sparse != nil:
				r.sparse[ref] = id
			case int(ref) == len(r.list):
				r.list = append(r.list, id)
			case len(r.list) == 0:
				r.sparse = map[uint32]uint32{ref: id}
			default:
				return fmt.Errorf("symbol reference %d follows %d", ref, len(r.list)-1)
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	clear(known)

	order := make([]uint32, len(all))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		if all[a] < all[b] {
			return -1
		}
		return 1
	})
	rank := make([]uint32, len(all))
	sorted := make([]string, len(all))
	for i, id := range order {
		rank[id] = uint32(i)
		sorted[i] = all[id]
	}
	for i := range out {
		for k, id := range out[i].list {
			out[i].list[k] = rank[id]
		}
		for ref, id := range out[i].sparse {
			out[i].sparse[ref] = rank[id]
		}
	}
	return &symbols{strings: sorted}, out, nil
}
