package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
)

// Config is what a Shipper is told.
type Config struct {
	// Dir is the TSDB's folder.
	Dir string
	// Labels returns the external labels of the blocks to come. It is asked once per sync.
	Labels func() labels.Labels
	// Source is recorded in each block uploaded.
	Source block.Source
	// MetaFileName is the state file's name in Dir; DefaultMetaFileName where it is empty.
	MetaFileName string
	// HashFunc adds checksums of the files to meta.json.
	HashFunc block.HashFunc
	// UploadConcurrency is how many chunk segments of a block are sent at once; below 1 means 1.
	UploadConcurrency int
	// UploadCompacted ships blocks that the TSDB has compacted itself too, unless
	// they overlap a block of the same labels in the bucket.
	UploadCompacted bool
	// AllowOutOfOrder goes on with newer blocks when an older one fails.
	AllowOutOfOrder bool
	// SkipCorrupted passes over unreadable blocks instead of failing on them.
	SkipCorrupted bool
	// Now is the clock for upload times; nil means time.Now.
	Now func() time.Time
}

// Shipper uploads a TSDB's blocks. Its methods may be called concurrently; syncs
// take turns.
type Shipper struct {
	logger  *zap.Logger
	bkt     objstore.Bucket
	cfg     Config
	metrics *metrics

	// turn holds a token while a sync runs. It guards the staging folder and the
	// state file, and unlike a mutex it can be waited for with a context.
	turn chan struct{}
}

// New returns a Shipper. logger and reg may be nil.
func New(logger *zap.Logger, bkt objstore.Bucket, cfg Config, reg prometheus.Registerer) (*Shipper, error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	if cfg.MetaFileName == "" {
		cfg.MetaFileName = DefaultMetaFileName
	}
	if cfg.Dir == "" {
		return nil, errors.New("shipper: no TSDB folder given")
	}
	if cfg.Labels == nil {
		return nil, errors.New("shipper: no source of external labels given")
	}
	if _, err := block.ParseHashFunc(string(cfg.HashFunc)); err != nil {
		return nil, fmt.Errorf("shipper: %w", err)
	}
	return &Shipper{
		logger:  logger.Named("shipper"),
		bkt:     bkt,
		cfg:     cfg,
		metrics: newMetrics(reg),
		turn:    make(chan struct{}, 1),
	}, nil
}

// Sync uploads what is in the folder and not yet in the bucket, oldest first, and
// returns how many blocks it uploaded, also when it fails.
//
// Passed over are blocks without samples, blocks the TSDB has compacted (unless
// UploadCompacted), blocks the state file lists, and blocks whose meta.json is in the
// bucket and usable, which are then listed. The first failure ends the sync,
// for the compactor wants blocks in order, unless AllowOutOfOrder. An unreadable block
// holds up those created after it, unless SkipCorrupted or AllowOutOfOrder. The errors
// name the blocks, wrap what block.Upload returns, and may all be retried by the next Sync.
func (s *Shipper) Sync(ctx context.Context) (uploaded int, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	s.metrics.dirSyncs.Inc()
	uploaded, err = s.sync(ctx)
	if err != nil {
		s.metrics.dirSyncFails.Inc()
		return uploaded, fmt.Errorf("ship blocks of %s: %w", s.cfg.Dir, err)
	}
	return uploaded, nil
}

func (s *Shipper) sync(ctx context.Context) (int, error) {
	// What a killed sync has staged.
	if err := os.RemoveAll(s.stagingRoot()); err != nil {
		return 0, err
	}
	local, err := scan(s.cfg.Dir)
	if err != nil {
		return 0, err
	}
	pass := &pass{s: s, labels: s.cfg.Labels(), local: local, done: s.recorded(local)}
	err = pass.run(ctx)
	return pass.uploaded, errors.Join(err, pass.record())
}

// recorded returns the local blocks that the state file lists. A state file that
// cannot be read costs questions to the bucket, nothing more.
func (s *Shipper) recorded(local localBlocks) map[ulid.ULID]struct{} {
	state, err := ReadState(s.cfg.Dir, s.cfg.MetaFileName)
	if err != nil {
		s.logger.Warn("unusable state file, asking the bucket for each block", zap.Error(err))
	}
	done := map[ulid.ULID]struct{}{}
	for _, id := range state.Uploaded {
		_, bad := local.bad[id]
		if bad || slices.ContainsFunc(local.good, func(m *block.Meta) bool { return m.ULID == id }) {
			done[id] = struct{}{}
		}
	}
	return done
}

// pass is one sync.
type pass struct {
	s        *Shipper
	labels   labels.Labels
	local    localBlocks
	guard    *overlapGuard // made when first needed
	done     map[ulid.ULID]struct{}
	uploaded int
}

// record writes the state file.
func (p *pass) record() error {
	ids := slices.SortedFunc(maps.Keys(p.done), ulid.ULID.Compare)
	return writeState(p.s.cfg.Dir, p.s.cfg.MetaFileName, State{Version: stateVersion, Uploaded: ids})
}

