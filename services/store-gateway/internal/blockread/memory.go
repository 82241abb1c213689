package blockread

import (
	"sync/atomic"

	"github.com/promontory-io/promontory/libs/storeapi"
)

// Memory counts the bytes that all requests hold of chunks, against a limit. It is
// safe for concurrent use.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory returns a Memory of limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used is how many bytes are held now.
func (m *Memory) Used() int64 {
	if m == nil {
		return 0
	}
	return m.used.Load()
}

// reserve adds n bytes, or returns a storeapi.ErrLimit with the numbers.
func (m *Memory) reserve(n int64) error {
	if m == nil || n <= 0 {
		return nil
	}
	if now := m.used.Add(n); now > m.limit {
		m.used.Add(-n)
		return storeapi.Limitf("chunks of this request need %d bytes more, %d of the %d bytes for all requests are in use (--chunk-pool-size)",
			n, now-n, m.limit)
	}
	return nil
}

func (m *Memory) free(n int64) {
	if m != nil {
		m.used.Add(-n)
	}
}
