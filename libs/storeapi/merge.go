package storeapi

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/chunks"
)

// MergeOptions say what a merge does with trouble.
type MergeOptions struct {
	// OnError decides about stream i, which ended with err. It returns a warning
	// to go on with the other streams, or an error that ends the merge. Nil ends the merge
	// with err.
	OnError func(i int, err error) (warning string, fatal error)
	// KeepDuplicates leaves identical chunks in. The default drops them: streams
	// of the same data, such as replicas of a store, send the same bytes.
	KeepDuplicates bool
}

// Merge joins sorted streams into one. Equal label sets become one series with
// the chunks of all, ordered by minimum and maximum time; of identical
// chunks one stays. The merge owns the streams and closes them.
//
// A stream that returns to a smaller label set is broken: it ends there, with an
// error for OnError, so that it cannot spoil the order of the others.
func Merge(streams []Stream, opts MergeOptions) Stream {
	if opts.OnError == nil {
		opts.OnError = func(_ int, err error) (string, error) { return "", err }
	}
	return &merged{streams: streams, opts: opts}
}

type merged struct {
	streams []Stream
	opts    MergeOptions

	tree *loserTree
	// heads are the current series of each stream; At values are copied because
	// the label set is needed to check the order of the next.
	heads    []Series
	cur      Series
	err      error
	warnings []string
	closed   bool
}

func (m *merged) start() {
	ended := make([]bool, len(m.streams))
	m.heads = make([]Series, len(m.streams))
	for i, s := range m.streams {
		if s.Next() {
			m.heads[i] = *s.At()
			continue
		}
		ended[i] = true
		if !m.finish(i, s.Err()) {
			break
		}
	}
	m.tree = newLoserTree(ended, func(a, b int) bool {
		if c := labels.Compare(m.heads[a].Labels, m.heads[b].Labels); c != 0 {
			return c < 0
		}
		return a < b
	})
}

// finish takes leave of a stream; false means that the merge ends too.
func (m *merged) finish(i int, err error) bool {
	m.warnings = append(m.warnings, m.streams[i].Warnings()...)
	if err == nil {
		return true
	}
	warning, fatal := m.opts.OnError(i, err)
	if fatal != nil {
		m.err = fatal
		return false
	}
	m.warnings = append(m.warnings, warning)
	return true
}

func (m *merged) Next() bool {
	if m.closed || m.err != nil {
		return false
	}
	if m.tree == nil {
		m.start()
	}
	if m.err != nil {
		return false
	}
	w, ok := m.tree.winner()
	if !ok {
		return false
	}
	m.cur = m.heads[w]
	sources := 1
	if !m.advance(w) {
		return false
	}
	for {
		if w, ok = m.tree.winner(); !ok || labels.Compare(m.heads[w].Labels, m.cur.Labels) != 0 {
			break
		}
		if sources == 1 {
			m.cur.Chunks = slices.Clip(m.cur.Chunks) // the frame's memory is shared
		}
		m.cur.Chunks = append(m.cur.Chunks, m.heads[w].Chunks...)
		sources++
		if !m.advance(w) {
			return false
		}
	}
	m.cur.Chunks = orderChunks(m.cur.Chunks, sources > 1, m.opts.KeepDuplicates)
	return true
}

// advance moves the winning stream w on; false means that the merge has failed.
func (m *merged) advance(w int) bool {
	s := m.streams[w]
	if !s.Next() {
		ok := m.finish(w, s.Err())
		m.tree.fix(true)
		return ok
	}
	next := s.At()
	if labels.Compare(next.Labels, m.heads[w].Labels) < 0 {
		ok := m.finish(w, fmt.Errorf("series are not sorted: %s came after %s", next.Labels, m.heads[w].Labels))
		m.tree.fix(true)
		return ok
	}
	m.heads[w] = *next
	m.tree.fix(false)
	return true
}

// orderChunks sorts chunks by time and drops repeated ones. owned says that the
// slice may be changed in place.
func orderChunks(chks []chunks.AggrChunk, owned, keepDuplicates bool) []chunks.AggrChunk {
	if !slices.IsSortedFunc(chks, compareChunks) {
		if !owned {
			chks = slices.Clone(chks)
			owned = true
		}
		slices.SortStableFunc(chks, compareChunks)
	}
	if keepDuplicates || len(chks) < 2 {
		return chks
	}
	for i := 1; i < len(chks); i++ {
		if chks[i-1].MinTime == chks[i].MinTime && chks[i-1].MaxTime == chks[i].MaxTime {
			if !owned {
				chks = slices.Clone(chks)
			}
			return dropDuplicates(chks)
		}
	}
	return chks
}

// dropDuplicates compares each chunk with those kept of the same time range.
func dropDuplicates(chks []chunks.AggrChunk) []chunks.AggrChunk {
	kept := chks[:1]
next:
	for i := 1; i < len(chks); i++ {
		for j := len(kept) - 1; j >= 0 && compareChunks(kept[j], chks[i]) == 0; j-- {
			if kept[j].Equal(&chks[i]) {
				continue next
			}
		}
		kept = append(kept, chks[i])
	}
	return kept
}

func compareChunks(a, b chunks.AggrChunk) int { return a.Compare(&b) }

func (m *merged) At() *Series { return &m.cur }
func (m *merged) Err() error  { return m.err }

func (m *merged) Warnings() []string { return m.warnings }

func (m *merged) Hints() (out []*anypb.Any) {
	for _, s := range m.streams {
		out = append(out, s.Hints()...)
	}
	return out
}

func (m *merged) Close() {
	m.closed = true
	for _, s := range m.streams {
		s.Close()
	}
}
