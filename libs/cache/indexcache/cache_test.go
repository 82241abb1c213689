package indexcache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
	"github.com/promontory-io/promontory/libs/cache/memcached"
	"github.com/promontory-io/promontory/libs/cache/redis"
	"github.com/promontory-io/promontory/libs/cache/remote"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	blockA = ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	blockB = ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAW")
)

func matchers(t testing.TB, parts ...string) []*labels.Matcher {
	t.Helper()
	types := map[string]labels.MatchType{"=": labels.MatchEqual, "=~": labels.MatchRegexp}
	var ms []*labels.Matcher
	for i := 0; i < len(parts); i += 3 {
		ms = append(ms, labels.MustNewMatcher(types[parts[i+1]], parts[i], parts[i+2]))
	}
	return ms
}

func TestKeysAreThoseOfThanos(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/cachekeys.json")
	require.NoError(t, err)
	var want map[string]string
	require.NoError(t, json.Unmarshal(text, &want))
	require.Equal(t, want, map[string]string{
		`postings foo:bar`:              PostingsKey(blockA, labels.Label{Name: "foo", Value: "bar"}),
		`postings __name__:up`:          PostingsKey(blockA, labels.Label{Name: "__name__", Value: "up"}),
		`expanded foo="bar"`:            ExpandedPostingsKey(blockA, matchers(t, "foo", "=", "bar")),
		`expanded foo="bar";job=~"a.*"`: ExpandedPostingsKey(blockA, matchers(t, "foo", "=", "bar", "job", "=~", "a.*")),
		`series 12345`:                  SeriesKey(blockA, 12345),
	})
	require.Equal(t, "S:01ARZ3NDEKTSV4RRFFQ69G5FAV:18446744073709551615", SeriesKey(blockA, 1<<64-1))
}

// both runs a test on both kinds of cache.
func both(t *testing.T, test func(t *testing.T, newCache func(reg prometheus.Registerer, kinds ...Item) Cache)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, func(reg prometheus.Registerer, kinds ...Item) Cache {
			return NewMemory(MemoryConfig{MaxSize: cache.MiB}, kinds, reg)
		})
	})
	t.Run("shared", func(t *testing.T) {
		t.Parallel()
		test(t, func(reg prometheus.Registerer, kinds ...Item) Cache {
			return NewShared(cache.NewMemory(1<<20, 0), time.Hour, kinds, reg)
		})
	})
}

func TestWhatIsStoredIsFoundUnderItsKeyOnly(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, newCache func(prometheus.Registerer, ...Item) Cache) {
		ctx, c := t.Context(), newCache(nil)
		pair := labels.Label{Name: "foo", Value: "bar"}
		c.StorePostings("", blockA, pair, []byte("postings"))
		c.StoreExpandedPostings("", blockA, matchers(t, "foo", "=", "bar"), []byte("expanded"))
		c.StoreSeries("", blockA, 7, []byte("series"))

		values := [][]byte{nil, []byte("stale"), []byte("stale")}
		require.Equal(t, 1, c.Postings(ctx, "", blockA, []labels.Label{pair, {Name: "fo", Value: "obar"}, {Name: "foo"}}, values))
		require.Equal(t, [][]byte{[]byte("postings"), nil, nil}, values)
		require.Equal(t, 0, c.Postings(ctx, "", blockB, []labels.Label{pair}, values[:1]))
		require.Nil(t, values[0])

		got, ok := c.ExpandedPostings(ctx, "other tenant, same blocks", blockA, matchers(t, "foo", "=", "bar"))
		require.True(t, ok)
		require.Equal(t, "expanded", string(got))
		for _, others := range [][]*labels.Matcher{matchers(t, "foo", "=~", "bar"), matchers(t, "foo", "=", "bar", "foo", "=", "bar"), nil} {
			_, ok = c.ExpandedPostings(ctx, "", blockA, others)
			require.False(t, ok)
		}

		values = make([][]byte, 3)
		require.Equal(t, 2, c.Series(ctx, "", blockA, []storage.SeriesRef{7, 8, 7}, values))
		require.Equal(t, [][]byte{[]byte("series"), nil, []byte("series")}, values)
		require.Equal(t, 0, c.Series(ctx, "", blockB, []storage.SeriesRef{7}, values[:1]))
	})
}

