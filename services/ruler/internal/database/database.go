// Package database holds a ruler's own TSDB, which may still be replaying its log while the process
// is up already.
package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/storeapi"
)

// Config is how the TSDB is kept.
type Config struct {
	Dir            string
	BlockDuration  time.Duration
	Retention      time.Duration
	WALCompression bool
	NoLockfile     bool
	// ShipperFile names the file that lists uploaded blocks: blocks stay until they are in it. Empty where
	// nothing is uploaded.
	ShipperFile string
}

// Database is a TSDB that opens some time. Until then its calls are refused with a storeapi.ErrUnavailable.
// It is safe for concurrent use.
type Database struct {
	cfg    Config
	logger *zap.Logger
	reg    prometheus.Registerer
	opened chan struct{}

	mu sync.RWMutex
	db *tsdb.DB // guarded by mu; nil before and after its time
}

// New returns a database that is not open yet.
func New(cfg Config, logger *zap.Logger, reg prometheus.Registerer) *Database {
	return &Database{cfg: cfg, logger: logger.Named("tsdb"), reg: reg, opened: make(chan struct{})}
}

// Opened is closed when the database can be used.
func (d *Database) Opened() <-chan struct{} { return d.opened }

// Run opens the database, keeps it until ctx ends, and closes it.
func (d *Database) Run(ctx context.Context) error {
	if err := os.MkdirAll(d.cfg.Dir, 0o777); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	o := tsdb.DefaultOptions()
	o.MinBlockDuration = d.cfg.BlockDuration.Milliseconds()
	o.MaxBlockDuration = d.cfg.BlockDuration.Milliseconds()
	o.RetentionDuration = d.cfg.Retention.Milliseconds()
	o.NoLockfile = d.cfg.NoLockfile
	if d.cfg.WALCompression {
		o.WALCompression = compression.Snappy
	}
	// Rules have few series.
	o.StripeSize = 1 << 11
	o.BlocksToDelete = d.deletable
	db, err := tsdb.Open(d.cfg.Dir, logging.Slog(d.logger), d.reg, o, tsdb.NewDBStats())
	if err != nil {
		return fmt.Errorf("open TSDB in %s: %w", d.cfg.Dir, err)
	}
	d.set(db)
	close(d.opened)
	<-ctx.Done()
	d.set(nil)
	if err := db.Close(); err != nil {
		return fmt.Errorf("close TSDB in %s: %w", d.cfg.Dir, err)
	}
	return nil
}

func (d *Database) set(db *tsdb.DB) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.db = db
}

// deletable picks blocks beyond retention, but none that has yet to be uploaded.
func (d *Database) deletable(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	db, err := d.get()
	if err != nil {
		return nil // the database asks while it opens; it will ask again
	}
	del := tsdb.DefaultBlocksToDelete(db)(blocks)
	if d.cfg.ShipperFile == "" || len(del) == 0 {
		return del
	}
	st, err := ship.ReadState(d.cfg.Dir, d.cfg.ShipperFile)
	if err != nil {
		d.logger.Warn("blocks beyond retention stay: which ones are uploaded is not known", zap.Error(err))
		return nil
	}
	uploaded := map[ulid.ULID]bool{}
	for _, id := range st.Uploaded {
		uploaded[id] = true
	}
	for _, b := range blocks {
		if m := b.Meta(); !uploaded[m.ULID] && m.Stats.NumSamples > 0 && m.Compaction.Level == 1 {
			delete(del, m.ULID)
		}
	}
	return del
}

var errClosed = fmt.Errorf("%w: the database of rules is not open", storeapi.ErrUnavailable)

func (d *Database) get() (*tsdb.DB, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.db == nil {
		return nil, errClosed
	}
	return d.db, nil
}

// DB returns the open TSDB.
func (d *Database) DB() (*tsdb.DB, error) { return d.get() }

// Appender implements storage.Appendable.
func (d *Database) Appender(ctx context.Context) storage.Appender {
	db, err := d.get()
	if err != nil {
		return refusing{err: err}
	}
	return db.Appender(ctx)
}

// Querier implements storage.Queryable.
func (d *Database) Querier(mint, maxt int64) (storage.Querier, error) {
	db, err := d.get()
	if err != nil {
		return nil, err
	}
	return db.Querier(mint, maxt)
}

// ChunkQuerier implements storage.ChunkQueryable.
func (d *Database) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	db, err := d.get()
	if err != nil {
		return nil, err
	}
	return db.ChunkQuerier(mint, maxt)
}

// StartTime is the time of the oldest sample, Unix milliseconds.
func (d *Database) StartTime() (int64, error) {
	db, err := d.get()
	if err != nil {
		return 0, err
	}
	return db.StartTime()
}

// IsUnavailable tells that the database was not open.
func IsUnavailable(err error) bool { return errors.Is(err, errClosed) }
