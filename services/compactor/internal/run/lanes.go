package run

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/triage"
)

// maxSweeps bounds how often one iteration plans anew. Each sweep leaves fewer blocks, so
// this is never reached unless somebody else adds blocks all the time.
const maxSweeps = 1000

// Once does all there is to do, in order, and returns what could not be done.
func (r *Runner) Once(ctx context.Context) error {
	var errs []error
	for _, step := range []func(context.Context) error{r.Upkeep, r.oneShotCompact, r.oneShotDownsample, r.Retain, r.Upkeep} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if stop := r.cfg.Guard(); stop != nil {
				return stop
			}
			errs = append(errs, err)
		}
	}
	for _, p := range r.state.pending() {
		errs = append(errs, fmt.Errorf("not done after %d attempts: %s: %s", p.Failures, p.Job, p.Error))
	}
	return errors.Join(errs...)
}

func (r *Runner) oneShotCompact(ctx context.Context) error {
	return r.work(ctx, laneCompact, r.cfg.CompactConcurrency, r.cfg.Attempts)
}

func (r *Runner) oneShotDownsample(ctx context.Context) error {
	if !r.cfg.Downsampling {
		return nil
	}
	return r.work(ctx, laneDownsample, r.cfg.DownsampleConcurrency, r.cfg.Attempts)
}

// Compact compacts until nothing is left but jobs that rest.
func (r *Runner) Compact(ctx context.Context) error {
	return r.work(ctx, laneCompact, r.cfg.CompactConcurrency, 1)
}

// Downsample downsamples what is not taken up by a compaction.
func (r *Runner) Downsample(ctx context.Context) error {
	if !r.cfg.Downsampling {
		return nil
	}
	return r.work(ctx, laneDownsample, r.cfg.DownsampleConcurrency, 1)
}

