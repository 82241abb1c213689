package health_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/health"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func fail(t *testing.T, tr *health.Tracker, times int) {
	t.Helper()
	for range times {
		c, err := tr.Admit("a")
		require.NoError(t, err)
		c.Failed(errors.New("too slow"))
	}
}

func TestAStoreThatFailsAgainAndAgainIsLeftAloneLongerAndLonger(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1000, 0)}
	tr := health.New(health.Config{Failures: 3, FirstPause: time.Second, MaxPause: 3 * time.Second}, c.now, nil)
	fail(t, tr, 3)
	require.Equal(t, health.Open, tr.Status("a").Breaker)
	_, err := tr.Admit("a")
	var open *health.OpenError
	require.ErrorAs(t, err, &open)
	require.ErrorContains(t, err, "last 3 calls failed: too slow")
	_, err = tr.Admit("b")
	require.NoError(t, err, "others are not concerned")

	for _, pause := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		c.t = c.t.Add(pause - 1)
		_, err = tr.Admit("a")
		require.Error(t, err, "after %s", pause-1)
		c.t = c.t.Add(1)
		trial, err := tr.Admit("a")
		require.NoError(t, err, "after %s", pause)
		require.Equal(t, health.Trying, tr.Status("a").Breaker)
		_, err = tr.Admit("a")
		require.Error(t, err, "one call finds out")
		trial.Failed(errors.New("still too slow"))
		trial.Succeeded(0)
		require.Equal(t, health.Open, tr.Status("a").Breaker, "an outcome counts once")
	}
	c.t = c.t.Add(time.Minute)
	trial, err := tr.Admit("a")
	require.NoError(t, err)
	trial.Dropped()
	trial, err = tr.Admit("a")
	require.NoError(t, err, "the trial said nothing, so there is another")
	trial.Succeeded(time.Millisecond)
	require.Equal(t, health.Status{Breaker: health.Closed, Calls: 1, Median: time.Millisecond, P95: time.Millisecond}, tr.Status("a"))
}

func TestOneGoodCallMakesGoodForFailures(t *testing.T) {
	t.Parallel()
	tr := health.New(health.Config{Failures: 3, FirstPause: time.Second, MaxPause: time.Second}, nil, nil)
	fail(t, tr, 2)
	c, err := tr.Admit("a")
	require.NoError(t, err)
	c.Succeeded(time.Second)
	fail(t, tr, 2)
	require.Equal(t, health.Closed, tr.Status("a").Breaker)
	require.Equal(t, 2, tr.Status("a").Failures)

	never := health.New(health.Config{}, nil, nil)
	fail(t, never, 100)
	require.Equal(t, health.Closed, never.Status("a").Breaker)
}

func TestLatencyIsThatOfTheLastCalls(t *testing.T) {
	t.Parallel()
	tr := health.New(health.DefaultConfig(), nil, nil)
	_, known := tr.Latency("a")
	require.False(t, known)
	for i := range 200 {
		c, err := tr.Admit("a")
		require.NoError(t, err)
		d := time.Hour // long ago
		if i >= 100 {
			d = time.Duration(i%20) * time.Millisecond
		}
		c.Succeeded(d)
	}
	p95, known := tr.Latency("a")
	require.True(t, known)
	require.InDelta(t, 18*time.Millisecond, p95, float64(2*time.Millisecond))
	require.InDelta(t, 10*time.Millisecond, tr.Status("a").Median, float64(3*time.Millisecond))
}
