package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// Aside is a block that should be served and cannot be.
type Aside struct {
	// ID is the block's ULID.
	ID string
	// Known is whether labels, times and resolution are known. Where they are not, nobody can
	// tell which answers the block would have been part of.
	Known      bool
	External   labels.Labels
	Resolution int64
	// MinTime is inclusive, MaxTime exclusive, Unix milliseconds.
	MinTime, MaxTime int64
	// Reason is what is wrong with it.
	Reason error
}

// touches reports whether the block would be part of an answer.
func (a *Aside) touches(ms, blockMatchers []*labels.Matcher, mint, maxt, maxResolution int64) bool {
	if !a.Known {
		return true
	}
	if a.MinTime > maxt || a.MaxTime <= mint || a.Resolution > maxResolution {
		return false
	}
	if _, ok := storeapi.MatchExternal(a.External, ms); !ok {
		return false
	}
	return matchBlock(a.External, a.ID, blockMatchers)
}

func (a *Aside) String() string {
	if !a.Known {
		return fmt.Sprintf("block %s is not served, its time and labels are unknown: %v", a.ID, a.Reason)
	}
	return fmt.Sprintf("block %s of %s, times %d to %d, is not served: %v", a.ID, a.External, a.MinTime, a.MaxTime, a.Reason)
}

// troubles decides what becomes of the blocks that fail in one answer.
type troubles struct {
	strategy thanos.PartialResponseStrategy
	warn     func(text string) error
	metrics  *metrics
	// failed is how many blocks the bucket would not give.
	failed atomic.Int32
}

// maxFailed is how many blocks of one answer the bucket may fail to give before the trouble is taken for the bucket's and
// ends the answer: waiting for each of a thousand blocks to fail helps nobody.
const maxFailed = 8

// aside tells about the blocks that an answer lacks from the start. A block of which
// nothing is known is warned about, but fails nobody: it may be the remains of an upload.
func (t *troubles) aside(all []Aside, touches func(*Aside) bool) error {
	for i := range all {
		a := &all[i]
		if !touches(a) {
			continue
		}
		if t.strategy == thanos.PartialResponseStrategy_ABORT {
			if a.Known {
				return storeapi.Abortedf("%s", a)
			}
			continue
		}
		if err := t.warn(a.String()); err != nil {
			return err
		}
	}
	return nil
}

// read decides about a block that failed while it was read: nil when the answer goes
// on without it.
func (t *troubles) read(ctx context.Context, err error, consequence string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || kindOf(err) || t.strategy == thanos.PartialResponseStrategy_ABORT {
		return failure(ctx, err)
	}
	if !blockread.Broken(err) && t.failed.Add(1) > maxFailed {
		return failure(ctx, err)
	}
	t.metrics.brokenReads.Inc()
	return t.warn(fmt.Sprintf("%v; %s", err, consequence))
}

// kindOf reports whether err is of a kind that the caller has to know.
func kindOf(err error) bool {
	for _, kind := range []error{
		storeapi.ErrInvalid, storeapi.ErrLimit, storeapi.ErrUnavailable, storeapi.ErrAborted,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
