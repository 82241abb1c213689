package indexheader

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

// Config says how headers are kept.
type Config struct {
	// Dir is the folder below which each block has its own with the header in it;
	// empty keeps headers in memory.
	Dir string
	// Sampling is how many values of a label share one place in memory.
	Sampling int
	// Lazy opens a header at its first use and closes it after IdleTimeout without use.
	Lazy        bool
	IdleTimeout time.Duration
}

// Opener makes Handles. It is safe for concurrent use.
type Opener struct {
	bkt     *rangeread.Bucket
	cfg     Config
	logger  *zap.Logger
	metrics *Metrics
	now     func() time.Time
}

// NewOpener returns an Opener over bkt.
func NewOpener(bkt *rangeread.Bucket, cfg Config, logger *zap.Logger, m *Metrics) *Opener {
	return &Opener{bkt: bkt, cfg: cfg, logger: logger, metrics: m, now: time.Now}
}

// Handle returns the handle of the header of block id. Nothing is read yet.
func (o *Opener) Handle(id string, ix Index) *Handle {
	return &Handle{o: o, id: id, ix: ix}
}

// file is where the header of a block is kept.
func (o *Opener) file(id string) string { return filepath.Join(o.cfg.Dir, id, Filename) }

// open opens the header on disk, or makes it where there is none that can be read.
func (o *Opener) open(ctx context.Context, id string, ix Index) (*Reader, error) {
	if o.cfg.Dir == "" {
		b, err := o.build(ctx, func() ([]byte, error) { return BuildBytes(ctx, o.bkt, ix) })
		if err != nil {
			return nil, err
		}
		return o.load(func() (*Reader, error) { return OpenBytes(b, o.cfg.Sampling) })
	}
	file := o.file(id)
	r, err := o.load(func() (*Reader, error) { return OpenFile(file, o.cfg.Sampling) })
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		o.logger.Warn("index header is unreadable, making it anew", zap.String("block", id), zap.Error(err))
	}
	if _, err := o.build(ctx, func() ([]byte, error) { return nil, BuildFile(ctx, o.bkt, ix, file) }); err != nil {
		return nil, err
	}
	return o.load(func() (*Reader, error) { return OpenFile(file, o.cfg.Sampling) })
}

func (o *Opener) build(_ context.Context, f func() ([]byte, error)) ([]byte, error) {
	begin := time.Now()
	defer func() { o.metrics.download.Observe(time.Since(begin).Seconds()) }()
	return f()
}

func (o *Opener) load(f func() (*Reader, error)) (*Reader, error) {
	begin := time.Now()
	r, err := f()
	if err == nil {
		o.metrics.load.Observe(time.Since(begin).Seconds())
	}
	return r, err
}

// Handle is the header of one block, open or not. It is safe for concurrent use.
type Handle struct {
	o  *Opener
	id string
	ix Index

	// opening holds a token while the header is being opened, so that those who need
	// it at the same time wait with their own contexts.
	openingOnce sync.Once
	opening     chan struct{}

	mu       sync.Mutex // guards all below
	r        *Reader
	uses     int
	lastUsed time.Time
	retired  bool
}

// Acquire returns the reader, opened where it was not, and what has to be called when it is
// not needed any more. Errors wrap ErrCorrupt, rangeread.ErrMissing or
// rangeread.ErrTruncated where the block is to blame.
func (h *Handle) Acquire(ctx context.Context) (*Reader, func(), error) {
	if r := h.take(); r != nil {
		return r, h.release, nil
	}
	h.openingOnce.Do(func() { h.opening = make(chan struct{}, 1) })
	select {
	case h.opening <- struct{}{}:
		defer func() { <-h.opening }()
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if r := h.take(); r != nil {
		return r, h.release, nil
	}
	begin := time.Now()
	r, err := h.o.open(ctx, h.id, h.ix)
	if h.o.cfg.Lazy {
		h.o.metrics.lazyLoaded(time.Since(begin), err)
	}
	if err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	h.r, h.uses, h.lastUsed = r, h.uses+1, h.o.now()
	h.mu.Unlock()
	return r, h.release, nil
}

func (h *Handle) take() *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.r != nil {
		h.uses++
		h.lastUsed = h.o.now()
	}
	return h.r
}

func (h *Handle) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uses--
	h.lastUsed = h.o.now()
	if h.retired {
		h.closeUnused()
	}
}

// closeUnused closes the reader unless it is in use. The caller holds mu.
func (h *Handle) closeUnused() {
	if h.r == nil || h.uses > 0 {
		return
	}
	err := h.r.Close()
	h.r = nil
	if h.o.cfg.Lazy {
		h.o.metrics.lazyUnloaded(err)
	}
	if err != nil {
		h.o.logger.Warn("close index header", zap.String("block", h.id), zap.Error(err))
	}
}

// CloseIdle closes the reader where nobody has used it for the idle timeout; it will be opened
// again when it is needed.
func (h *Handle) CloseIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.o.cfg.Lazy && h.o.cfg.IdleTimeout > 0 && h.o.now().Sub(h.lastUsed) >= h.o.cfg.IdleTimeout {
		h.closeUnused()
	}
}

// Retire closes the reader as soon as nobody uses it.
func (h *Handle) Retire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retired = true
	h.closeUnused()
}

// Remove deletes a block's folder below the opener's, which holds its header.
func (o *Opener) Remove(id string) error {
	if o.cfg.Dir == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(o.cfg.Dir, id))
}
