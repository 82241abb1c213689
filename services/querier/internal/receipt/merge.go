package receipt

import (
	"cmp"
	"slices"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// Merge returns the receipt of an answer that was put together from the answers to several requests: what each store cost is
// added up, of times the longest counts, and what several miss alike is said once. The parts stay as they are.
func Merge(parts []promtypes.Receipt) promtypes.Receipt {
	out := promtypes.Receipt{Version: promtypes.ReceiptVersion, Stores: []promtypes.ReceiptStore{}, Missing: []promtypes.ReceiptMissing{}}
	at := map[string]int{}
	for _, p := range parts {
		out.QueuedSeconds = max(out.QueuedSeconds, p.QueuedSeconds)
		out.TookSeconds = max(out.TookSeconds, p.TookSeconds)
		addCounts(&out.Total, p.Total)
		out.Missing = append(out.Missing, p.Missing...)
		for i := range p.Stores {
			s := &p.Stores[i]
			k, known := at[s.Address]
			if !known {
				k = len(out.Stores)
				at[s.Address] = k
				out.Stores = append(out.Stores, promtypes.ReceiptStore{Address: s.Address, State: Answered.String()})
			}
			addStore(&out.Stores[k], s)
		}
	}
	for i := range out.Stores {
		s := &out.Stores[i]
		slices.Sort(s.Blocks)
		s.Blocks = slices.Compact(s.Blocks)
		slices.Sort(s.Warnings)
		s.Warnings = slices.Compact(s.Warnings)
	}
	slices.SortFunc(out.Stores, func(a, b promtypes.ReceiptStore) int { return cmp.Compare(a.Address, b.Address) })
	out.Missing = joined(out.Missing)
	out.Coverage = coverage(out.Missing)
	return out
}

func addCounts(sum *promtypes.ReceiptCounts, n promtypes.ReceiptCounts) {
	sum.Series += n.Series
	sum.Chunks += n.Chunks
	sum.Samples += n.Samples
	sum.Bytes += n.Bytes
	sum.Frames += n.Frames
}

func addStore(sum, s *promtypes.ReceiptStore) {
	sum.Component, sum.LabelSets = s.Component, s.LabelSets
	sum.Requests += s.Requests
	sum.QueuedSeconds = max(sum.QueuedSeconds, s.QueuedSeconds)
	sum.FirstFrameSeconds = max(sum.FirstFrameSeconds, s.FirstFrameSeconds)
	sum.TookSeconds = max(sum.TookSeconds, s.TookSeconds)
	addCounts(&sum.ReceiptCounts, s.ReceiptCounts)
	for name, n := range s.Resolutions {
		if sum.Resolutions == nil {
			sum.Resolutions = map[string]int64{}
		}
		sum.Resolutions[name] += n
	}
	sum.Blocks = append(sum.Blocks, s.Blocks...)
	sum.Warnings = append(sum.Warnings, s.Warnings...)
	sum.Hedged += s.Hedged
	if rank(s.State) > rank(sum.State) {
		sum.State, sum.Error = s.State, s.Error
	}
	addOptional(&sum.CacheHits, s.CacheHits)
	addOptional(&sum.CacheMisses, s.CacheMisses)
	addOptional(&sum.BytesFetched, s.BytesFetched)
}

// addOptional adds n, where there is one.
func addOptional(sum **int64, n *int64) {
	if n == nil {
		return
	}
	if *sum == nil {
		*sum = new(int64)
	}
	**sum += *n
}

// rank is how bad the state of that name is; one that nobody knows is the worst.
func rank(name string) State {
	for s := Answered; s <= Lost; s++ {
		if s.String() == name {
			return s
		}
	}
	return Lost + 1
}
