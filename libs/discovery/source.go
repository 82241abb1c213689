package discovery

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// EndpointSource holds an [EndpointsConfig] and reads it again now and then. It is safe for concurrent use.
type EndpointSource struct {
	name    string
	load    func() ([]byte, error)
	log     *zap.Logger
	changed chan struct{}

	mu      sync.RWMutex // guards what follows
	content []byte
	config  *EndpointsConfig
	lastErr error
}

// NewEndpointSource reads the configuration by load for the first time; then any problem is an error.
// name is what errors call it. A nil logger is fine.
func NewEndpointSource(name string, load func() ([]byte, error), logger *zap.Logger) (*EndpointSource, error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	s := &EndpointSource{name: name, load: load, log: logger.Named("endpoint_sd"), changed: make(chan struct{}, 1)}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	<-s.changed // the first content is not a change
	return s, nil
}

// Config returns the last good configuration, which must not be changed.
func (s *EndpointSource) Config() *EndpointsConfig {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.config
}

// Err returns why the last reload failed, or nil.
func (s *EndpointSource) Err() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lastErr
}

// Changed is signalled after a reload brought another configuration.
func (s *EndpointSource) Changed() <-chan struct{} { return s.changed }

// Reload reads the configuration now. If it cannot be read or is wrong, the last good one stays and the error says why.
func (s *EndpointSource) Reload() error {
	content, err := s.load()
	if err != nil {
		err = fmt.Errorf("read %s: %w", s.name, err)
	}
	s.mu.RLock()
	same := s.config != nil && bytes.Equal(content, s.content)
	s.mu.RUnlock()
	var config *EndpointsConfig
	if err == nil && !same {
		config, err = ParseEndpoints(s.name, content)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr = err
	if config == nil {
		return err
	}
	s.content, s.config = bytes.Clone(content), config
	select {
	case s.changed <- struct{}{}:
	default: // somebody has yet to take the last signal, which says the same
	}
	return nil
}

// Run reloads every interval until ctx ends, which is no error.
func (s *EndpointSource) Run(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		before := s.Err()
		if err := s.Reload(); err != nil && before == nil {
			s.log.Warn("endpoint configuration cannot be reloaded, keeping the last good one", zap.Error(err))
		} else if err == nil && before != nil {
			s.log.Info("endpoint configuration can be reloaded again")
		}
	}
}
