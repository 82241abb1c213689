package budget_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatCanNeverFitIsRefusedAtOnceWithTheNumbers(t *testing.T) {
	t.Parallel()
	b := budget.New(800, nil)
	_, err := b.Acquire(t.Context(), 701, `{__name__=~".+"}`)
	var r *budget.Refusal
	require.ErrorAs(t, err, &r)
	require.Equal(t, budget.Refusal{
		Who: `{__name__=~".+"}`, Needed: 701, Limit: 800, Largest: 700, Reason: budget.TooLarge,
	}, *r)
	require.False(t, r.Temporary())
	require.ErrorIs(t, err, storeapi.ErrLimit)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, codes.ResourceExhausted, status.Code(storeapi.ToStatus(err)))
	require.Equal(t, `memory budget: {__name__=~".+"} needs 701 bytes (701 B), the limit is 800 bytes (800 B), of which one request can have 700`, err.Error())

	res, err := b.Acquire(t.Context(), 700, "all")
	require.NoError(t, err)
	require.EqualValues(t, 700, b.Used())
	require.ErrorContains(t, res.Grow(t.Context(), 1), "all needs 701 bytes")
	require.ErrorContains(t, res.TryGrow(1), "all needs 701 bytes")
	require.EqualValues(t, 700, res.Held(), "a refusal takes nothing away")
	res.Release()
	res.Release()
	require.Zero(t, b.Used())
}

func TestWhoeverDoesNotWaitIsToldWhatIsInUse(t *testing.T) {
	t.Parallel()
	b := budget.New(800, nil)
	first, err := b.TryAcquire(500, "a")
	require.NoError(t, err)
	_, err = b.TryAcquire(300, "b")
	require.EqualError(t, err, "memory budget: b needs 300 bytes (300 B), the limit is 800 bytes (800 B), of which 500 are in use")
	var r *budget.Refusal
	require.ErrorAs(t, err, &r)
	require.True(t, r.Temporary())
	require.EqualValues(t, 200, first.GrowUpTo(10, 1000), "an eighth is kept")
	require.Zero(t, first.GrowUpTo(0, 1000))
	first.Shrink(450)
	require.Zero(t, first.GrowUpTo(451, 1000), "less than the least is no use")
	require.EqualValues(t, 250, first.Held())
	first.Shrink(9000)
	require.Zero(t, b.Used(), "no more is given back than was held")
}

func TestRequestsAreServedInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil)
		first, err := b.Acquire(t.Context(), 600, "first")
		require.NoError(t, err)
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		for _, q := range []struct {
			who   string
			bytes int64
		}{{"a", 700}, {"b", 200}, {"c", 600}} {
			wg.Go(func() {
				res, err := b.Acquire(t.Context(), q.bytes, q.who)
				if err != nil {
					t.Errorf("%s: %v", q.who, err)
					return
				}
				mu.Lock()
				order = append(order, q.who)
				mu.Unlock()
				<-time.After(time.Second)
				res.Release()
			})
			synctest.Wait()
		}
		require.Equal(t, 3, b.Waiting())
		_, err = b.TryAcquire(100, "d")
		require.ErrorContains(t, err, "d needs 100 bytes", "b would fit, but a was there before")
		require.Zero(t, first.GrowUpTo(0, 1), "who can do without does so while others wait")
		first.Release()
		wg.Wait()
		require.Equal(t, []string{"a", "b", "c"}, order)
		require.Zero(t, b.Used())
	})
}

func TestSmallRequestsPassLargeOnesButDoNotStarveThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(6400, nil)
		hold, err := b.Acquire(t.Context(), 5600, "hold")
		require.NoError(t, err)
		large := make(chan error, 1)
		go func() {
			res, err := b.Acquire(t.Context(), 5000, "large")
			if err == nil {
				res.Release()
			}
			large <- err
		}()
		synctest.Wait()
		var small []*budget.Reservation
		for range 8 {
			res, err := b.TryAcquire(100, "small")
			require.NoError(t, err)
			small = append(small, res)
		}
		_, err = b.TryAcquire(100, "small")
		require.Error(t, err, "the eighth is used up")
		hold.Release()
		require.NoError(t, <-large, "there is room for the large one whatever the small ones do")
		for range 40 {
			res, err := b.TryAcquire(100, "small")
			require.NoError(t, err, "no large one waits")
			small = append(small, res)
		}
		for _, r := range small {
			r.Release()
		}
		require.Zero(t, b.Used())
	})
}

