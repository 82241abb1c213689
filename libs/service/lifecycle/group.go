// Package lifecycle runs the long-lived parts of a process together.
//
// All parts of a Group start at once. The first one to return ends the group:
// readiness turns false, then the parts are stopped in the reverse of the order in
// which they were added, within one grace period for all. Readiness turns true
// when every part that has something to wait for says it is there.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// ErrGraceExceeded is wrapped by the error of Run for each part that had not returned
// when the grace period was over.
var ErrGraceExceeded = errors.New("still running when the grace period was over")

// Part is one long-lived part of a process.
type Part struct {
	// Name names the part in logs and errors.
	Name string
	// Run does the part's work. It returns when ctx is cancelled or Stop was called; returning
	// earlier ends the whole group. An error other than that of ctx is the group's error.
	Run func(ctx context.Context) error
	// Stop, where it is set, is called when it is the part's turn to stop, before the context
	// of Run is cancelled. Its own context ends with the grace period.
	Stop func(ctx context.Context) error
	// Ready, where it is set, is closed by the part when it can do its work. The group is not
	// ready before.
	Ready <-chan struct{}
}

// Group is a set of parts that live and die together. It is wired by one goroutine and
// run once.
type Group struct {
	logger *zap.Logger
	status *Status
	grace  time.Duration
	parts  []Part
	reload []reloadHook
}

// NewGroup returns an empty group. It keeps status up to date; grace is how long all parts
// together may take to stop.
func NewGroup(logger *zap.Logger, status *Status, grace time.Duration) *Group {
	return &Group{logger: logger.Named("lifecycle"), status: status, grace: grace}
}

// Add adds a part that has nothing but work to do until ctx is cancelled.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.AddPart(Part{Name: name, Run: run})
}

// AddPart adds a part. What is added later is stopped earlier, so that a part can rely on
// those added before it for as long as it runs.
func (g *Group) AddPart(p Part) { g.parts = append(g.parts, p) }

// running is a part that was started.
type running struct {
	Part
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid when done is closed
}

// Run starts all parts and returns when the last of them has stopped. It begins to stop
// when ctx is cancelled or a part returns. The error is that of the part that ended the group,
// joined with what went wrong while stopping; nil when ctx ended it and all stopped well.
func (g *Group) Run(ctx context.Context) error {
	// Parts outlive ctx by the grace period: each is cancelled when it is its turn.
	base := context.WithoutCancel(ctx)
	first := make(chan *running, len(g.parts))
	parts := make([]*running, len(g.parts))
	for i, p := range g.parts {
		partCtx, cancel := context.WithCancel(base)
		r := &running{Part: p, cancel: cancel, done: make(chan struct{})}
		parts[i] = r
		go func() {
			r.err = p.Run(partCtx)
			close(r.done)
			first <- r
		}()
	}

	readyCtx, stopWaiting := context.WithCancel(ctx)
	readyDone := make(chan struct{})
	go func() {
		defer close(readyDone)
		g.awaitReady(readyCtx)
	}()

	var errs []error
	select {
	case <-ctx.Done():
		g.logger.Info("asked to stop")
	case r := <-first:
		if err := partError(r); err != nil {
			errs = append(errs, err)
		}
		g.logger.Info("part ended, stopping the rest", zap.String("part", r.Name), zap.Error(r.err))
		// It was reported; stopping must not report it again.
		r.err = nil
	}
	stopWaiting()
	<-readyDone
	g.status.SetReady(false)
	errs = append(errs, g.stop(base, parts)...)
	g.status.SetHealthy(false)
	return errors.Join(errs...)
}

// awaitReady makes the process ready when all parts are. It cannot turn ready after ctx has ended.
func (g *Group) awaitReady(ctx context.Context) {
	g.status.SetHealthy(true)
	for _, p := range g.parts {
		if p.Ready == nil {
			continue
		}
		select {
		case <-p.Ready:
		case <-ctx.Done():
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	g.status.SetReady(true)
	g.logger.Info("ready")
}

func (g *Group) stop(base context.Context, parts []*running) []error {
	ctx, cancel := context.WithTimeout(base, g.grace)
	defer cancel()
	var errs []error
	for _, r := range slices.Backward(parts) {
		if r.Stop != nil {
			if err := r.Stop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", r.Name, err))
			}
		}
		r.cancel()
		select {
		case <-r.done:
			if err := partError(r); err != nil {
				errs = append(errs, err)
			}
			continue
		default:
		}
		select {
		case <-r.done:
			if err := partError(r); err != nil {
				errs = append(errs, err)
			}
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("%s: %w", r.Name, ErrGraceExceeded))
		}
	}
	return errs
}

// partError is what a part has to answer for: the end of its context is none of its faults.
func partError(r *running) error {
	if r.err == nil || errors.Is(r.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", r.Name, r.err)
}