func TestKeysAndValuesAreCopied(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, newCache func(prometheus.Registerer, ...Item) Cache) {
		c := newCache(nil)
		value := []byte("value")
		c.StoreSeries("", blockA, 7, value)
		copy(value, "XXXXX")
		values := make([][]byte, 1)
		require.Equal(t, 1, c.Series(t.Context(), "", blockA, []storage.SeriesRef{7}, values))
		require.Equal(t, "value", string(values[0]))
	})
}

func TestKindsThatAreNotEnabledAreNotKept(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, newCache func(prometheus.Registerer, ...Item) Cache) {
		for _, kind := range Items() {
			c := newCache(nil, kind)
			c.StorePostings("", blockA, labels.Label{Name: "a"}, []byte("x"))
			c.StoreExpandedPostings("", blockA, nil, []byte("x"))
			c.StoreSeries("", blockA, 1, []byte("x"))
			values := [][]byte{[]byte("stale")}
			require.Equal(t, kind == Postings, c.Postings(t.Context(), "", blockA, []labels.Label{{Name: "a"}}, values) == 1)
			require.Equal(t, kind == Postings, values[0] != nil)
			values = [][]byte{[]byte("stale")}
			require.Equal(t, kind == Series, c.Series(t.Context(), "", blockA, []storage.SeriesRef{1}, values) == 1)
			require.Equal(t, kind == Series, values[0] != nil)
			_, ok := c.ExpandedPostings(t.Context(), "", blockA, nil)
			require.Equal(t, kind == ExpandedPostings, ok)
		}
	})
}

