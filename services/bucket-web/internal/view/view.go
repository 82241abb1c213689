// Package view keeps what is known of a bucket: all blocks with their marks, as of the last good look at it.
//
// A look that fails leaves the state of the one before in place and is remembered beside it, so that whoever shows the state can
// say both. After a mark was set the marks of that one block are read again: the next look may be far away.
package view

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blockapi"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

// State is one view of the bucket. It is shared and must not be changed.
type State struct {
	// Version rises with each change.
	Version uint64
	// Blocks are sorted by their beginning, then by ULID.
	Blocks []*block.Meta
	Marks  map[ulid.ULID]blockapi.Marks
	// Unusable are blocks without a meta.json that can be read, and why.
	Unusable map[ulid.ULID]error
	// Refreshed is when the blocks were listed; zero before the first time.
	Refreshed time.Time
	// Tried is when the last look ended, and Err why it failed or what it could not read.
	Tried time.Time
	Err   error
}

// Fetcher lists the blocks; *fetch.Fetcher is one.
type Fetcher interface {
	Fetch(ctx context.Context) (*fetch.Result, error)
}

// Config is how often to look.
type Config struct {
	Interval time.Duration
	// Timeout bounds one look; 0 does not.
	Timeout time.Duration
	// Retry is how soon a look that failed is tried again, if that is sooner than Interval.
	Retry time.Duration
}

// View is the kept state. Safe for concurrent use.
type View struct {
	cfg     Config
	fetcher Fetcher
	bkt     objstore.BucketReader
	logger  *zap.Logger
	now     func() time.Time
	wake    chan struct{}

	mu    sync.Mutex // guards state
	state State
}

// New returns an empty view; Run fills it.
func New(cfg Config, fetcher Fetcher, bkt objstore.BucketReader, logger *zap.Logger) *View {
	return &View{cfg: cfg, fetcher: fetcher, bkt: bkt, logger: logger.Named("view"), now: time.Now, wake: make(chan struct{}, 1)}
}

// State returns the present state.
func (v *View) State() State {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// Wake has the bucket looked at now. It does not wait.
func (v *View) Wake() {
	select {
	case v.wake <- struct{}{}:
	default: // one is due already
	}
}

// Run looks at the bucket, now and again, until ctx ends.
func (v *View) Run(ctx context.Context) error {
	for {
		err := v.look(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		wait := v.cfg.Interval
		if err != nil && v.cfg.Retry > 0 {
			v.logger.Warn("look at the bucket", zap.Error(err))
			wait = min(wait, v.cfg.Retry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-v.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (v *View) look(ctx context.Context) error {
	if v.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.cfg.Timeout)
		defer cancel()
	}
	res, err := v.fetcher.Fetch(ctx)
	now := v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.Version++
	v.state.Tried, v.state.Err = now, err
	if res == nil {
		return err
	}
	v.state.Blocks, v.state.Marks, v.state.Refreshed = sorted(res.Metas), blockapi.Joined(res.Marks), now
	v.state.Unusable = maps.Clone(res.Partial)
	for id, err := range res.Failed {
		if _, known := res.Metas[id]; !known {
			if v.state.Unusable == nil {
				v.state.Unusable = map[ulid.ULID]error{}
			}
			v.state.Unusable[id] = err
		}
	}
	return err
}

func sorted(metas map[ulid.ULID]*block.Meta) []*block.Meta {
	return slices.SortedFunc(maps.Values(metas), func(a, b *block.Meta) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), a.ULID.Compare(b.ULID))
	})
}

// ReadMarks reads the marks of one block now, and enters them into the state.
func (v *View) ReadMarks(ctx context.Context, id ulid.ULID) (blockapi.Marks, error) {
	m, err := blockapi.ReadMarks(ctx, v.bkt, id)
	if err != nil {
		return m, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Marks[id] == m {
		return m, nil
	}
	marks := maps.Clone(v.state.Marks)
	if marks == nil {
		marks = map[ulid.ULID]blockapi.Marks{}
	}
	if marks[id] = m; m.Empty() {
		delete(marks, id)
	}
	v.state.Marks = marks
	v.state.Version++
	return m, nil
}
