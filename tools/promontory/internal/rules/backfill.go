package rules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/promontory-io/promontory/libs/ownwrites"
)

// backfill is one run of the command.
type backfill struct {
	evaluator *evaluator
	out       *output
	external  labels.Labels
	// fills are in the order in which they are evaluated; reads tells which read results of others.
	fills []*fill
	reads map[*fill]bool
	// notes takes progress.
	notes io.Writer
}

// counts is what a run has done.
type filledCounts struct{ windows, skipped, blocks, evaluations, samples int }

// run fills all windows, oldest first. A window that cannot be filled ends the run: what comes after it may build on it.
func (b *backfill) run(ctx context.Context, windows []window) (c filledCounts, err error) {
	for i := range windows {
		w := &windows[i]
		key := w.key(b.external)
		if b.out.isDone(key) {
			c.skipped++
			continue
		}
		id, samples, err := b.window(ctx, w, key)
		if err != nil {
			return c, fmt.Errorf("fill %s to %s: %w", utc(w.mint), utc(w.maxt), err)
		}
		c.windows++
		c.evaluations += w.evaluations()
		c.samples += int(samples)
		what := "nothing to add"
		if id != "" {
			c.blocks++
			what = fmt.Sprintf("block %s, %d samples", id, samples)
		}
		fmt.Fprintf(b.notes, "%s to %s: %d evaluations: %s\n", utc(w.mint), utc(w.maxt), w.evaluations(), what)
	}
	return c, nil
}

func (b *backfill) window(ctx context.Context, w *window, key string) (id string, samples uint64, err error) {
	writes, err := b.before(ctx, w)
	if err != nil {
		return "", 0, err
	}
	return b.out.write(ctx, w, key, func(appender func() storage.Appender) error {
		// Rules that are read come first, also where several rows of slots are cut into one window.
		for _, f := range b.fills {
			for _, s := range w.slots {
				if s.fill != f {
					continue
				}
				var read *ownwrites.Writes
				if b.reads[f] {
					read = writes
				}
				results, err := b.evaluator.evaluate(ctx, s, read)
				if err != nil {
					return fmt.Errorf("rule %s: %w", f, err)
				}
				if err := appendAll(appender(), results, writes); err != nil {
					return fmt.Errorf("rule %s: %w", f, err)
				}
			}
		}
		return nil
	})
}

// before returns what rules of a window may read of what was filled before it; nil where none reads any.
func (b *backfill) before(ctx context.Context, w *window) (*ownwrites.Writes, error) {
	names := map[string]bool{}
	back := time.Duration(0)
	for _, f := range b.fills {
		names[f.Name] = true
		if !b.reads[f] || !slices.ContainsFunc(w.slots, func(s slots) bool { return s.fill == f }) {
			continue
		}
		d, err := lookback(f.Query)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", f, err)
		}
		back = max(back, d+time.Duration(f.step())*time.Millisecond)
	}
	if back == 0 {
		return nil, nil
	}
	writes := ownwrites.New(b.evaluator.shown())
	return writes, b.out.read(ctx, writes, names, w.mint-back.Milliseconds(), w.mint-1)
}

// shown are the external labels that queriers show.
func (e *evaluator) shown() labels.Labels {
	lb := labels.NewBuilder(e.seen)
	lb.Del(e.dropped)
	return lb.Labels()
}

// appendAll writes results; writes may be nil.
func appendAll(app storage.Appender, results []result, writes *ownwrites.Writes) error {
	for _, r := range results {
		ref := storage.SeriesRef(0)
		for _, p := range r.points {
			var err error
			if p.h != nil {
				ref, err = app.AppendHistogram(ref, r.labels, p.t, nil, p.h)
			} else {
				ref, err = app.Append(ref, r.labels, p.t, p.f)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("write %s: %w", r.labels, err), app.Rollback())
			}
			if writes != nil {
				writes.Add(r.labels, p.t, p.f, p.h)
			}
		}
	}
	return app.Commit()
}

// describe says what would be done.
func describe(out io.Writer, fills []*fill, windows []window) {
	for _, f := range fills {
		n := 0
		for _, s := range f.spans {
			n += int((s.last-s.first)/f.step()) + 1
		}
		fmt.Fprintf(out, "%s: %d evaluations every %gs from %s to %s\n", f, n, f.Interval, utc(f.spans[0].first), utc(f.spans[len(f.spans)-1].last))
	}
	for i := range windows {
		fmt.Fprintf(out, "%s to %s: %d evaluations\n", utc(windows[i].mint), utc(windows[i].maxt), windows[i].evaluations())
	}
}