func (p *pass) run(ctx context.Context) error {
	barrier, err := p.corrupted()
	errs := []error{err}
	compactedLeft := false
	for _, m := range p.local.good {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if !p.wanted(m) {
			continue
		}
		if barrier != nil && m.ULID.Time() > barrier.Time() {
			continue
		}
		err := p.ship(ctx, m)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		compactedLeft = compactedLeft || m.Compaction.Level > 1
		if !p.s.cfg.AllowOutOfOrder && !p.skips(err) {
			break
		}
		p.s.logger.Error("block not uploaded, going on with the next", zap.Stringer("block", m.ULID), zap.Error(err))
	}
	err = errors.Join(p.unskipped(errs)...)
	if p.s.cfg.UploadCompacted && err == nil && !compactedLeft {
		p.s.metrics.compactedDone.Set(1)
	} else {
		p.s.metrics.compactedDone.Set(0)
	}
	return err
}

// corrupted counts and reports unreadable blocks. barrier is the oldest of them where
// it must hold up the blocks created after it.
func (p *pass) corrupted() (barrier *ulid.ULID, err error) {
	var errs []error
	for _, id := range p.local.badIDs() {
		// What is in the bucket was readable once; its local remains harm nobody.
		if _, ok := p.done[id]; ok {
			continue
		}
		p.s.metrics.corrupted.Inc()
		if p.s.cfg.SkipCorrupted {
			p.s.logger.Error("unreadable block passed over", zap.Stringer("block", id), zap.Error(p.local.bad[id]))
			continue
		}
		errs = append(errs, p.local.bad[id])
		if barrier == nil && !p.s.cfg.AllowOutOfOrder {
			barrier = &id
		}
	}
	return barrier, errors.Join(errs...)
}

// skips reports whether a failed upload is one that SkipCorrupted passes over.
func (p *pass) skips(err error) bool {
	return p.s.cfg.SkipCorrupted && errors.Is(err, block.ErrCorrupt)
}

func (p *pass) unskipped(errs []error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err != nil && p.skips(err) })
}

// wanted reports whether a block is to be uploaded, as far as its meta.json tells.
func (p *pass) wanted(m *block.Meta) bool {
	if m.Stats.NumSamples == 0 {
		return false
	}
	if m.Compaction.Level > 1 && !p.s.cfg.UploadCompacted {
		return false
	}
	_, done := p.done[m.ULID]
	return !done
}

// ship brings one block to the bucket, unless it is there.
func (p *pass) ship(ctx context.Context, m *block.Meta) error {
	switch _, err := block.FetchMeta(ctx, p.s.bkt, m.ULID); {
	case err == nil:
		return p.finished(m)
	case errors.Is(err, block.ErrMetaNotFound), errors.Is(err, block.ErrMetaCorrupt):
		// The latter is what a killed upload to a bucket without atomic writes leaves.
	default:
		return err
	}
	if p.labels.IsEmpty() {
		return fmt.Errorf("block %s: %w", m.ULID, block.ErrNoLabels)
	}
	if m.Compaction.Level > 1 {
		if err := p.checkOverlap(ctx, m); err != nil {
			return err
		}
	}
	if err := p.upload(ctx, m); err != nil {
		if errors.Is(err, block.ErrExists) {
			return p.finished(m)
		}
		if p.s.gone(m) {
			p.s.logger.Info("block was deleted by the TSDB before it was uploaded", zap.Stringer("block", m.ULID))
			return nil
		}
		p.s.metrics.uploadFails.Inc()
		if errors.Is(err, block.ErrCorrupt) {
			p.s.metrics.corrupted.Inc()
		}
		return err
	}
	p.uploaded++
	if p.guard != nil {
		p.guard.blocks = append(p.guard.blocks, m)
	}
	p.s.metrics.uploads.Inc()
	p.s.logger.Info("block uploaded", zap.Stringer("block", m.ULID),
		zap.Int64("mint", m.MinTime), zap.Int64("maxt", m.MaxTime), zap.Int("level", m.Compaction.Level))
	return p.finished(m)
}

// finished enters a block into the state file at once: Prometheus may be waiting
// for it before it compacts.
func (p *pass) finished(m *block.Meta) error {
	p.done[m.ULID] = struct{}{}
	return p.record()
}

func (p *pass) upload(ctx context.Context, m *block.Meta) (err error) {
	dir, err := p.s.stage(m, p.labels)
	if err != nil {
		return fmt.Errorf("stage block %s: %w", m.ULID, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	_, err = block.Upload(ctx, p.s.logger, p.s.bkt, dir, block.UploadOptions{
		Concurrency: p.s.cfg.UploadConcurrency,
		HashFunc:    p.s.cfg.HashFunc,
		Now:         p.s.cfg.Now,
	})
	return err
}
