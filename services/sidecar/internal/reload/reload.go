// Package reload makes Prometheus read its configuration again when the files it is made of
// change: a configuration file, in which environment variables may be filled in on the way, and
// folders of rules.
//
// Files are watched, and read again every interval in any case. What counts is their content: the
// sum over all of it is compared with that of the last successful reload, so that
// touching a file does nothing and a reload that failed is tried again.
package reload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Config says what is watched.
type Config struct {
	// ConfigFile is Prometheus' configuration, or the template of it where OutputFile is
	// set. It may be compressed by gzip. Empty for none.
	ConfigFile string
	// OutputFile is where ConfigFile goes with $(NAME) replaced by the environment variable.
	OutputFile string
	// RuleDirs are folders of rule files, with all that is below them.
	RuleDirs []string
	// WatchInterval is how often all files are read; 0 leaves it at the start and events.
	WatchInterval time.Duration
	// RetryInterval is the pause after a failed reload.
	RetryInterval time.Duration
}

// settle is how long to wait after an event: changes seldom come alone.
const settle = 300 * time.Millisecond

// Trigger makes Prometheus read its configuration and returns when it has, or why it has not.
type Trigger interface {
	// Method names the way for metrics.
	Method() string
	Reload(ctx context.Context) error
}

// Reloader watches the files of one Prometheus.
type Reloader struct {
	cfg     Config
	trigger Trigger
	logger  *zap.Logger
	metrics *metrics
	kick    chan struct{}

	loaded sum // of the last successful reload; used by Run alone
}

// New returns a Reloader. reg may be nil.
func New(cfg Config, trigger Trigger, logger *zap.Logger, reg prometheus.Registerer) *Reloader {
	return &Reloader{
		cfg: cfg, trigger: trigger, logger: logger.Named("reloader"), metrics: newMetrics(reg, trigger.Method()),
		kick: make(chan struct{}, 1),
	}
}

// Kick makes Run look at the files now.
func (r *Reloader) Kick() {
	select {
	case r.kick <- struct{}{}:
	default: // it is about to
	}
}

// Run watches until ctx ends. It returns an error when the files cannot be read at the start;
// later that is logged and counted, and so are reloads that fail at any time.
func (r *Reloader) Run(ctx context.Context) error {
	if r.cfg.ConfigFile == "" && len(r.cfg.RuleDirs) == 0 {
		<-ctx.Done()
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer watcher.Close()
	next, err := r.round(ctx, watcher)
	if err != nil {
		return err
	}
	for {
		// An event shortens the wait and never lengthens it, so that events without end delay nothing.
		timer := time.NewTimer(next)
		due := time.Now().Add(next)
		if next <= 0 {
			timer.Stop()
			due = time.Time{}
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
				waiting = false
			case <-r.kick:
				waiting = false
			case <-watcher.Events:
				r.metrics.watchEvents.Inc()
				if soon := time.Now().Add(settle); due.IsZero() || soon.Before(due) {
					due = soon
					timer.Reset(settle)
				}
			case err := <-watcher.Errors:
				r.metrics.watchErrors.Inc()
				r.logger.Warn("watching files", zap.Error(err))
			}
		}
		timer.Stop()
		if next, err = r.round(ctx, watcher); err != nil {
			r.logger.Error("configuration not applied", zap.Error(err))
		}
	}
}

// round applies once and says how long to wait until the next time; not above 0 is for ever. The
// error is that of the files.
func (r *Reloader) round(ctx context.Context, watcher *fsnotify.Watcher) (next time.Duration, err error) {
	r.metrics.applies.Inc()
	found, err := r.prepare(watcher)
	r.metrics.watches.Set(float64(len(watcher.WatchList())))
	if err != nil {
		r.metrics.appliesFailed.Inc()
		return r.cfg.WatchInterval, err
	}
	if found == r.loaded {
		return r.cfg.WatchInterval, nil
	}
	if err := r.reload(ctx); err != nil {
		if ctx.Err() == nil {
			r.metrics.appliesFailed.Inc()
			r.logger.Error("Prometheus was not reloaded", zap.Duration("retry_in", r.cfg.RetryInterval), zap.Error(err))
		}
		return r.cfg.RetryInterval, nil
	}
	r.loaded = found
	r.logger.Info("Prometheus reloaded", zap.String("config", r.cfg.ConfigFile), zap.Strings("rule_dirs", r.cfg.RuleDirs))
	return r.cfg.WatchInterval, nil
}

// reload makes one attempt, which may take no longer than until the files are due again.
func (r *Reloader) reload(ctx context.Context) error {
	if r.cfg.WatchInterval > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.cfg.WatchInterval, errors.New("not done within --reloader.watch-interval"))
		defer cancel()
	}
	r.metrics.reloads.Inc()
	if err := r.trigger.Reload(ctx); err != nil {
		r.metrics.reloadsFailed.Inc()
		r.metrics.lastSuccessful.Set(0)
		return err
	}
	r.metrics.lastSuccessful.Set(1)
	r.metrics.lastSuccess.SetToCurrentTime()
	return nil
}
