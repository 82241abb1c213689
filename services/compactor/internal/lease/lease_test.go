package lease

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func newLease(bkt objstore.Bucket) *Lease { return New(zap.NewNop(), bkt, Config{Name: "x"}) }

func TestSecondCompactorFindsTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bkt := objstore.NewInMemBucket()
		first, second := newLease(bkt), newLease(bkt)
		require.ErrorIs(t, first.Check(), ErrHeld)
		require.NoError(t, first.Acquire(t.Context()))
		require.NoError(t, first.Check())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- first.Keep(ctx) }()

		err := second.Acquire(t.Context())
		require.ErrorIs(t, err, ErrHeld)
		require.ErrorContains(t, err, first.Object())
		require.ErrorIs(t, second.Check(), ErrHeld)
		require.NoError(t, first.Check())

		cancel()
		require.NoError(t, <-done)
		require.NoError(t, second.Acquire(t.Context()), "the first has given it back")
		require.ErrorIs(t, first.Check(), ErrHeld)
	})
}

func TestLeaseOfAKilledCompactorRunsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bkt := objstore.NewInMemBucket()
		killed, next := newLease(bkt), newLease(bkt)
		require.NoError(t, killed.Acquire(t.Context()))
		begin := time.Now()
		require.NoError(t, next.Acquire(t.Context()))
		require.GreaterOrEqual(t, time.Since(begin), DefaultTerm)
		require.ErrorIs(t, killed.Check(), ErrLost)
	})
}

func TestHolderThatCannotRenewStopsAtTheEndOfItsTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hooked := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
		l := newLease(hooked)
		require.NoError(t, l.Acquire(t.Context()))
		hooked.Hook = func(blocktest.Call) error { return errors.New("cut off") }
		begin := time.Now()
		require.ErrorIs(t, l.Keep(t.Context()), ErrLost)
		require.LessOrEqual(t, time.Since(begin), DefaultTerm+DefaultTerm/2)
		require.ErrorIs(t, l.Check(), ErrLost)
	})
}

func TestHolderNoticesThatSomebodyElseHasTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bkt := objstore.NewInMemBucket()
		l := newLease(bkt)
		require.NoError(t, l.Acquire(t.Context()))
		require.NoError(t, bkt.Upload(t.Context(), l.Object(), bytes.NewReader([]byte(`{"holder":"other","host":"h","number":9}`))))
		require.ErrorIs(t, l.Keep(t.Context()), ErrLost)
	})
}

func TestOfTwoThatTakeItAtOnceOneSucceeds(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			bkt := objstore.NewInMemBucket()
			errs := make(chan error, 2)
			leases := []*Lease{newLease(bkt), newLease(bkt)}
			for _, l := range leases {
				go func() { errs <- l.Acquire(t.Context()) }()
			}
			for range leases {
				if err := <-errs; err != nil {
					require.ErrorIs(t, err, ErrHeld)
				}
			}
			// The one that came too late may have waited for the other's term to end.
			require.NotEqual(t, leases[0].Check() == nil, leases[1].Check() == nil)
		})
	}
}

func TestGarbageInTheObjectIsTakenOverAfterATerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bkt := objstore.NewInMemBucket()
		l := newLease(bkt)
		require.NoError(t, bkt.Upload(t.Context(), l.Object(), strings.NewReader("{")))
		require.NoError(t, l.Acquire(t.Context()))
		require.NoError(t, l.Release(t.Context()))
		ok, err := bkt.Exists(t.Context(), l.Object())
		require.NoError(t, err)
		require.False(t, ok)
	})
}
