package tenants

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block/ship"
)

// deletable picks blocks beyond retention, but none that has yet to be uploaded.
func (t *Tenant) deletable(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	db := t.lastDB.Load()
	if db == nil {
		return nil // the database asks while it opens; it will ask again
	}
	del := tsdb.DefaultBlocksToDelete(db)(blocks)
	if t.shipper == nil || len(del) == 0 {
		return del
	}
	st, err := ship.ReadState(t.dir, "")
	if err != nil {
		t.logger.Warn("blocks beyond retention stay: which ones are uploaded is not known", zap.Error(err))
		return nil
	}
	uploaded := map[ulid.ULID]bool{}
	for _, id := range st.Uploaded {
		uploaded[id] = true
	}
	for _, b := range blocks {
		m := b.Meta()
		if _, ok := del[m.ULID]; ok && !uploaded[m.ULID] && m.Stats.NumSamples > 0 && m.Compaction.Level == 1 {
			delete(del, m.ULID)
		}
	}
	return del
}

// cutDue reports whether the head holds a whole block that should be cut now. Tenants differ in how long
// they wait beyond what is needed, so that not all of them cut at once.
func (t *Tenant) cutDue(mint, maxt, now int64) (cut, idle bool) {
	if mint == math.MaxInt64 || maxt < mint {
		return false, false
	}
	width := t.opts.BlockDuration.Milliseconds()
	spread := int64(xxhash.Sum64String(t.name) % uint64(max(width/4, 1)))
	wait := width/2*3 + spread
	return maxt-mint > wait, now-maxt > wait
}

// cut turns what is due of the head into blocks.
func (t *Tenant) cut(ctx context.Context) error {
	var cut, idle bool
	err := t.Read(func(db *tsdb.DB) error {
		h := db.Head()
		cut, idle = t.cutDue(h.MinTime(), h.MaxTime(), t.opts.now().UnixMilli())
		if !cut || idle {
			return nil
		}
		return db.Compact(ctx)
	})
	if err != nil || !idle {
		return ignoreAbsence(err)
	}
	// Nothing came for long: the head goes as a whole, while writes, should there be one, wait.
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != open {
		return nil
	}
	return t.flush(ctx, t.db)
}

func ignoreAbsence(err error) error {
	if errors.Is(err, ErrReplaying) || errors.Is(err, ErrUnavailable) {
		return nil
	}
	return err
}

// flush turns all of the head into blocks. Nobody may write meanwhile.
func (t *Tenant) flush(ctx context.Context, db *tsdb.DB) error {
	head := db.Head()
	width := t.opts.BlockDuration.Milliseconds()
	mint, maxt := head.MinTime(), head.MaxTime()
	if mint != math.MaxInt64 {
		for from := mint; from <= maxt && ctx.Err() == nil; {
			to := min(windowEnd(from, width)-1, maxt)
			if err := db.CompactHead(tsdb.NewRangeHead(head, from, to)); err != nil {
				return fmt.Errorf("flush head: %w", err)
			}
			from = to + 1
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := db.CompactOOOHead(ctx); err != nil {
		return fmt.Errorf("flush out-of-order head: %w", err)
	}
	return nil
}

// flushNow turns all of the head into blocks and uploads them. Writes wait for the first part.
func (t *Tenant) flushNow(ctx context.Context) error {
	err := func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.state != open {
			return nil // what is in its log is cut when its time has come
		}
		return t.flush(ctx, t.db)
	}()
	if err != nil {
		return err
	}
	return t.upload(ctx)
}

// windowEnd is the exclusive end of the window of a width that t lies in.
func windowEnd(t, width int64) int64 {
	w := t / width
	if t < 0 && t%width != 0 {
		w--
	}
	return (w + 1) * width
}

// upload sends blocks that are not in the bucket yet.
func (t *Tenant) upload(ctx context.Context) error {
	if t.shipper == nil {
		return nil
	}
	if _, err := t.shipper.Sync(ctx); err != nil {
		return fmt.Errorf("upload blocks of tenant %s: %w", t.name, err)
	}
	return nil
}

// close ends the tenant's work: writes are refused, what is in memory is flushed and uploaded where there is
// a bucket, and the database is closed. The data stays on disk.
func (t *Tenant) close(ctx context.Context) error {
	t.mu.Lock()
	db, st := t.db, t.state
	t.state, t.db = closed, nil
	opened := t.opened
	t.mu.Unlock()
	if st == opening {
		// A replay cannot be cut short; the journal holds what came meanwhile.
		select {
		case <-opened:
		case <-ctx.Done():
		}
		t.jmu.Lock()
		defer t.jmu.Unlock()
		if t.journal != nil {
			return t.journal.close()
		}
		return nil
	}
	if db == nil {
		return nil
	}
	var errs []error
	if t.shipper != nil {
		errs = append(errs, t.flush(ctx, db))
	}
	errs = append(errs, t.closeDB(db))
	errs = append(errs, t.upload(ctx))
	return errors.Join(errs...)
}

// expired reports whether the newest sample is beyond retention.
func (t *Tenant) expired() bool {
	newest := int64(math.MinInt64)
	err := t.Read(func(db *tsdb.DB) error {
		newest = db.Head().MaxTime()
		for _, b := range db.Blocks() {
			newest = max(newest, b.Meta().MaxTime)
		}
		return nil
	})
	if err != nil || newest == math.MinInt64 || t.opts.Retention <= 0 {
		return false
	}
	return newest < t.opts.now().Add(-t.opts.Retention).UnixMilli()
}

// prune closes an expired tenant and deletes its folder, unless there is something left to upload.
func (t *Tenant) prune(ctx context.Context) error {
	if err := t.close(ctx); err != nil {
		return fmt.Errorf("prune tenant %s: %w", t.name, err)
	}
	if err := os.RemoveAll(t.dir); err != nil {
		return fmt.Errorf("prune tenant %s: %w", t.name, err)
	}
	t.logger.Info("tenant without new samples was removed", zap.Duration("retention", t.opts.Retention))
	return nil
}

// every calls f at once and then each interval until ctx is done.
func every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		f(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