// work plans and carries out the jobs of one lane until none is left. attempts is how often a
// job is tried in a row before it rests.
func (r *Runner) work(ctx context.Context, lane string, concurrency, attempts int) error {
	for range maxSweeps {
		if err := r.cfg.Guard(); err != nil {
			return err
		}
		v, err := r.syncRetrying(ctx, attempts)
		if err != nil {
			return err
		}
		if lane == laneCompact {
			if err := r.collectGarbage(ctx, v); err != nil {
				r.logger.Warn("garbage collection", zap.Error(err))
			}
		}
		p := plan.Make(v.blocks, r.options(false))
		if lane == laneCompact {
			changed, err := r.settle(ctx, p)
			if err != nil {
				return err
			}
			if changed {
				continue
			}
		}
		jobs := ofLane(lane, p.Jobs)
		if len(jobs) == 0 {
			if lane == laneCompact {
				r.metrics.iterations.Inc()
			}
			r.metrics.lastSuccess.WithLabelValues(lane).Set(float64(r.cfg.Now().Unix()))
			return nil
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(max(1, concurrency))
		for i := range jobs {
			g.Go(func() error { return r.tryJob(gctx, lane, &jobs[i], attempts) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: still not done after %d sweeps", lane, maxSweeps)
}

// syncRetrying gives a bucket that has a bad moment another chance.
func (r *Runner) syncRetrying(ctx context.Context, attempts int) (v *view, err error) {
	for range max(1, attempts) {
		if v, err = r.sync(ctx); err == nil || ctx.Err() != nil {
			return v, err
		}
	}
	return nil, err
}

func ofLane(lane string, jobs []plan.Job) []plan.Job {
	var out []plan.Job
	for _, j := range jobs {
		if (j.Kind == plan.Downsample) == (lane == laneDownsample) {
			out = append(out, j)
		}
	}
	return out
}

// tryJob carries out a job and deals with its failure. It returns an error only when the
// whole process has to stop.
func (r *Runner) tryJob(ctx context.Context, lane string, j *plan.Job, attempts int) error {
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := r.runJob(ctx, lane, j)
		if err == nil {
			return nil
		}
		again, stop := r.failed(ctx, j, err)
		if stop != nil {
			return stop
		}
		if !again || attempt >= attempts {
			return nil
		}
	}
}

func (r *Runner) runJob(ctx context.Context, lane string, j *plan.Job) error {
	end := r.state.begin(lane, j, r.cfg.Now())
	defer end()
	res := strconv.FormatInt(j.Resolution, 10)
	compacting := j.KeepsResolution()
	if compacting {
		r.metrics.started.WithLabelValues(res).Inc()
	}
	r.logger.Info("job begins", zap.String("job", j.String()))
	result, err := r.exec.Run(ctx, j)
	r.metrics.skippedSamples.Add(float64(result.Stats.Skipped))
	r.metrics.scratchBytes.Add(float64(result.LocalBytes))
	if err != nil {
		if compacting {
			r.metrics.failures.WithLabelValues(res).Inc()
		} else {
			r.metrics.downsampleFailures.WithLabelValues(res).Inc()
		}
		return err
	}
	r.state.done(j, result.Took)
	for _, m := range result.Made {
		if m.Thanos.Downsample.Resolution != j.Resolution {
			r.metrics.downsamples.WithLabelValues(res).Inc()
			if !compacting {
				r.metrics.downsampleDuration.WithLabelValues(res).Observe(result.Took.Seconds())
			}
		} else {
			r.metrics.compactions.WithLabelValues(res).Inc()
		}
		r.logger.Info("block made", zap.Stringer("block", m.ULID), zap.String("range", m.String()),
			zap.Uint64("series", m.Stats.NumSeries), zap.Uint64("samples", m.Stats.NumSamples))
	}
	if compacting {
		r.metrics.completed.WithLabelValues(res).Inc()
		if j.Overlap {
			r.metrics.vertical.WithLabelValues(res).Inc()
		}
		r.metrics.marked.WithLabelValues(block.DeletionMarkFilename, "").Add(float64(len(result.Marked)))
	}
	if result.Stats.Skipped > 0 {
		r.event("not downsampled", j.Sources[0].ID().String(), fmt.Sprintf("%d samples with custom buckets have no aggregates; the raw block keeps them", result.Stats.Skipped))
	}
	r.logger.Info("job done", zap.Duration("took", result.Took), zap.Int("series", result.Stats.Series),
		zap.Int("chunks_copied", result.Stats.Copied), zap.Int("chunks_merged", result.Stats.Merged), zap.Int("chunks_dropped", result.Stats.Dropped))
	return nil
}

func (r *Runner) event(kind, id, text string) {
	r.state.event(r.cfg.Now(), kind, id, text)
	r.logger.Warn(kind, zap.String("block", id), zap.String("details", text))
}

// Lanes runs all lanes until ctx is over. synced is closed after the first look at the bucket.
func (r *Runner) Lanes(ctx context.Context, synced chan<- struct{}) error {
	if _, err := r.sync(ctx); err != nil && ctx.Err() == nil {
		r.logger.Warn("first look at the bucket", zap.Error(err))
	}
	close(synced)
	g, ctx := errgroup.WithContext(ctx)
	lanes := []struct {
		name  string
		every time.Duration
		run   func(context.Context) error
	}{
		{laneCompact, r.cfg.WaitInterval, r.Compact},
		{laneDownsample, r.cfg.WaitInterval, r.Downsample},
		{laneRetention, r.cfg.WaitInterval, r.Retain},
		{laneUpkeep, r.cfg.CleanupInterval, r.Upkeep},
		{"progress", r.cfg.ProgressInterval, r.Progress},
	}
	for _, l := range lanes {
		if l.every > 0 {
			g.Go(func() error { return r.loop(ctx, l.name, l.every, l.run) })
		}
	}
	return g.Wait()
}

// loop runs a lane again and again. Trouble is logged and counted; only the loss of the lease
// or the end of ctx ends it.
func (r *Runner) loop(ctx context.Context, name string, every time.Duration, run func(context.Context) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			if stop := triage.Decide(err, nil); stop.Action == triage.Stop {
				return err
			}
			r.metrics.retries.Inc()
			r.logger.Warn("lane", zap.String("lane", name), zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Progress calculates what is left to do.
func (r *Runner) Progress(ctx context.Context) error {
	v, err := r.sync(ctx)
	if err != nil {
		return err
	}
	rounds, _ := plan.Simulate(v.blocks, r.options(true))
	s := plan.Summarize(rounds, r.Snapshot().Rate, r.cfg.CompactConcurrency)
	r.metrics.todoCompactions.Set(float64(s.Compactions))
	r.metrics.todoBlocks.Set(float64(s.CompactionBlocks))
	r.metrics.todoDown.Set(float64(s.Downsamplings))
	r.metrics.todoDel.Set(float64(len(r.expired(v))))
	r.metrics.etaSeconds.Set(s.Left.Seconds())
	return nil
}

// SetLeaseHeld shows whether this process holds the lease.
func (r *Runner) SetLeaseHeld(held bool) {
	v := 0.0
	if held {
		v = 1
	}
	r.metrics.leaseHeld.Set(v)
}
