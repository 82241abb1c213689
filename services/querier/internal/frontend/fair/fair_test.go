package fair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// queued returns when n calls wait.
func queued(t *testing.T, q *Queue, n int) {
	t.Helper()
	for {
		q.mu.Lock()
		waiting := 0
		for _, l := range q.lines {
			waiting += l.waiters.Len()
		}
		q.mu.Unlock()
		if waiting == n {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
	}
}

func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	q := New(1, 0, nil)
	leave, err := q.Enter(t.Context(), "greedy")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var order []string // written by whoever has the only slot
	n := 0
	enter := func(tenant string) {
		wg.Go(func() {
			leave, err := q.Enter(t.Context(), tenant)
			if err == nil {
				order = append(order, tenant)
				leave()
			}
		})
		n++
		queued(t, q, n)
	}
	for range 4 {
		enter("greedy")
	}
	enter("modest")
	enter("other")
	enter("modest")
	leave()
	wg.Wait()
	require.Equal(t, []string{"greedy", "modest", "other", "greedy", "modest", "greedy", "greedy"}, order)
	require.Zero(t, q.running)
	require.Empty(t, q.lines)
	require.Zero(t, q.turns.Len())
}

func TestWhoHasTooManyWaitingIsRefusedAndOthersAreNot(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	q := New(1, 2, reg)
	leave, err := q.Enter(t.Context(), "a")
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for i, tenant := range []string{"a", "a", "b"} {
		wg.Go(func() {
			_, err := q.Enter(ctx, tenant)
			errs <- err
		})
		queued(t, q, i+1)
	}
	require.InDelta(t, 3, testutil.ToFloat64(q.waiting), 0)
	_, err = q.Enter(t.Context(), "a")
	require.ErrorIs(t, err, ErrTooMany)
	require.ErrorContains(t, err, "2 of tenant a are waiting")
	require.InDelta(t, 1, testutil.ToFloat64(q.refused), 0)
	gone := errors.New("gone")
	cancel(gone)
	wg.Wait()
	for range 3 {
		require.ErrorIs(t, <-errs, gone)
	}
	require.Empty(t, q.lines)
	leave()
	leave, err = q.Enter(t.Context(), "a")
	require.NoError(t, err, "those who gave up hold no slot")
	leave()
}

func TestNoMoreRunAtOnceThanThereAreSlots(t *testing.T) {
	t.Parallel()
	q := New(3, 0, nil)
	var mu sync.Mutex
	running, most := 0, 0
	var wg sync.WaitGroup
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if i%7 == 0 {
			cancel() // may still get a slot that is free
		}
		wg.Go(func() {
			leave, err := q.Enter(ctx, fmt.Sprint(i%5))
			if err != nil {
				return
			}
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			mu.Lock()
			running--
			mu.Unlock()
			leave()
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most, 3)
	require.Zero(t, q.running)
	leave, err := New(0, 0, nil).Enter(t.Context(), "a")
	require.NoError(t, err)
	leave()
}
