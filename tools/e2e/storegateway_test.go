package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// cachedHistory is history in an S3 server, behind store gateways that share a memcached for indexes and the bucket, and have no
// other cache.
type cachedHistory struct {
	*harness.Stack

	memcached *cachetest.Server
	config    string
	from      time.Time
}

const (
	historyBlocks = 4
	historySeries = 20
	s3Server      = "history-s3"
)

func newCachedHistory(t *testing.T) *cachedHistory {
	t.Helper()
	h := &cachedHistory{Stack: harness.New(t), memcached: cachetest.Memcached(t), from: time.Now().Add(-(historyBlocks + 1) * window).Truncate(window)}
	h.config, _ = h.S3Bucket("history", "")
	text, err := os.ReadFile(h.config)
	require.NoError(t, err)
	bucket, err := objstore.New(text, "test", zap.NewNop(), nil)
	require.NoError(t, err)
	for n := range historyBlocks {
		begin := h.from.Add(time.Duration(n) * window)
		blocktest.Upload(t, bucket, blocktest.Spec{
			ExternalLabels: labels.FromStrings("cluster", "e2e"), Floats: historySeries, Interval: 30 * time.Second,
			MinTime: begin.UnixMilli(), MaxTime: begin.Add(window).UnixMilli(),
		})
	}
	require.NoError(t, bucket.Close())
	return h
}

// reader is a store gateway with a querier that asks it alone.
type reader struct {
	h       *cachedHistory
	gateway harness.Service
	api     harness.API
}

// reader starts both; args are further arguments of the querier.
func (h *cachedHistory) reader(name string, args ...string) reader {
	yaml := "{type: MEMCACHED, config: {addresses: ['" + h.memcached.Addr + "'], max_async_buffer_size: 100000}}"
	gateway := h.StoreGateway("store-gateway-"+name, h.config, "--index-cache.config="+yaml, "--store.caching-bucket.config="+yaml)
	querier := h.Querier("querier-"+name, []harness.Service{gateway}, args...)
	return reader{h: h, gateway: gateway, api: h.API(querier)}
}

func (h *cachedHistory) steps() (start, end time.Time, step time.Duration) {
	return h.from.Add(5 * time.Minute), h.from.Add(historyBlocks*window - 5*time.Minute), 10 * time.Minute
}

// truth is the answer to FloatMetric over the steps.
func (h *cachedHistory) truth() map[string]map[int64]float64 {
	want := map[string]map[int64]float64{}
	start, end, step := h.steps()
	for n := range historySeries {
		points := map[int64]float64{}
		for at := start; !at.After(end); at = at.Add(step) {
			points[at.UnixMilli()] = blocktest.FloatValue(n, at.UnixMilli())
		}
		want[fmt.Sprintf(`%s{cluster="e2e", series="%d"}`, blocktest.FloatMetric, n)] = points
	}
	return want
}

// ask demands the truth, without a warning, and returns what it has cost: requests to S3 for Series calls.
func (r reader) ask() (requests float64, err error) {
	before := r.requests("series")
	start, end, step := r.h.steps()
	got, _, err := r.api.TryRange(blocktest.FloatMetric, start, end, step)
	if err != nil {
		return 0, err
	}
	if diff := cmp.Diff(r.h.truth(), got); diff != "" {
		return 0, fmt.Errorf("the answer is not the truth (-want +got):\n%s", diff)
	}
	return r.requests("series") - before, nil
}

func (r reader) requests(cause string) float64 {
	return r.h.Metric(r.gateway, `promontory_store_gateway_bucket_requests_sum{cause="`+cause+`"}`)
}

// eventually waits for an answer that is the truth and has cost what cost says.
func (r reader) eventually(t *testing.T, cost func(requests float64) bool) {
	t.Helper()
	harness.Eventually(t, func() error {
		n, err := r.ask()
		if err == nil && !cost(n) {
			err = fmt.Errorf("the answer has cost %v requests", n)
		}
		return err
	})
}

func free(requests float64) bool { return requests == 0 }
func paid(requests float64) bool { return requests > 0 }

// Store gateways that share a memcached share what they have read of S3; without it they are slower and right.
func TestStoreGatewaysShareAMemcachedInFrontOfS3(t *testing.T) {
	t.Parallel()
	h := newCachedHistory(t)
	first := h.reader("first")
	first.eventually(t, free)
	require.Positive(t, first.requests("series"), "it was not free at first")

	second := h.reader("second")
	var answered float64
	harness.Eventually(t, func() (err error) {
		answered, err = second.ask()
		return err
	})
	require.Zero(t, answered, "the first gateway has read everything")
	require.Zero(t, second.requests("series"))
	listed, known := second.requests("sync"), first.requests("sync")
	t.Logf("requests for metadata: %v by the first gateway, %v by the second", known, listed)
	require.Less(t, listed, known)

	h.memcached.Kill()
	for _, r := range []reader{first, second} {
		n, err := r.ask()
		require.NoError(t, err, "without memcached")
		require.Positive(t, n)
	}
	h.memcached.Start(t)
	first.eventually(t, free)
	second.eventually(t, free)
}

// An S3 server that stands still is named in answers, or fails them, by strategy; when it goes on so do answers.
func TestS3ThatStandsStillIsToldByStrategyAndRecoveredFrom(t *testing.T) {
	t.Parallel()
	h := newCachedHistory(t)
	r := h.reader("only", "--store.response-timeout=3s")
	r.eventually(t, free)
	server := h.Process(s3Server)
	require.NoError(t, server.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = server.Signal(syscall.SIGCONT) }) // else it could not be stopped; it may have ended
	n, err := r.ask()
	require.NoError(t, err, "what is in the cache is served")
	require.Zero(t, n)

	h.memcached.Kill()
	start, end, step := h.steps()
	begin := time.Now()
	got, warnings, err := r.api.AllowPartial().With("timeout", "10s").TryRange(blocktest.FloatMetric, start, end, step)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Contains(t, strings.Join(warnings, "\n"), r.gateway.GRPC)
	_, _, err = r.api.With("timeout", "10s").With("partial_response", "false").TryRange(blocktest.FloatMetric, start, end, step)
	require.ErrorContains(t, err, r.gateway.GRPC)
	require.Less(t, time.Since(begin), 20*time.Second, "nobody waits for longer than was agreed")

	require.NoError(t, server.Signal(syscall.SIGCONT))
	r.eventually(t, paid)
	require.InDelta(t, historyBlocks, h.Metric(r.gateway, "thanos_bucket_store_blocks_loaded"), 0, "no block was let go meanwhile")
}
