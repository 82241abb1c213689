package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/services/sidecar/internal/promerr"
)

// firstRetry is the pause after the first failed attempt; it doubles up to the interval.
const firstRetry = time.Second

// start asks all that has to be known, one thing after the other, until the server has
// answered each.
func (m *Monitor) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.ReadyTimeout, errNotReadyInTime)
	defer cancel()
	var s State
	steps := []struct {
		what string
		ask  func(context.Context) error
	}{
		{"flags", m.checkFlags},
		{"version", func(ctx context.Context) (err error) {
			s.Version, err = m.version(ctx)
			return err
		}},
		{"oldest time", func(ctx context.Context) (err error) {
			s.Lowest, err = m.lowest(ctx)
			return err
		}},
		{"external labels", func(ctx context.Context) (err error) {
			s.External, err = m.client.ExternalLabels(ctx)
			if err == nil && s.External.IsEmpty() {
				return &refusal{fmt.Errorf("Prometheus at %s has no external labels: set global.external_labels in its configuration, "+
					"different for each Prometheus, so that its data can be told apart", m.client.BaseURL().Redacted())}
			}
			return err
		}},
	}
	for _, step := range steps {
		if err := m.insist(ctx, step.what, step.ask); err != nil {
			return err
		}
	}
	m.alive()
	m.state.Store(&s)
	m.logger.Info("Prometheus answers", zap.Stringer("external_labels", s.External), zap.Stringer("version", s.Version))
	return nil
}

// errNotReadyInTime is the cause of a start that took too long.
var errNotReadyInTime = errors.New("ready timeout")

// refusal is an answer that no further attempt will change.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// insist calls ask until it succeeds, or is refused, or ctx ends.
func (m *Monitor) insist(ctx context.Context, what string, ask func(context.Context) error) error {
	pause := min(firstRetry, m.cfg.Interval)
	var last error
	for {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
			defer cancel()
			return ask(ctx)
		}()
		var refused *refusal
		if err == nil || errors.As(err, &refused) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err // what the end of our own patience makes of an attempt says nothing
		}
		if ctx.Err() == nil {
			m.metrics.up.Set(0)
			m.logger.Warn("Prometheus does not answer yet", zap.String("asked_for", what), zap.Duration("retry_in", pause), zap.Error(err))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(context.Cause(ctx), errNotReadyInTime) {
				return fmt.Errorf("Prometheus at %s was not ready within %s (--prometheus.ready_timeout): asked for its %s: %w",
					m.client.BaseURL().Redacted(), m.cfg.ReadyTimeout, what, last)
			}
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, m.cfg.Interval)
	}
}

// checkFlags asks for the flags where somebody wants to know them. A server that does not
// tell its flags is taken as it is.
func (m *Monitor) checkFlags(ctx context.Context) error {
	if m.cfg.CheckFlags == nil {
		return nil
	}
	flags, err := m.client.Flags(ctx)
	if promerr.IsNotFound(err) {
		m.logger.Warn("Prometheus does not tell its flags: cannot check that it leaves its blocks uncompacted", zap.Error(err))
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.cfg.CheckFlags(flags); err != nil {
		return &refusal{fmt.Errorf("Prometheus at %s: %w", m.client.BaseURL().Redacted(), err)}
	}
	return nil
}

func (m *Monitor) version(ctx context.Context) (Version, error) {
	info, err := m.client.BuildInfo(ctx)
	if promerr.IsNotFound(err) {
		return ancient, nil
	}
	if err != nil {
		return Version{}, err
	}
	return ParseVersion(info.Version), nil
}

// lowest asks for the time of the oldest sample. Servers that speak Prometheus' API without being
// one have no such metric: Unknown.
func (m *Monitor) lowest(ctx context.Context) (int64, error) {
	ms, ok, err := m.client.LowestTimestamp(ctx)
	switch {
	case errors.Is(err, promclient.ErrNoMetric) || promerr.IsNotFound(err):
		return Unknown, nil
	case err != nil:
		return 0, err
	case !ok:
		return Unknown, nil
	}
	return ms, nil
}