func TestWhoIsMarkedLargeLeavesWhatIsKeptForSmallOnes(t *testing.T) {
	t.Parallel()
	b := budget.New(1600, nil)
	var marked []*budget.Reservation
	for range 14 {
		r, err := b.TryAcquire(100, "crowd")
		require.NoError(t, err)
		require.NoError(t, r.MarkLarge(50))
		require.NoError(t, r.MarkLarge(50), "again")
		marked = append(marked, r)
	}
	require.Error(t, marked[0].TryGrow(1), "seven eighths are taken")
	require.Zero(t, marked[0].GrowUpTo(1, 100))
	for range 2 {
		r, err := b.TryAcquire(100, "small")
		require.NoError(t, err)
		marked = append(marked, r)
	}
	for _, r := range marked {
		r.Release()
	}
	require.Zero(t, b.Used())
	r, err := b.TryAcquire(b.Largest(), "the next")
	require.NoError(t, err)
	r.Release()
}

func TestLargeRequestsThatWaitLeaveMostOfWhatIsKeptForSmallOnes(t *testing.T) {
	t.Parallel()
	b := budget.New(1600, nil)
	hold, err := b.TryAcquire(1400, "hold")
	require.NoError(t, err)
	first, err := b.TryAcquire(50, "first")
	require.NoError(t, err)
	require.NoError(t, first.MarkLarge(900))
	second, err := b.TryAcquire(50, "second")
	require.NoError(t, err)
	require.EqualError(t, second.MarkLarge(900), "memory budget: second needs 950 bytes (950 B), the limit is 1600 bytes (1.6 KiB), of which 1500 are in use")
	require.NoError(t, second.TryGrow(50), "it is still a small one")
	hold.Release()
	require.NoError(t, second.MarkLarge(900))
	first.Release()
	second.Release()
	require.Zero(t, b.Used())
}

func TestSmallRequestsThatGrowDoNotWaitBehindLargeOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(1600, nil)
		hold, err := b.Acquire(t.Context(), 1090, "hold")
		require.NoError(t, err)
		large, err := b.Acquire(t.Context(), 300, "large")
		require.NoError(t, err)
		var small []*budget.Reservation
		for range 2 {
			r, err := b.Acquire(t.Context(), 50, "small")
			require.NoError(t, err)
			small = append(small, r)
		}
		var held sync.Map
		grow := func(who string, r *budget.Reservation, bytes int64) {
			go func() {
				if err := r.Grow(t.Context(), bytes); err != nil {
					t.Error(err)
				}
				held.Store(who, true)
			}()
			synctest.Wait()
		}
		has := func(what string) bool { _, ok := held.Load(what); return ok }
		grow("large", large, 500)
		require.False(t, has("large"))
		grow("small", small[0], 50)
		require.True(t, has("small"), "there are bytes for it")
		big, err := b.Acquire(t.Context(), 40, "becomes large")
		require.NoError(t, err)
		for _, r := range small[1:] {
			grow("the other", r, 50)
		}
		grow("becomes large", big, 50)
		require.False(t, has("becomes large"), "that would be more than is kept for small ones")
		require.NoError(t, big.MarkLarge(0))
		hold.Release()
		synctest.Wait()
		for _, who := range []string{"large", "the other", "becomes large"} {
			require.True(t, has(who), who)
		}
		for _, r := range append(small, large, big) {
			r.Release()
		}
		require.Zero(t, b.Used())
	})
}

func TestWaitingEndsWithAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil, budget.WithMaxWait(5*time.Second))
		hold, err := b.Acquire(t.Context(), 700, "hold")
		require.NoError(t, err)
		_, err = b.Acquire(t.Context(), 100, "late")
		require.EqualError(t, err, "memory budget: late needs 100 bytes (100 B), the limit is 800 bytes (800 B), of which 700 were in use for 5s")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.Acquire(ctx, 100, "gone")
		require.ErrorContains(t, err, "of which 700 were in use for 875ms", "there is time left to say so")
		<-ctx.Done()
		_, err = b.Acquire(ctx, 1, "gone before")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		left, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		_, err = b.Acquire(left, 100, "left")
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "wait for 100 bytes of memory (700 of 800 are in use)")
		require.Zero(t, b.Waiting())
		hold.Release()
		require.Zero(t, b.Used())
	})
}

func TestWhoGivesUpMakesWayForThoseBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil)
		hold, err := b.Acquire(t.Context(), 500, "hold")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { _, _ = b.Acquire(ctx, 600, "impatient") }()
		synctest.Wait()
		res, err := b.Acquire(t.Context(), 100, "patient")
		require.NoError(t, err)
		res.Release()
		hold.Release()
	})
}

func TestOfThoseWhoAllWaitToGrowOneIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil)
		a, err := b.Acquire(t.Context(), 350, "a")
		require.NoError(t, err)
		c, err := b.Acquire(t.Context(), 350, "c")
		require.NoError(t, err)
		grown := make(chan error, 1)
		go func() { grown <- a.Grow(t.Context(), 300) }()
		synctest.Wait()
		err = c.Grow(t.Context(), 300)
		require.EqualError(t, err, "memory budget: c needs 650 bytes (650 B), the limit is 800 bytes (800 B), of which 700 are in use by requests that all wait for more")
		c.Release()
		require.NoError(t, <-grown)
		require.EqualValues(t, 650, b.Used())
		a.Release()
	})
}

func TestADeadlockThatOthersLeaveBehindIsBroken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil)
		take := func(n int64, who string) *budget.Reservation {
			r, err := b.Acquire(t.Context(), n, who)
			require.NoError(t, err)
			return r
		}
		a, c, other := take(300, "a"), take(300, "c"), take(60, "other")
		var wg sync.WaitGroup
		errs := map[string]error{}
		var mu sync.Mutex
		grow := func(r *budget.Reservation) {
			wg.Go(func() {
				err := r.Grow(t.Context(), 300)
				mu.Lock()
				errs[r.Who()] = err
				mu.Unlock()
				r.Release()
			})
			synctest.Wait()
		}
		grow(a)
		grow(c)
		require.Equal(t, 2, b.Waiting(), "the other one may yet give back")
		other.Release()
		wg.Wait()
		require.NoError(t, errs["a"])
		var r *budget.Refusal
		require.ErrorAs(t, errs["c"], &r)
		require.Equal(t, budget.Deadlock, r.Reason)
		require.Zero(t, b.Used())
	})
}

func TestSmallRequestsDoNotHideADeadlockOfLargeOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(1600, nil)
		small, err := b.Acquire(t.Context(), 50, "small")
		require.NoError(t, err)
		first, err := b.Acquire(t.Context(), 700, "first")
		require.NoError(t, err)
		second, err := b.Acquire(t.Context(), 600, "second")
		require.NoError(t, err)
		grown := make(chan error, 1)
		go func() { grown <- first.Grow(t.Context(), 500) }()
		synctest.Wait()
		err = second.Grow(t.Context(), 500)
		var r *budget.Refusal
		require.ErrorAs(t, err, &r, "what the small one gives back helps neither")
		require.Equal(t, budget.Deadlock, r.Reason)
		second.Release()
		require.NoError(t, <-grown)
		first.Release()
		small.Release()
		require.Zero(t, b.Used())
	})
}

func TestGrowingComesBeforeBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(800, nil)
		a, err := b.Acquire(t.Context(), 200, "a")
		require.NoError(t, err)
		c, err := b.Acquire(t.Context(), 500, "c")
		require.NoError(t, err)
		var order []string
		var mu sync.Mutex
		note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
		var wg sync.WaitGroup
		wg.Go(func() {
			r, err := b.Acquire(t.Context(), 300, "new")
			if err == nil {
				note("new")
				r.Release()
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if a.Grow(t.Context(), 400) == nil {
				note("grown")
			}
			a.Release()
		})
		synctest.Wait()
		c.Release()
		wg.Wait()
		require.Equal(t, []string{"grown", "new"}, order)
	})
}

