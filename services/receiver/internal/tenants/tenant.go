package tenants

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/tsdbstore"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// ErrUnavailable says that a tenant cannot be written or read at the moment. Try again.
var ErrUnavailable = errors.New("tenant is not available")

// ErrReplaying says that a tenant's recent data is still being read from its log.
var ErrReplaying = errors.New("tenant is replaying its log")

type state int

const (
	opening state = iota // replaying; writes go to the journal
	open                 // the TSDB is in use
	broken               // the TSDB failed; it will be opened again
	closed               // for good
)

// Tenant is one tenant's data. It is safe for concurrent use.
type Tenant struct {
	name     string
	dir      string
	opts     *Options
	external func() labels.Labels
	logger   *zap.Logger
	reg      *registerer
	metrics  *metrics
	shipper  *ship.Shipper // nil without a bucket
	shipReg  *registerer
	meta     *metadata
	cache    *seriesCache
	lastDB   atomic.Pointer[tsdb.DB]

	// mu is held for reading by each write, so that whoever holds it alone knows that none is under way.
	mu       sync.RWMutex
	state    state         // guarded by mu
	why      error         // of broken; guarded by mu
	db       *tsdb.DB      // guarded by mu; set while open
	opened   chan struct{} // guarded by mu; closed when opening ends
	deadline time.Time     // guarded by mu; until when writes wait for opening

	// jmu guards the journal. It is taken after mu.
	jmu     sync.Mutex
	journal *journal // nil until it is needed

	// readers is held for reading by each read, so that a TSDB is closed when nobody reads it. It is
	// separate from mu so that a long read never holds up a write.
	readers sync.RWMutex
}

// Name is the tenant's.
func (t *Tenant) Name() string { return t.name }

// External are the labels of all its series.
func (t *Tenant) External() labels.Labels { return t.external() }

// Metadata is what senders said of the tenant's metric families.
func (t *Tenant) Metadata() map[string]remotewrite.Metadata { return t.meta.all() }

// Describe keeps metadata that came with a write.
func (t *Tenant) Describe(ms []remotewrite.Metadata) { t.meta.add(ms) }

// Append writes the series that pick names, all of them when it is nil. It returns those that failed, with
// places in pick. The error is [ErrUnavailable]: then nothing was written.
func (t *Tenant) Append(ctx context.Context, series []remotewrite.Series, pick []uint32) ([]verdict.Failure, error) {
	t.mu.RLock()
	if t.state == opening {
		opened, wait := t.opened, time.Until(t.deadline)
		t.mu.RUnlock()
		if err := waitFor(ctx, opened, wait); err != nil {
			return nil, err
		}
		t.mu.RLock()
	}
	defer t.mu.RUnlock()
	switch t.state {
	case open:
	case opening:
		return nil, t.addToJournal(series, pick)
	default:
		return nil, t.unavailable()
	}
	failures, err := t.write(ctx, t.db, t.cache, series, pick)
	if err != nil {
		t.metrics.failedCommits.Inc()
		// What the TSDB has in memory may be missing in its log now; only a replay makes sure that they agree.
		go t.fail(t.db, err)
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, t.name, err)
	}
	for i := range failures {
		t.metrics.rejected[failures[i].Kind].Add(float64(failures[i].Floats + failures[i].Histograms))
	}
	return failures, nil
}

// waitFor waits for c to be closed, at most for d.
func waitFor(ctx context.Context, c <-chan struct{}, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	return nil
}

// unavailable is why; mu is held.
func (t *Tenant) unavailable() error {
	if t.why != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, t.name, t.why)
	}
	return fmt.Errorf("%w: %s is closed", ErrUnavailable, t.name)
}

func (t *Tenant) addToJournal(series []remotewrite.Series, pick []uint32) error {
	t.jmu.Lock()
	defer t.jmu.Unlock()
	if t.journal == nil {
		j, err := openJournal(t.dir, t.opts.JournalBytes)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnavailable, t.name, err)
		}
		t.journal = j
	}
	before := t.journal.size
	if err := t.journal.add(series, pick); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, t.name, err)
	}
	t.metrics.journaled.Add(float64(t.journal.size - before))
	return nil
}

// openDB opens the TSDB, appends what was written meanwhile, and makes the tenant open. It is called
// by whoever has put the tenant into the state opening.
func (t *Tenant) openDB(ctx context.Context) {
	start := time.Now()
	err := t.tryOpen(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.logger.Info("tenant is open", zap.Duration("took", time.Since(start)))
	case t.state == opening:
		t.state, t.why = broken, err
		t.logger.Error("tenant cannot be opened", zap.Error(err))
	}
	close(t.opened)
}

func (t *Tenant) tryOpen(ctx context.Context) (err error) {
	if err := os.MkdirAll(t.dir, 0o777); err != nil {
		return err
	}
	// What a crash left is stale: this process has the folder now.
	if err := os.Remove(filepath.Join(t.dir, "lock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale lock: %w", err)
	}
	if err := t.adoptJournal(); err != nil {
		return err
	}
	cache := t.cache
	o := t.opts.tsdb()
	o.SeriesLifecycleCallback = (*lifecycle)(cache)
	o.BlocksToDelete = t.deletable
	t.lastDB.Store(nil)
	db, err := tsdb.Open(t.dir, logging.Slog(t.logger), t.reg.orNil(), o, nil)
	if err != nil {
		t.reg.unregisterAll()
		return fmt.Errorf("open TSDB: %w", err)
	}
	db.DisableCompactions()
	t.lastDB.Store(db)
	if err := t.drain(ctx, db); err != nil {
		return errors.Join(err, t.closeDB(db))
	}
	return nil
}

