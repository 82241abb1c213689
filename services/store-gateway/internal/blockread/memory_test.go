package blockread

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/promontory-io/promontory/libs/storeapi"
)

func count(t *testing.T, s *Stream) (n int) {
	t.Helper()
	defer s.Close()
	for s.Next() {
		n++
	}
	return n
}

func TestShortMemoryMakesBatchesSmallerNotTheAnswer(t *testing.T) {
	t.Parallel()
	requests := map[int64]int64{}
	for _, limit := range []int64{200 << 10, 64 << 20} {
		b, f := newBlock(t, blocktest.Spec{Floats: 3000}, DefaultConfig())
		_, memory := newMemory(t, limit)
		q := everything()
		q.BatchBytes, q.Memory = 2<<20, memory
		s := b.Series(t.Context(), q)
		require.Equal(t, 3000, count(t, s))
		require.NoError(t, s.Err())
		requests[limit] = f.Requests()[faults.GetRange]
	}
	require.Greater(t, requests[200<<10], 2*requests[64<<20], "%v", requests)
}

func TestARequestThatCannotFitIsRefusedWithTheMatcherToBlame(t *testing.T) {
	t.Parallel()
	b, _ := newBlock(t, blocktest.Spec{Floats: 8000}, DefaultConfig())
	bytes, memory := newMemory(t, requestBytes+16<<10)
	q := everything()
	q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchRegexp, "series", "1|2"))
	q.Memory = memory
	s := b.Series(t.Context(), q)
	require.Zero(t, count(t, s))
	var refusal *budget.Refusal
	require.ErrorAs(t, s.Err(), &refusal)
	require.ErrorIs(t, s.Err(), storeapi.ErrLimit)
	require.Equal(t, `matcher __name__=~".+" of {__name__=~".+", series=~"1|2"}`, refusal.Who)
	require.EqualValues(t, bytes.Limit(), refusal.Limit)
	require.Greater(t, refusal.Needed, refusal.Largest)
	require.ErrorContains(t, s.Err(), b.ID())
	require.EqualValues(t, requestBytes, bytes.Used())
}

func TestLookUpsOfOneRequestTakeTurnsBeforeTheyWaitForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil)
		res, err := b.Acquire(t.Context(), 100, "x")
		require.NoError(t, err)
		m := NewMemory(b, res)
		var wg sync.WaitGroup
		var mu sync.Mutex
		most, now := 0, 0
		for range 20 {
			wg.Go(func() {
				if err := m.find(t.Context(), 250); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				<-time.After(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				m.found(250)
			})
		}
		wg.Wait()
		require.Equal(t, 2, most, "of 250 bytes two fit at once")
		require.EqualValues(t, 100, b.Used())

		require.NoError(t, m.find(t.Context(), 600))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, m.find(ctx, 600), context.DeadlineExceeded)
		m.found(600)
		require.ErrorIs(t, m.find(t.Context(), 700), storeapi.ErrLimit)
		require.NoError(t, m.find(t.Context(), 600), "who was refused is not in the way")
		m.found(600)
		res.Release()
		require.Zero(t, b.Used())
	})
}

func TestWhatLabelValuesHoldIsCountedAndGivenBack(t *testing.T) {
	t.Parallel()
	b, _ := newBlock(t, blocktest.Spec{Floats: 20000, Interval: time.Hour}, DefaultConfig())
	bytes, memory := newMemory(t, 64<<20)
	q := everything()
	q.Memory = memory
	values, err := b.LabelValues(t.Context(), "series", q)
	require.NoError(t, err)
	require.Len(t, values, 20000)
	require.EqualValues(t, requestBytes, bytes.Used())

	_, memory = newMemory(t, 200<<10)
	q.Memory = memory
	_, err = b.LabelValues(t.Context(), "series", q)
	require.ErrorIs(t, err, storeapi.ErrLimit)
	q.Matchers = nil
	_, err = b.LabelValues(t.Context(), "series", q)
	require.ErrorIs(t, err, storeapi.ErrLimit, "also from the header alone")
}

func TestLookUpsHaveTheirMemoryBeforeTheirTurnAndGiveItBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limit int64
		large bool
	}{"a small part of the budget": {1 << 30, false}, "a large part": {4 << 20, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newBlock(t, blocktest.Spec{Floats: 8000, Interval: time.Hour}, DefaultConfig())
			bytes, memory := newMemory(t, tc.limit)
			turns, left := 0, 0
			memory.OnLookUp(func(_ context.Context, large bool) (func(), error) {
				turns++
				require.Equal(t, tc.large, large)
				require.Greater(t, bytes.Used(), int64(requestBytes+8*8000), "lists and references")
				return func() { left++ }, nil
			})
			q := everything()
			q.Memory = memory
			for range 2 { // the second time from the cache, without a turn
				found, err := b.Any(t.Context(), q)
				require.NoError(t, err)
				require.True(t, found)
			}
			require.Equal(t, 1, turns)
			require.Equal(t, 1, left)
			require.EqualValues(t, requestBytes, bytes.Used())
		})
	}
}
