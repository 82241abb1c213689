package store

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// merger joins sorted streams of blocks. Unlike storeapi.Merge it lets go of a stream's current
// series only when the merged one was used, for the streams fill their memory anew.
type merger struct {
	streams []*blockread.Stream
	// onEnd is told about each stream that ends; an error ends the merge.
	onEnd func(*blockread.Stream) error

	heap []int // indexes of streams by current label set, then index
	used []int // streams whose current series make up the merged one
	cur  blockread.Item
	own  []chunks.AggrChunk
}

// start moves all streams to their first series.
func (m *merger) start() error {
	for i := range m.streams {
		if err := m.advance(i); err != nil {
			return err
		}
	}
	return nil
}

// advance moves stream i on and puts it back among the others.
func (m *merger) advance(i int) error {
	if !m.streams[i].Next() {
		err := m.onEnd(m.streams[i])
		m.streams[i].Close() // its memory is of use to others
		return err
	}
	m.heap = append(m.heap, i)
	m.up(len(m.heap) - 1)
	return nil
}

// next makes the next series; nil at the end. It is valid until the call after.
func (m *merger) next() (*blockread.Item, error) {
	for _, i := range m.used {
		if err := m.advance(i); err != nil {
			return nil, err
		}
	}
	m.used = m.used[:0]
	if len(m.heap) == 0 {
		return nil, nil
	}
	first := m.pop()
	m.used = append(m.used, first)
	m.cur = *m.streams[first].At()
	for len(m.heap) > 0 && labels.Equal(m.streams[m.heap[0]].At().Labels, m.cur.Labels) {
		i := m.pop()
		if len(m.used) == 1 {
			m.own = append(m.own[:0], m.cur.Chunks...)
		}
		m.own = append(m.own, m.streams[i].At().Chunks...)
		m.used = append(m.used, i)
	}
	if len(m.used) > 1 {
		m.cur.Chunks = ordered(m.own)
	} else {
		m.cur.Chunks = sorted(m.cur.Chunks)
	}
	return &m.cur, nil
}

func compareChunks(a, b chunks.AggrChunk) int { return a.Compare(&b) }

// sorted sorts chunks that are not, which is rare. The check goes by reference: chunks
// are large values.
func sorted(chks []chunks.AggrChunk) []chunks.AggrChunk {
	for i := 1; i < len(chks); i++ {
		if chks[i].Compare(&chks[i-1]) < 0 {
			slices.SortStableFunc(chks, compareChunks)
			break
		}
	}
	return chks
}

// ordered sorts the chunks of several blocks and drops repeated ones: blocks overlap
// for a while after they were compacted.
func ordered(chks []chunks.AggrChunk) []chunks.AggrChunk {
	chks = sorted(chks)
	kept := chks[:0]
next:
	for i := range chks {
		for j := len(kept) - 1; j >= 0 && kept[j].Compare(&chks[i]) == 0; j-- {
			if kept[j].Equal(&chks[i]) {
				continue next
			}
		}
		kept = append(kept, chks[i])
	}
	return kept
}

func (m *merger) less(a, b int) bool {
	if c := labels.Compare(m.streams[a].At().Labels, m.streams[b].At().Labels); c != 0 {
		return c < 0
	}
	return a < b
}

func (m *merger) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !m.less(m.heap[i], m.heap[parent]) {
			return
		}
		m.heap[i], m.heap[parent] = m.heap[parent], m.heap[i]
		i = parent
	}
}

// pop takes the smallest stream out.
func (m *merger) pop() int {
	top := m.heap[0]
	n := len(m.heap) - 1
	m.heap[0] = m.heap[n]
	m.heap = m.heap[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			return top
		}
		if child+1 < n && m.less(m.heap[child+1], m.heap[child]) {
			child++
		}
		if !m.less(m.heap[child], m.heap[i]) {
			return top
		}
		m.heap[i], m.heap[child] = m.heap[child], m.heap[i]
		i = child
	}
}

func (m *merger) close() {
	for _, s := range m.streams {
		s.Close()
	}
}