func TestANilBudgetHasNoLimit(t *testing.T) {
	t.Parallel()
	var b *budget.Budget
	r, err := b.Acquire(t.Context(), 1<<60, "x")
	require.NoError(t, err)
	require.NoError(t, r.Grow(t.Context(), 1<<60))
	require.NoError(t, r.TryGrow(1<<60))
	require.EqualValues(t, 7, r.GrowUpTo(1, 7))
	r.Shrink(1)
	r.Release()
	require.Zero(t, b.Limit()+b.Largest()+b.Used()+int64(b.Waiting())+r.Held())
}

func TestNegativeNumbersAreNothing(t *testing.T) {
	t.Parallel()
	b := budget.New(-5, nil)
	require.EqualValues(t, 1, b.Limit())
	r, err := b.Acquire(t.Context(), -3, "x")
	require.NoError(t, err)
	r.Shrink(-7)
	require.NoError(t, r.TryGrow(-1))
	require.Zero(t, r.GrowUpTo(-2, -1))
	require.Zero(t, b.Used())
}

func TestWhateverHappensTheBudgetIsKeptAndGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(10_000, nil, budget.WithMaxWait(time.Second))
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(7, uint64(i)))
				for range 60 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(3000))*time.Millisecond)
					churn(ctx, t, b, rng)
					cancel()
				}
			})
		}
		wg.Wait()
		require.Zero(t, b.Used())
		require.Zero(t, b.Waiting())
		r, err := b.TryAcquire(b.Largest(), "the next")
		require.NoError(t, err)
		r.Release()
	})
}

// churn is one request that takes, grows, shrinks and ends.
func churn(ctx context.Context, t *testing.T, b *budget.Budget, rng *rand.Rand) {
	pause := func() { <-time.After(time.Duration(rng.IntN(50)) * time.Millisecond) }
	n := int64(rng.IntN(200))
	if rng.IntN(3) == 0 {
		n = int64(rng.IntN(10_000))
	}
	r, err := b.Acquire(ctx, n, "request")
	if err != nil {
		var refused *budget.Refusal
		if !errors.As(err, &refused) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("unexpected %v", err)
		}
		return
	}
	defer r.Release()
	for range rng.IntN(5) {
		pause()
		switch rng.IntN(4) {
		case 0:
			_ = r.Grow(ctx, int64(rng.IntN(3000)))
		case 1:
			_ = r.TryGrow(int64(rng.IntN(3000)))
		case 2:
			r.GrowUpTo(int64(rng.IntN(10)), int64(rng.IntN(3000)))
		default:
			r.Shrink(int64(rng.IntN(3000)))
		}
		if used := b.Used(); used < 0 || used > b.Limit() {
			t.Errorf("%d of %d are in use", used, b.Limit())
		}
	}
}

func TestMetricsCountWhatHappened(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b := budget.New(800, reg)
	r, err := b.Acquire(t.Context(), 300, "x")
	require.NoError(t, err)
	_, err = b.TryAcquire(801, "y")
	require.Error(t, err)
	n, err := testutil.GatherAndCount(reg, "promontory_budget_refused_total")
	require.NoError(t, err)
	require.Equal(t, 4, n, "each reason exists from the start")
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	require.Equal(t, map[string]float64{
		"promontory_budget_limit_bytes": 800, "promontory_budget_used_bytes": 300, "promontory_budget_waiting": 0,
		"promontory_budget_admitted_total": 1, "promontory_budget_cancelled_total": 0, "promontory_budget_refused_total": 1,
		"promontory_budget_wait_duration_seconds": 0,
	}, got)
	r.Release()
}

func TestTheLimitComesFromWhatTheProcessMayHave(t *testing.T) {
	t.Parallel()
	n, from := budget.ProcessLimit()
	require.Positive(t, n)
	require.NotEmpty(t, from)
	for _, tc := range []struct{ limit, fixed, want int64 }{
		{512 << 20, 0, 224 << 20},
		{512 << 20, 250 << 20, 99 << 20},
		{64 << 20, 250 << 20, 16 << 20},
		{512 << 20, -1, 224 << 20},
	} {
		require.Equal(t, tc.want, budget.Share(tc.limit, tc.fixed), "%+v", tc)
	}
}
