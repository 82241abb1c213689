package app

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// A server behind both caches changes no answer: not when it is empty, full of what was read before, or gone.
func TestCachesInServersChangeNoAnswer(t *testing.T) {
	t.Parallel()
	t.Run("memcached", func(t *testing.T) {
		t.Parallel()
		server := cachetest.Memcached(t)
		cacheChangesNoAnswer(t, server, "type: MEMCACHED\nconfig: {addresses: ['"+server.Addr+"']}")
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := cachetest.Redis(t)
		cacheChangesNoAnswer(t, server, "type: REDIS\nconfig: {addr: '"+server.Addr+"'}")
	})
}

func cacheChangesNoAnswer(t *testing.T, server *cachetest.Server, yaml string) {
	t.Helper()
	var all []labels.Labels
	for i := range 300 {
		all = append(all, labels.FromStrings("__name__", fmt.Sprintf("m%d", i%5), "n", fmt.Sprint(i)))
	}
	dir, _ := bucketOf(t, blocktest.Spec{Series: all, Interval: time.Minute, ExternalLabels: labels.FromStrings("cluster", "test")})
	plain := start(t, filesystemYAML(dir), nil)
	plain.waitReady(t)
	cached := start(t, filesystemYAML(dir), func(c *Config) {
		c.IndexCache = flags.InlineContent("index-cache.config", yaml)
		c.CachingBucket = flags.InlineContent("store.caching-bucket.config", yaml)
	})
	cached.waitReady(t)

	ask := func(g *gateway) []*thanos.SeriesResponse {
		frames, err := series(t, g.conn, &thanos.SeriesRequest{
			MinTime: blocktest.DefaultMinTime, MaxTime: blocktest.DefaultMinTime + 7_200_000,
			Matchers: matchers(matcher(labels.MatchRegexp, "__name__", "m1|m3")),
		})
		require.NoError(t, err)
		return frames
	}
	want := ask(plain)
	require.NotEmpty(t, want)
	same := func() { require.Empty(t, cmp.Diff(want, ask(cached), protocmp.Transform())) }
	hit := regexp.MustCompile(`thanos_store_bucket_cache_operation_hits_total\{config="chunks",operation="get_range"\} [1-9]`)
	require.Eventually(t, func() bool {
		same()
		return hit.MatchString(metricsOf(t, cached))
	}, 20*time.Second, 10*time.Millisecond, "chunks come from the cache")
	server.Kill()
	for range 5 {
		same()
	}
}

func metricsOf(t *testing.T, g *gateway) string {
	t.Helper()
	res, err := http.Get(g.http + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

// counterOf reads a counter without labels from the text of metrics.
func counterOf(t *testing.T, text, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(text)
	require.NotNil(t, m, name)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}
