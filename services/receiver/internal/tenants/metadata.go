package tenants

import (
	"maps"
	"sync"

	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// maxFamilies bounds what is kept of a tenant; more is dropped, for it is only description.
const maxFamilies = 100_000

// metadata is what is known of metric families. It is safe for concurrent use.
type metadata struct {
	mu sync.RWMutex
	m  map[string]remotewrite.Metadata // by family; guarded by mu
}

func newMetadata() *metadata { return &metadata{m: map[string]remotewrite.Metadata{}} }

func (s *metadata) add(ms []remotewrite.Metadata) {
	if len(ms) == 0 || s.has(ms) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range ms {
		if _, ok := s.m[m.Family]; (ok || len(s.m) < maxFamilies) && m.Family != "" {
			s.m[m.Family] = m
		}
	}
}

// has reports whether all of it is known: the usual case, as senders repeat themselves.
func (s *metadata) has(ms []remotewrite.Metadata) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range ms {
		if s.m[m.Family] != m {
			return false
		}
	}
	return true
}

func (s *metadata) all() map[string]remotewrite.Metadata {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.m)
}
