// Package upstream keeps an eye on the Prometheus server beside the sidecar: whether it
// answers, what it is (version, external labels, oldest sample), and whether that changes.
//
// Everything the sidecar says about itself comes from here. A [State] is a value that is
// replaced as a whole, so that one request sees one state.
package upstream

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// Unknown is the oldest time of a server that does not tell it: everything may be there.
const Unknown int64 = math.MinInt64

// State is what is known about a server.
type State struct {
	// External are the external labels, never empty.
	External labels.Labels
	// Lowest is the time of the oldest sample in Unix milliseconds, or Unknown.
	Lowest int64
	// Version is what the server says it is.
	Version Version
}

// Config is how a Monitor goes about it.
type Config struct {
	// Interval is how often the server is asked, Timeout how long it may take to answer.
	Interval, Timeout time.Duration
	// ReadyTimeout is how long the server may take to answer all that has to be known at
	// the start.
	ReadyTimeout time.Duration
	// MinTime, where it is set, is the oldest time to serve, Unix milliseconds.
	MinTime func() int64
	// CheckFlags, where it is set, is asked at the start what it thinks of the server's flags.
	// Its error ends the process.
	CheckFlags func(promclient.Flags) error
	// SetReady, where it is set, is told when the server stops answering and when it
	// answers again. It is not told about the start, see [Monitor.Started].
	SetReady func(bool)
}

// Monitor watches one server. Its methods are safe for concurrent use.
type Monitor struct {
	cfg     Config
	client  *promclient.Client
	logger  *zap.Logger
	metrics *metrics

	state   atomic.Pointer[State]
	started chan struct{}
	// unlabelled is set while the server runs without external labels, which it had before.
	unlabelled atomic.Bool
}

// New returns a Monitor that knows nothing until Run is called. reg may be nil.
func New(cfg Config, client *promclient.Client, logger *zap.Logger, reg prometheus.Registerer) *Monitor {
	if cfg.SetReady == nil {
		cfg.SetReady = func(bool) {}
	}
	return &Monitor{
		cfg: cfg, client: client, logger: logger.Named("prometheus").With(zap.String("url", client.BaseURL().Redacted())),
		metrics: newMetrics(reg), started: make(chan struct{}),
	}
}

// Started is closed once all is known that requests depend on.
func (m *Monitor) Started() <-chan struct{} { return m.started }

// State is what is known now; false before Started.
func (m *Monitor) State() (State, bool) {
	s := m.state.Load()
	if s == nil {
		return State{}, false
	}
	return *s, true
}

// MinTime is the oldest time to serve now, Unix milliseconds: the configured one, or that of
// the oldest sample where it is later.
func (m *Monitor) MinTime() int64 {
	lowest := Unknown
	if s, ok := m.State(); ok {
		lowest = s.Lowest
	}
	if m.cfg.MinTime == nil {
		return lowest
	}
	return max(lowest, m.cfg.MinTime())
}

// Labels are the external labels that new blocks belong to; false while there are none: before
// Started, and while the server runs with a configuration that has lost them.
func (m *Monitor) Labels() (labels.Labels, bool) {
	s, ok := m.State()
	if !ok || m.unlabelled.Load() {
		return labels.EmptyLabels(), false
	}
	return s.External, true
}

// Run learns what has to be known and then keeps it up to date until ctx ends. It returns
// an error when the server cannot be served: it does not answer within the ready timeout, its flags
// are refused, or it has no external labels.
func (m *Monitor) Run(ctx context.Context) error {
	if err := m.start(ctx); err != nil {
		return err
	}
	close(m.started)
	ticker := time.NewTicker(m.cfg.Interval)
	defer ticker.Stop()
	up := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := m.heartbeat(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			m.logger.Warn("heartbeat failed", zap.Error(err))
		case !up:
			m.logger.Info("Prometheus answers again")
		}
		if up != (err == nil) {
			up = err == nil
			m.cfg.SetReady(up)
		}
	}
}

// errUnlabelled is why a server that answers is not ready.
var errUnlabelled = errors.New("its configuration has no external labels any more: uploads wait, and queries are answered with those it had")

// heartbeat asks once and notes what has changed.
func (m *Monitor) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	external, err := m.client.ExternalLabels(ctx)
	if err != nil {
		m.metrics.up.Set(0)
		return err
	}
	m.alive()
	old, _ := m.State()
	next := old
	m.unlabelled.Store(external.IsEmpty())
	if !external.IsEmpty() {
		next.External = external
	}
	// What follows is good to know and no condition: what was known before is kept.
	if v, err := m.version(ctx); err == nil {
		next.Version = v
	} else {
		m.logger.Debug("version not refreshed", zap.Error(err))
	}
	if lowest, err := m.lowest(ctx); err == nil {
		next.Lowest = lowest
	} else {
		m.logger.Debug("oldest time not refreshed", zap.Error(err))
	}
	m.replace(old, next)
	if external.IsEmpty() {
		return errUnlabelled
	}
	return nil
}

func (m *Monitor) alive() {
	m.metrics.up.Set(1)
	m.metrics.lastHeartbeat.SetToCurrentTime()
}

// replace makes next the state and tells the log what is different.
func (m *Monitor) replace(old, next State) {
	if !labels.Equal(old.External, next.External) {
		m.logger.Info("external labels changed", zap.Stringer("from", old.External), zap.Stringer("to", next.External))
	}
	if old.Version != next.Version {
		m.logger.Info("version changed", zap.Stringer("from", old.Version), zap.Stringer("to", next.Version))
	}
	m.state.Store(&next)
}