func TestRequestsAndHitsAreCountedByTenant(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, newCache func(prometheus.Registerer, ...Item) Cache) {
		reg := prometheus.NewRegistry()
		c := newCache(reg)
		c.StoreSeries("a", blockA, 1, make([]byte, 100))
		c.Series(t.Context(), "a", blockA, []storage.SeriesRef{1, 2, 3}, make([][]byte, 3))
		c.Series(t.Context(), "", blockA, []storage.SeriesRef{1}, make([][]byte, 1))
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_store_index_cache_requests_total Items asked for from the index cache.
# TYPE thanos_store_index_cache_requests_total counter
thanos_store_index_cache_requests_total{item_type="ExpandedPostings",tenant="a"} 0
thanos_store_index_cache_requests_total{item_type="ExpandedPostings",tenant="default-tenant"} 0
thanos_store_index_cache_requests_total{item_type="Postings",tenant="a"} 0
thanos_store_index_cache_requests_total{item_type="Postings",tenant="default-tenant"} 0
thanos_store_index_cache_requests_total{item_type="Series",tenant="a"} 3
thanos_store_index_cache_requests_total{item_type="Series",tenant="default-tenant"} 1
# HELP thanos_store_index_cache_hits_total Items asked for from the index cache that it had.
# TYPE thanos_store_index_cache_hits_total counter
thanos_store_index_cache_hits_total{item_type="ExpandedPostings",tenant="a"} 0
thanos_store_index_cache_hits_total{item_type="ExpandedPostings",tenant="default-tenant"} 0
thanos_store_index_cache_hits_total{item_type="Postings",tenant="a"} 0
thanos_store_index_cache_hits_total{item_type="Postings",tenant="default-tenant"} 0
thanos_store_index_cache_hits_total{item_type="Series",tenant="a"} 1
thanos_store_index_cache_hits_total{item_type="Series",tenant="default-tenant"} 1
`), "thanos_store_index_cache_requests_total", "thanos_store_index_cache_hits_total"))
	})
}

func TestMemoryExposesTheFamiliesThatDashboardsRead(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c := NewMemory(MemoryConfig{MaxSize: 3000, MaxItemSize: 1000}, nil, reg)
	for i := range 4 {
		c.StoreSeries("", blockA, storage.SeriesRef(i), make([]byte, 800))
	}
	c.StoreSeries("", blockA, 9, make([]byte, 1001))

	families, err := reg.Gather()
	require.NoError(t, err)
	var got []string
	values := map[string]float64{}
	for _, f := range families {
		var names []string
		for _, m := range f.Metric {
			names = names[:0]
			item := ""
			for _, l := range m.Label {
				names = append(names, l.GetName())
				if l.GetName() == "item_type" {
					item = l.GetValue()
				}
			}
			if item == "Series" || item == "" {
				values[strings.TrimPrefix(f.GetName(), "thanos_store_index_cache_")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		got = append(got, fmt.Sprintf("%s %s %s", strings.TrimPrefix(f.GetName(), "thanos_store_index_cache_"),
			strings.ToLower(dto.MetricType_name[int32(f.GetType())]), strings.Join(names, ",")))
	}
	require.Equal(t, []string{
		"fetch_duration_seconds histogram item_type,tenant",
		"hits_total counter item_type,tenant",
		"items gauge item_type",
		"items_added_total counter item_type",
		"items_evicted_total counter item_type",
		"items_overflowed_total counter item_type",
		"items_size_bytes gauge item_type",
		"max_item_size_bytes gauge ",
		"max_size_bytes gauge ",
		"requests_total counter item_type,tenant",
		"stored_data_size_bytes histogram item_type,tenant",
		"total_size_bytes gauge item_type",
	}, got)
	require.EqualValues(t, 4, values["items_added_total"])
	require.EqualValues(t, 2, values["items_evicted_total"])
	require.EqualValues(t, 1, values["items_overflowed_total"])
	require.EqualValues(t, 2, values["items"])
	require.EqualValues(t, 1600, values["items_size_bytes"])
	require.Greater(t, values["total_size_bytes"], 1600.0)
	require.LessOrEqual(t, values["total_size_bytes"], 3000.0)
	require.EqualValues(t, 3000, values["max_size_bytes"])
	require.EqualValues(t, 1000, values["max_item_size_bytes"])
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	memory := func(m MemoryConfig, ttl time.Duration, kinds ...Item) Config {
		cfg := DefaultConfig()
		cfg.Backend.Memory, cfg.TTL, cfg.Enabled = m, ttl, kinds
		return cfg
	}
	for text, want := range map[string]Config{
		"type: in-memory": DefaultConfig(),
		"type: IN-MEMORY\nconfig: {max_size: 100MB, max_item_size: 1MiB}\nenabled_items: [Series, Postings]\nttl: 1d": memory(
			MemoryConfig{MaxSize: 100 * cache.MiB, MaxItemSize: cache.MiB}, day, Series, Postings),
		"type: IN-MEMORY\nconfig: {max_size: \"0\"}":           memory(MemoryConfig{}, defaultTTL),
		"type: IN-MEMORY\nconfig:\n  max_size: 1000\nttl: 90m": memory(MemoryConfig{MaxSize: 1000, MaxItemSize: 1000}, 90*time.Minute),
	} {
		cfg, err := ParseConfig("f", []byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, cfg, text)
		c, closer, err := New(cfg, zap.NewNop(), prometheus.NewRegistry())
		require.NoError(t, err)
		require.IsType(t, &Memory{}, c)
		require.NoError(t, closer.Close())
	}
	for text, want := range map[string]string{
		"":                      "f: index cache type is missing (known: IN-MEMORY, MEMCACHED, REDIS)",
		"type: DISK":            `f:1: unknown index cache type "DISK" (known: IN-MEMORY, MEMCACHED, REDIS)`,
		"config: {}\ntype: 1.5": `f:2: unknown index cache type "1.5" (known: IN-MEMORY, MEMCACHED, REDIS)`,
		"type: GROUPCACHE":      `f:1: index cache type GROUPCACHE is not supported; use IN-MEMORY, MEMCACHED or REDIS`,
		"type: memcached":       "f: config: addresses: there must be at least one",
		"type: redis":           "f: config: addr: there must be an address",
		"type: redis\nconfig: {addr: 'x:1', addresses: []}":             `f:2: unknown key "addresses"`,
		"type: memcached\nconfig:\n  addresses: [a:1]\n  timeout: soon": `f:4: "soon" is not a duration such as 500ms, 1h30m or 7d`,
		"type: memcached\nconfig: {addresses: [dns+a]}":                 `f: config: addresses: address "dns+a": missing port`,
		"type: IN-MEMORY\nconfig:\n  max_sise: 1":                       `f:3: unknown key "max_sise"`,
		"type: IN-MEMORY\nconfg: {}":                                    `f:2: unknown key "confg"`,
		"type: IN-MEMORY\nttl: -1s":                                     `f:2: "-1s" is a negative duration`,
		"type: IN-MEMORY\nconfig:\n  max_size: much":                    `f:3: "much" is not a size in bytes such as 1000, 250MB or 1GiB`,
		"type: IN-MEMORY\nconfig: {max_size: 1, max_item_size: 2}":      "f: config: max_item_size 2B is more than max_size 1B",
		"type: IN-MEMORY\nenabled_items: [Chunks]":                      `f: enabled_items: unknown item "Chunks" (known: Postings, Series, ExpandedPostings)`,
		"type: IN-MEMORY\n---\ntype: REDIS":                             "f:2: more than one YAML document",
		"type: [":                                                       "f:1: did not find expected node content",
		"- a":                                                           "f:1: a list is not a map of keys",
	} {
		_, err := ParseConfig("f", []byte(text))
		require.EqualError(t, err, want, text)
	}
	_, _, err := New(Config{}, zap.NewNop(), nil)
	require.ErrorContains(t, err, "unknown type")
}

// Every key that there is, with the values that users of other programs have in their files.
func TestConfigsOfSharedCaches(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig("f", []byte(`
type: MEMCACHED
config:
  addresses: ["dnssrv+_client._tcp.memcached.svc", "10.0.0.1:11211"]
  timeout: 1s
  max_idle_connections: 5
  max_async_concurrency: 6
  max_async_buffer_size: 7
  max_get_multi_concurrency: 8
  max_item_size: 2MiB
  max_get_multi_batch_size: 9
  dns_provider_update_interval: 20s
  auto_discovery: true
  set_async_circuit_breaker_config:
    {enabled: true, half_open_max_requests: 1, open_duration: 2s, min_requests: 3, consecutive_failures: 4, failure_percent: 0.5}
enabled_items: [ExpandedPostings]
ttl: 48h
`))
	require.NoError(t, err)
	require.Equal(t, memcached.Config{
		Addresses: []string{"dnssrv+_client._tcp.memcached.svc", "10.0.0.1:11211"}, Timeout: cache.Duration(time.Second),
		MaxIdleConnections: 5, MaxAsyncConcurrency: 6, MaxAsyncBufferSize: 7, MaxGetMultiConcurrency: 8, MaxItemSize: 2 * cache.MiB,
		MaxGetMultiBatchSize: 9, DNSProviderUpdateInterval: cache.Duration(20 * time.Second), AutoDiscovery: true,
		Breaker: remote.BreakerConfig{
			Enabled: true, HalfOpenMaxRequests: 1, OpenDuration: cache.Duration(2 * time.Second), MinRequests: 3, ConsecutiveFailures: 4, FailurePercent: 0.5,
		},
	}, cfg.Backend.Memcached)
	require.Equal(t, 48*time.Hour, cfg.TTL)

	cfg, err = ParseConfig("f", []byte(`
type: REDIS
config:
  addr: "a:1,b:2"
  username: u
  password: p
  db: 1
  prefix: x
  dial_timeout: 1s
  read_timeout: 2s
  write_timeout: 3s
  max_get_multi_concurrency: 4
  get_multi_batch_size: 5
  max_set_multi_concurrency: 6
  set_multi_batch_size: 7
  tls_enabled: true
  tls_config: {ca_file: a, cert_file: b, key_file: c, server_name: d, insecure_skip_verify: true, min_version: TLS12}
  cache_size: 1MiB
  master_name: m
  max_async_buffer_size: 8
  max_async_concurrency: 9
  set_async_circuit_breaker_config: {enabled: false}
`))
	require.NoError(t, err)
	require.Equal(t, redis.Config{
		Addr: "a:1,b:2", Username: "u", Password: "p", DB: 1, Prefix: "x", MasterName: "m",
		DialTimeout: cache.Duration(time.Second), ReadTimeout: cache.Duration(2 * time.Second), WriteTimeout: cache.Duration(3 * time.Second),
		MaxGetMultiConcurrency: 4, GetMultiBatchSize: 5, MaxSetMultiConcurrency: 6, SetMultiBatchSize: 7,
		TLSEnabled: true, TLS: redis.TLSConfig{CAFile: "a", CertFile: "b", KeyFile: "c", ServerName: "d", InsecureSkipVerify: true, MinVersion: "TLS12"},
		CacheSize: cache.MiB, MaxAsyncBufferSize: 8, MaxAsyncConcurrency: 9, Breaker: remote.DefaultBreakerConfig(),
	}, cfg.Backend.Redis)
}

func TestSharedInMemcached(t *testing.T) {
	t.Parallel()
	s := cachetest.Memcached(t)
	cfg, err := ParseConfig("f", []byte("type: MEMCACHED\nconfig: {addresses: ['"+s.Addr+"']}"))
	require.NoError(t, err)
	c, closer, err := New(cfg, zap.NewNop(), prometheus.NewRegistry())
	require.NoError(t, err)
	defer func() { require.NoError(t, closer.Close()) }()
	require.Eventually(t, func() bool {
		c.StoreSeries("", blockA, 7, []byte("entry"))
		values := make([][]byte, 2)
		return c.Series(t.Context(), "", blockA, []storage.SeriesRef{6, 7}, values) == 1 && string(values[1]) == "entry"
	}, 10*time.Second, time.Millisecond)

	// What is in the server is what other programs look for.
	raw := memcache.New(s.Addr)
	defer func() { require.NoError(t, raw.Close()) }()
	item, err := raw.Get("S:01ARZ3NDEKTSV4RRFFQ69G5FAV:7")
	require.NoError(t, err)
	require.Equal(t, "entry", string(item.Value))
	require.NoError(t, raw.Set(&memcache.Item{Key: PostingsKey(blockA, labels.Label{Name: "foo", Value: "bar"}), Value: []byte("theirs")}))
	values := make([][]byte, 1)
	require.Equal(t, 1, c.Postings(t.Context(), "", blockA, []labels.Label{{Name: "foo", Value: "bar"}}, values))
	require.Equal(t, "theirs", string(values[0]))
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("type: IN-MEMORY\nconfig: {max_size: 1GB}\nenabled_items: [Series]\nttl: 24h"))
	f.Add([]byte("type: redis\nconfig: {addr: x, tls_config: {min_version: '1.2'}}"))
	f.Add([]byte("type: memcached\nconfig: {addresses: [x:1], set_async_circuit_breaker_config: {enabled: true}}"))
	f.Add([]byte("type: &a [*a]"))
	f.Add([]byte("type: IN-MEMORY\n\"0 0\": x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := ParseConfig("f", text)
		if err == nil {
			require.NoError(t, cfg.Backend.Validate())
		} else {
			require.True(t, strings.HasPrefix(err.Error(), "f:"), err)
		}
	})
}

// BenchmarkSeries stores and fetches the entries of 10,000 series, as a request for many series does.
func BenchmarkSeries(b *testing.B) {
	const n = 10_000
	refs := make([]storage.SeriesRef, n)
	for i := range refs {
		refs[i] = storage.SeriesRef(i * 16)
	}
	value := bytes.Repeat([]byte("x"), 120)
	values := make([][]byte, n)
	for name, c := range map[string]Cache{
		"memory": NewMemory(MemoryConfig{MaxSize: 250 * cache.MiB}, nil, prometheus.NewRegistry()),
		"shared": NewShared(cache.NewMemory(int64(250*cache.MiB), 0), time.Hour, nil, prometheus.NewRegistry()),
	} {
		for _, ref := range refs {
			c.StoreSeries("", blockA, ref, value)
		}
		b.Run(name+"/get", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.Series(b.Context(), "", blockA, refs, values) != n {
					b.Fatal("misses")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
		})
		b.Run(name+"/store", func(b *testing.B) {
			b.ReportAllocs()
			block := blockB
			for b.Loop() {
				block[15]++
				for _, ref := range refs {
					c.StoreSeries("", block, ref, value)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
		})
	}
}
