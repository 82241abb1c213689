package remote

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func try(t *testing.T, b *Breaker, success bool) {
	t.Helper()
	done, ok := b.Allow()
	require.True(t, ok)
	done(success)
}

func TestBreakerOpensAndTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultBreakerConfig()
		cfg.Enabled, cfg.MinRequests, cfg.ConsecutiveFailures, cfg.HalfOpenMaxRequests, cfg.FailurePercent = true, 10, 3, 2, 0.5
		b := NewBreaker(cfg)
		for range 7 {
			try(t, b, true)
		}
		for range 2 {
			try(t, b, false)
		}
		require.False(t, b.Open())
		try(t, b, false)
		_, ok := b.Allow()
		require.False(t, ok)
		time.Sleep(time.Duration(cfg.OpenDuration)) // fake time
		first, ok := b.Allow()
		require.True(t, ok)
		second, ok := b.Allow()
		require.True(t, ok)
		_, ok = b.Allow()
		require.False(t, ok, "as many as may try")
		first(true)
		second(false)
		_, ok = b.Allow()
		require.False(t, ok)
		time.Sleep(time.Duration(cfg.OpenDuration))
		try(t, b, true)
		try(t, b, true)
		require.False(t, b.Open())
		for i := range 10 {
			try(t, b, i%2 == 0)
		}
		require.True(t, b.Open(), "half of them failed")
	})
	none := NewBreaker(DefaultBreakerConfig())
	for range 1000 {
		try(t, none, false)
	}
}

func TestQueueDropsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var stored atomic.Int64
	m := NewMetrics(prometheus.NewRegistry(), "x_")
	q := NewQueue(QueueConfig{Length: 5, Concurrency: 1, Batch: 2, MaxItemBytes: 10}, nil, m, zap.NewNop(), func(items []Item) error {
		if len(items) > 2 {
			t.Errorf("a batch of %d", len(items))
		}
		<-release
		stored.Add(int64(len(items)))
		return errors.New("refused")
	})
	for range 100 {
		q.Add("k", []byte("v"), 0)
	}
	q.Add("k", make([]byte, 11), 0)
	close(release)
	require.Eventually(t, func() bool { return stored.Load() >= 5 && q.bytes.Load() == 0 }, 10*time.Second, time.Millisecond)
	require.LessOrEqual(t, stored.Load(), int64(7), "five that wait and two on their way")
	q.Close()
	q.Add("k", []byte("v"), 0)
}

func TestQueueBoundsItsBytes(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	q := NewQueue(QueueConfig{Length: 1000, Concurrency: 1, Batch: 1}, nil, NewMetrics(nil, ""), zap.NewNop(), func([]Item) error {
		<-release
		return nil
	})
	value := make([]byte, 1<<20)
	for range 200 {
		q.Add("k", value, 0)
	}
	require.LessOrEqual(t, q.bytes.Load(), int64(maxQueuedBytes))
	close(release)
	q.Close()
}
