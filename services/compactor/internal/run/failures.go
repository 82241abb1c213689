package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/triage"
)

// waitStep is how long a block with missing pieces is left out before it is looked at again.
const waitStep = 30 * time.Minute

// failed judges a job's failure and does what follows. again says that the job may be tried
// at once; stop is set when the process has to end.
func (r *Runner) failed(ctx context.Context, j *plan.Job, err error) (again bool, stop error) {
	v := triage.Decide(err, func(id ulid.ULID) time.Duration { return r.age(j, id) })
	r.logger.Warn("job failed", zap.String("job", j.String()), zap.String("action", string(v.Action)), zap.Error(err))
	if v.Action == triage.Probe {
		if v, err = r.probe(ctx, j, err); ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	switch v.Action {
	case triage.Stop:
		return false, err
	case triage.Wait:
		r.state.wait(v.Block, v.Reason, r.cfg.Now().Add(waitStep))
		r.event("waiting for missing pieces", v.Block.String(), v.Reason)
		return false, nil
	case triage.Salvage:
		return r.salvage(ctx, j, v)
	case triage.Quarantine:
		return false, r.quarantineOrRest(ctx, j, v)
	}
	r.metrics.retries.Inc()
	d := r.state.rest(j, err, r.cfg.Now(), triage.Backoff)
	r.logger.Info("job rests", zap.String("job", j.String()), zap.Duration("for", d))
	return true, nil
}

func (r *Runner) age(j *plan.Job, id ulid.ULID) time.Duration {
	for _, b := range j.Sources {
		if b.ID() == id {
			return r.cfg.Now().Sub(b.Meta.CreationTime())
		}
	}
	return triage.WaitAge
}

// probe looks for the source that cannot be decoded, one after the other. If none can be
// blamed the job rests.
func (r *Runner) probe(ctx context.Context, j *plan.Job, cause error) (triage.Verdict, error) {
	for _, b := range j.Sources {
		err := r.exec.Probe(ctx, b)
		if err == nil {
			continue
		}
		v := triage.Decide(err, func(id ulid.ULID) time.Duration { return r.age(j, id) })
		if v.Action == triage.Probe {
			return triage.Verdict{Action: triage.Salvage, Block: b.ID(), Reason: err.Error()}, err
		}
		return v, err
	}
	return triage.Verdict{Action: triage.Retry, Reason: cause.Error()}, cause
}

// salvage saves what can be read of a block; what cannot be saved at all is quarantined.
func (r *Runner) salvage(ctx context.Context, j *plan.Job, v triage.Verdict) (again bool, stop error) {
	i := slices.IndexFunc(j.Sources, func(b *plan.Block) bool { return b.ID() == v.Block })
	if i < 0 {
		return true, r.quarantineOrRest(ctx, j, v)
	}
	b := j.Sources[i]
	_, loss, err := r.exec.Salvage(ctx, r.asStored(b))
	if err == nil {
		r.metrics.salvaged.Inc()
		r.metrics.lostChunks.Add(float64(loss.Chunks))
		r.metrics.marked.WithLabelValues(block.DeletionMarkFilename, "").Inc()
		r.event("salvaged", v.Block.String(), fmt.Sprintf("%s; lost: %d index gaps, %d chunks of %d series", v.Reason, loss.Entries, loss.Chunks, loss.Series))
		r.state.forget(j)
		return false, nil
	}
	next := triage.AfterSalvage(v.Block, err)
	switch next.Action {
	case triage.Stop:
		return false, err
	case triage.Quarantine:
		next.Reason = v.Reason + "; " + next.Reason
		return false, r.quarantineOrRest(ctx, j, next)
	}
	r.metrics.retries.Inc()
	r.state.rest(j, err, r.cfg.Now(), triage.Backoff)
	return true, nil
}

// asStored returns the block with the external labels it has in the bucket: replica labels,
// which planning does not see, must survive a salvage.
func (r *Runner) asStored(b *plan.Block) *plan.Block {
	stored, ok := r.stored(b.ID())
	if !ok {
		return b
	}
	c := *b
	c.Meta = stored
	return &c
}

// stored reads a block's own meta.json.
func (r *Runner) stored(id ulid.ULID) (*block.Meta, bool) {
	r.sizesMu.Lock()
	defer r.sizesMu.Unlock()
	m, ok := r.all[id]
	return m, ok
}

// quarantineOrRest marks a block; if that fails the job rests, to be judged anew.
func (r *Runner) quarantineOrRest(ctx context.Context, j *plan.Job, v triage.Verdict) error {
	err := r.quarantine(ctx, v.Block, v.Reason)
	if err == nil {
		r.state.forget(j)
		return nil
	}
	if stop := triage.Decide(err, nil); stop.Action == triage.Stop {
		return err
	}
	r.metrics.retries.Inc()
	r.state.rest(j, err, r.cfg.Now(), triage.Backoff)
	return nil
}

// quarantine keeps a block out of compaction and downsampling.
func (r *Runner) quarantine(ctx context.Context, id ulid.ULID, reason string) error {
	if err := r.cfg.Guard(); err != nil {
		return err
	}
	details := triage.QuarantinePrefix + reason
	markReason := triage.MarkReason(reason)
	written, err := block.MarkNoCompact(ctx, r.logger, r.bkt, id, markReason, details, r.cfg.Now())
	if err != nil {
		return err
	}
	if written {
		r.metrics.marked.WithLabelValues(block.NoCompactMarkFilename, string(markReason)).Inc()
		r.event("quarantined", id.String(), reason)
	}
	written, err = block.MarkNoDownsample(ctx, r.logger, r.bkt, id, block.ReasonManual, details, r.cfg.Now())
	if written {
		r.metrics.marked.WithLabelValues(block.NoDownsampleMarkFilename, string(block.ReasonManual)).Inc()
	}
	return err
}

// settle sets the marks a plan asks for and deals with its problems. changed says that it is
// worth planning anew.
func (r *Runner) settle(ctx context.Context, p plan.Plan) (changed bool, err error) {
	for _, m := range p.Marks {
		if err := r.cfg.Guard(); err != nil {
			return changed, err
		}
		written, err := block.MarkNoCompact(ctx, r.logger, r.bkt, m.ID, m.Reason, m.Details, r.cfg.Now())
		if err != nil {
			return changed, err
		}
		if written {
			r.metrics.marked.WithLabelValues(block.NoCompactMarkFilename, string(m.Reason)).Inc()
			r.event("marked no-compact", m.ID.String(), m.Details)
			changed = true
		}
	}
	var open []plan.Problem
	blocks := 0
	for _, pr := range p.Problems {
		solved, err := r.solve(ctx, pr)
		if err != nil {
			if stop := triage.Decide(err, nil); stop.Action == triage.Stop {
				return changed, err
			}
			r.logger.Warn("problem", zap.String("group", pr.Group), zap.Error(err))
		}
		if solved {
			changed = true
			continue
		}
		open = append(open, pr)
		blocks += len(pr.Blocks)
	}
	r.state.setProblems(open)
	r.metrics.setAside.Set(float64(blocks))
	return changed, nil
}

func (s *state) setProblems(ps []plan.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = ps
}

// solve does what can be done about a problem without being told.
func (r *Runner) solve(ctx context.Context, pr plan.Problem) (bool, error) {
	switch pr.Kind {
	case plan.ProblemFuture:
		b := pr.Blocks[0]
		if b.NoCompact && b.NoDownsample {
			return false, nil
		}
		return false, r.quarantine(ctx, b.ID(), pr.Reason)
	case plan.ProblemOverlap:
		return r.dropTwins(ctx, pr.Blocks)
	}
	return false, nil
}

// dropTwins marks blocks for deletion whose content is, chunk for chunk, that of another.
func (r *Runner) dropTwins(ctx context.Context, blocks []*plan.Block) (bool, error) {
	dropped := false
	gone := map[ulid.ULID]bool{}
	for i, a := range blocks {
		for _, b := range blocks[i+1:] {
			if gone[a.ID()] || gone[b.ID()] || !alike(a, b) {
				continue
			}
			sa, err := r.exec.Sum(ctx, a.Meta)
			if err != nil {
				return dropped, err
			}
			sb, err := r.exec.Sum(ctx, b.Meta)
			if err != nil {
				return dropped, err
			}
			if sa != sb {
				continue
			}
			if err := r.cfg.Guard(); err != nil {
				return dropped, err
			}
			drop, keep := b.ID(), a.ID()
			if drop.Compare(keep) < 0 {
				drop, keep = keep, drop
			}
			written, err := block.MarkForDeletion(ctx, r.logger, r.bkt, drop, "identical to block "+keep.String(), r.cfg.Now())
			if err != nil {
				return dropped, err
			}
			if written {
				r.metrics.marked.WithLabelValues(block.DeletionMarkFilename, "").Inc()
				r.event("duplicate dropped", drop.String(), "identical to block "+keep.String())
			}
			gone[drop], dropped = true, true
		}
	}
	return dropped, nil
}

// alike reports whether two blocks may be the same, judged by metadata.
func alike(a, b *plan.Block) bool {
	return a.Meta.MinTime == b.Meta.MinTime && a.Meta.MaxTime == b.Meta.MaxTime && a.Meta.Stats == b.Meta.Stats
}

// quarantineUnreadable marks blocks whose meta.json cannot be used: they may well be whole
// otherwise, so they are kept and shown.
func (r *Runner) quarantineUnreadable(ctx context.Context, res *fetch.Result) {
	for _, id := range slices.SortedFunc(maps.Keys(res.Partial), ulid.ULID.Compare) {
		err := res.Partial[id]
		if !errors.Is(err, block.ErrMetaCorrupt) || r.isSound(id) {
			continue
		}
		if err := r.quarantine(ctx, id, err.Error()); err != nil {
			r.logger.Warn("quarantine", zap.Stringer("block", id), zap.Error(err))
			continue
		}
		r.setSound(id)
	}
}

func countQuarantined(marks map[ulid.ULID]*block.NoCompactMark) int {
	n := 0
	for _, m := range marks {
		if isQuarantine(m) {
			n++
		}
	}
	return n
}

// isQuarantine reports whether a mark, which may be nil, was set because the block is broken.
func isQuarantine(m *block.NoCompactMark) bool {
	return m != nil && strings.HasPrefix(m.Details, triage.QuarantinePrefix)
}