// adoptJournal opens what an earlier start has left.
func (t *Tenant) adoptJournal() error {
	t.jmu.Lock()
	defer t.jmu.Unlock()
	if t.journal != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(t.dir, journalName)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	j, err := openJournal(t.dir, t.opts.JournalBytes)
	if err != nil {
		return err
	}
	t.journal = j
	return nil
}

// drain appends the journal to db. The last part is appended while writes wait, and then they go to db.
func (t *Tenant) drain(ctx context.Context, db *tsdb.DB) error {
	done := int64(0)
	for {
		t.jmu.Lock()
		j := t.journal
		size := int64(0)
		if j != nil {
			size = j.size
		}
		t.jmu.Unlock()
		if j == nil || size-done < 1<<20 {
			break
		}
		if err := t.replay(ctx, db, j, done, size); err != nil {
			return err
		}
		done = size
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != opening {
		return fmt.Errorf("%w: %s was closed meanwhile", ErrUnavailable, t.name)
	}
	if j := t.journal; j != nil {
		if err := t.replay(ctx, db, j, done, j.size); err != nil {
			return err
		}
		t.journal = nil
		if err := j.remove(); err != nil {
			return fmt.Errorf("remove journal: %w", err)
		}
	}
	t.db, t.state, t.why = db, open, nil
	return nil
}

// replay appends a part of the journal.
func (t *Tenant) replay(ctx context.Context, db *tsdb.DB, j *journal, from, to int64) error {
	var series []remotewrite.Series
	return j.readUntil(from, to, func(content []byte) error {
		var err error
		if series, err = parseEntry(content, series); err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		failures, err := t.write(ctx, db, t.cache, series, nil)
		if err != nil {
			return fmt.Errorf("append journal: %w", err)
		}
		for i := range failures {
			t.metrics.journalRejected.Add(float64(failures[i].Floats + failures[i].Histograms))
		}
		return nil
	})
}

// lifecycle makes the cache forget what the TSDB forgets.
type lifecycle seriesCache

func (*lifecycle) PreCreation(labels.Labels) error { return nil }
func (*lifecycle) PostCreation(labels.Labels)      {}
func (l *lifecycle) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	(*seriesCache)(l).forget(func(ref chunks.HeadSeriesRef) bool { _, ok := gone[ref]; return ok })
}

// fail takes a TSDB out of service whose commit failed.
func (t *Tenant) fail(db *tsdb.DB, err error) {
	t.mu.Lock()
	if t.state != open || t.db != db {
		t.mu.Unlock()
		return
	}
	t.state, t.why, t.db = broken, err, nil
	t.mu.Unlock()
	t.logger.Error("tenant is out of service until its database can be opened again", zap.Error(err))
	if err := t.closeDB(db); err != nil {
		t.logger.Warn("close broken database", zap.Error(err))
	}
}

// closeDB closes db once nobody reads it. Nobody may write it any more.
func (t *Tenant) closeDB(db *tsdb.DB) error {
	t.readers.Lock()
	defer t.readers.Unlock()
	err := db.Close()
	t.reg.unregisterAll()
	// References of one TSDB mean nothing to the next.
	t.cache.forget(func(chunks.HeadSeriesRef) bool { return true })
	t.lastDB.Store(nil) // from here on another may be opened
	return err
}

// reopen opens a broken tenant again. It returns when that is done or has failed.
func (t *Tenant) reopen(ctx context.Context) {
	// The old database is closed by now or will be soon: the lock is free then.
	t.readers.Lock()
	t.readers.Unlock() //nolint:staticcheck // waiting is all that is wanted
	t.mu.Lock()
	if t.state != broken || t.lastDB.Load() != nil {
		t.mu.Unlock()
		return
	}
	t.begin(time.Now())
	t.mu.Unlock()
	t.openDB(ctx)
}

// begin puts the tenant into the state opening; mu is held.
func (t *Tenant) begin(now time.Time) {
	t.state, t.why = opening, nil
	t.opened = make(chan struct{})
	t.deadline = now.Add(t.opts.OpenWait)
}

// Read calls f with the tenant's database, which stays open until f returns. The error is
// [ErrReplaying] or [ErrUnavailable] where there is none at the moment.
func (t *Tenant) Read(f func(db *tsdb.DB) error) error {
	t.readers.RLock()
	defer t.readers.RUnlock()
	t.mu.RLock()
	db, st, err := t.db, t.state, t.unavailable()
	t.mu.RUnlock()
	switch {
	case st == opening:
		return fmt.Errorf("%w: %s", ErrReplaying, t.name)
	case db == nil:
		return err
	}
	return f(db)
}

// Store calls f with the tenant's Store API, with the errors of Read.
func (t *Tenant) Store(f func(*tsdbstore.Store) error) error {
	return t.Read(func(db *tsdb.DB) error { return f(tsdbstore.New(db, t.external)) })
}

// MinTime is the time of the oldest sample; ok is false while it is not known.
func (t *Tenant) MinTime() (ms int64, ok bool) {
	err := t.Read(func(db *tsdb.DB) (err error) {
		ms, err = db.StartTime()
		return err
	})
	return ms, err == nil
}

// NumSeries is how many series are active.
func (t *Tenant) NumSeries() (n uint64) {
	_ = t.Read(func(db *tsdb.DB) error {
		n = db.Head().NumSeries()
		return nil
	})
	return n
}
