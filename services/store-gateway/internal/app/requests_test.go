package app

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

var requestsLine = regexp.MustCompile(`promontory_store_gateway_bucket_requests(_sum|_count)\{cause="([a-z_]+)"\} (\d+)`)

// requestsFor returns how many requests reached the bucket for finished tasks of a cause, and how many tasks these were.
func requestsFor(t *testing.T, g *gateway, cause string) (requests, tasks int) {
	t.Helper()
	for _, m := range requestsLine.FindAllStringSubmatch(metricsOf(t, g), -1) {
		n, err := strconv.Atoi(m[3])
		require.NoError(t, err)
		switch {
		case m[2] != cause:
		case m[1] == "_sum":
			requests = n
		default:
			tasks = n
		}
	}
	return requests, tasks
}

// callsDone waits until so many calls were counted: the server counts a call after its client has the answer.
func callsDone(t *testing.T, g *gateway, cause string, calls int) (requests int) {
	t.Helper()
	require.Eventually(t, func() bool {
		n, tasks := requestsFor(t, g, cause)
		requests = n
		return tasks == calls
	}, 10*time.Second, 5*time.Millisecond)
	return requests
}

func TestRequestsToTheBucketAreCountedForEachCall(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), func(c *Config) {
		c.Headers.LazyReader, c.Headers.Download = true, downloadLazy
		c.CachingBucket = flags.InlineContent("store.caching-bucket.config", "type: IN-MEMORY")
	})
	g.waitReady(t)
	ask := func() {
		frames, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
		require.NoError(t, err)
		require.Len(t, frames, 1)
	}
	ask()
	// The header, postings, series, attributes of the chunk file, chunks.
	require.Equal(t, 5, callsDone(t, g, "series", 1), "a header that a call needs is its own")
	ask()
	// A local bucket's series entries skip the cache.
	require.Equal(t, 6, callsDone(t, g, "series", 2), "caches are no bucket")
	_, err := thanos.NewStoreClient(g.conn).LabelValues(t.Context(), &thanos.LabelValuesRequest{Label: "job", Start: lastStart, End: lastEnd})
	require.NoError(t, err)
	require.Zero(t, callsDone(t, g, "label_values", 1), "the header has them")
}

func TestAnIdleRoundAsksAsLittleAsItCan(t *testing.T) {
	t.Parallel()
	for strategy, want := range map[string]int{
		"recursive":  1,        // one listing
		"concurrent": 1 + 2*11, // one listing; of each block whether it is still there, and its marker
	} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), func(c *Config) {
				c.Sync.Strategy, c.Sync.Interval = strategy, 50*time.Millisecond
			})
			g.waitReady(t)
			require.Contains(t, metricsOf(t, g), `promontory_store_gateway_bucket_requests_total{cause="sync",operation="iter"}`)
			var first, firstRounds, later, laterRounds int
			await := func(more int) (requests, rounds int) {
				_, before := requestsFor(t, g, "sync")
				require.Eventually(t, func() bool {
					requests, rounds = requestsFor(t, g, "sync")
					return rounds >= before+more
				}, 10*time.Second, 5*time.Millisecond)
				return requests, rounds
			}
			first, firstRounds = await(1)
			later, laterRounds = await(2)
			require.Equal(t, want*(laterRounds-firstRounds), later-first)
			headers, _ := requestsFor(t, g, "index_header")
			require.Positive(t, headers)
			require.Zero(t, strings.Count(g.logs.String(), "level=error"))
		})
	}
}
