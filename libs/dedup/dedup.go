// Package dedup makes one series out of the replicas of a series: the same target
// scraped by several Prometheus servers, or one write stored by several receivers.
//
// It works in two steps. SplitOverlaps sorts the chunks of a series, whose replica
// labels are already gone, into as many replicas as are needed so that no two
// chunks of one replica overlap. Merge then merges the replicas' sample iterators
// under one of the functions below. Both steps are pure: the same chunks in the
// same order give the same samples, for a query as well as for compaction.
//
// The functions are:
//
//   - penalty, for replicas that scraped on their own. It stays with one replica
//     until that replica misses samples, and punishes the other one for being
//     slightly off, so that the result has about the density of one replica.
//   - chain, for replicas that hold identical samples. Every timestamp of every
//     replica appears once.
//   - exact, for both. It follows the chunks that miss least, fills their gaps from the others,
//     and never makes a counter step back or a reset appear twice; exact.go has the rule.
//
// Exact needs the chunks themselves, and so there is MergeChunks, which does both steps
// for any of the functions.
package dedup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/downsample"
)

// Func names a way to merge replicas. The text is what flags and requests carry.
type Func string

const (
	// Exact is the default; see the package comment and exact.go.
	Exact Func = "exact"
	// Penalty is for those who need the samples Thanos would choose; see the package comment and penalty.go.
	Penalty Func = "penalty"
	// Chain keeps every distinct timestamp; see the package comment and chain.go.
	Chain Func = "chain"
)

// Funcs returns the names ParseFunc knows, the default first.
func Funcs() []string { return []string{string(Exact), string(Penalty), string(Chain)} }

// ParseFunc returns the function named s. The empty string is not a name: what it
// means (the default here, no replica merging there) is the caller's to say.
func ParseFunc(s string) (Func, error) {
	if !slices.Contains(Funcs(), s) {
		return "", fmt.Errorf("unknown deduplication function %q, known are: %s", s, strings.Join(Funcs(), ", "))
	}
	return Func(s), nil
}

// AdjustsCounter reports whether the PromQL function around a selector makes the
// merge treat float samples as a counter, that is, whether Options.Counter is to be
// set: a function that takes a fall of the value for a counter reset would see one
// each time the merge moves to a replica that lags behind.
func AdjustsCounter(function string) bool {
	switch function {
	case "increase", "rate", "irate", "resets":
		return true
	}
	return false
}

// Options is what a merge function may need to know beside the samples.
type Options struct {
	// Counter says that float samples are a counter whose increases matter. When
	// penalty changes over to a replica that is behind what was already returned,
	// that replica is lifted for good by the difference.
	Counter bool
	// TrueValues says that the resets of a counter are to be seen, as resets() must: penalty and
	// chain then read counters of raw chunks as they are, instead of evening out the resets of each
	// replica before merging. Exact never touches them.
	TrueValues bool
}

// Merge merges the replicas of one series into one iterator, with timestamps
// strictly ascending, by Penalty or Chain; Exact has to see chunks, use MergeChunks. The order of replicas decides ties and must be stable for
// stable results. The iterators must be fresh, each in strictly ascending order;
// the result owns them. With one replica the result is that very iterator, with
// none it is empty.
//
// The result follows the promises of chunkenc.Iterator: Seek to a time at or before
// the current sample stays there, after the end everything returns ValNone. As soon
// as a replica fails the result ends and Err returns that error. It is not safe for
// concurrent use.
//
// Counter reset hints of histograms are kept where two adjacent samples come from
// adjacent samples of one replica, and cleared to unknown elsewhere (gauges stay
// gauges), because they say something about a neighbour that is not there.
func Merge(fn Func, replicas []chunkenc.Iterator, opts Options) chunkenc.Iterator {
	return new(Merger).Merge(fn, replicas, opts)
}

// Merger is Merge with memory that is used again, for a reader that goes through
// many series one after the other. The zero value is ready. Not safe for concurrent
// use.
type Merger struct {
	folds []penaltyIterator
	chain chainIterator
	exact exactIterator

	readers []*downsample.Reader
	its     []chunkenc.Iterator
}

// Merge is like the function Merge. The returned iterator is valid until the next
// call. replicas is not kept.
func (m *Merger) Merge(fn Func, replicas []chunkenc.Iterator, opts Options) chunkenc.Iterator {
	if fn == Exact {
		return failed{err: errors.New("merge replicas: exact deduplication works on chunks, not on samples")}
	}
	switch len(replicas) {
	case 0:
		return chunkenc.NewNopIterator()
	case 1:
		return replicas[0]
	}
	switch fn {
	case Chain:
		m.chain.reset(replicas)
		return &m.chain
	case Penalty:
		return m.fold(replicas, opts)
	}
	return unknown(fn)
}

// fold merges pairwise from the left: ((r0, r1), r2), and so on.
func (m *Merger) fold(replicas []chunkenc.Iterator, opts Options) chunkenc.Iterator {
	n := len(replicas) - 1
	// Sized before the first pointer into it is taken.
	m.folds = slices.Grow(m.folds[:0], n)[:n]
	acc := replicas[0]
	for i := range m.folds {
		m.folds[i].reset(acc, replicas[i+1], opts.Counter)
		acc = &m.folds[i]
	}
	return acc
}
