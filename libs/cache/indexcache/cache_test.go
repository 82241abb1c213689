package indexcache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/promontory-io/promontory/libs/cache"
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
	for text, want := range map[string]Config{
		"type: in-memory": DefaultConfig(),
		"type: IN-MEMORY\nconfig: {max_size: 100MB, max_item_size: 1MiB}\nenabled_items: [Series, Postings]\nttl: 1d": {
			Type: TypeInMemory, Memory: MemoryConfig{MaxSize: 100 * cache.MiB, MaxItemSize: cache.MiB}, Enabled: []Item{Series, Postings}, TTL: day,
		},
		"type: IN-MEMORY\nconfig:\n  max_size: 1000\nttl: 90m": {
			Type: TypeInMemory, Memory: MemoryConfig{MaxSize: 1000, MaxItemSize: 1000}, TTL: 90 * time.Minute,
		},
	} {
		cfg, err := ParseConfig([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, cfg, text)
		c, err := New(cfg, zap.NewNop(), prometheus.NewRegistry())
		require.NoError(t, err)
		require.IsType(t, &Memory{}, c)
	}
	for text, want := range map[string]string{
		"":                                   "index cache type is missing (known: IN-MEMORY, MEMCACHED, REDIS)",
		"type: memcached":                    "index cache type MEMCACHED is not in this version yet (there is: IN-MEMORY)",
		"type: redis\nconfig: {addr: 'x:1'}": "index cache type REDIS is not in this version yet (there is: IN-MEMORY)",
		"type: DISK":                         `unknown index cache type "DISK" (known: IN-MEMORY, MEMCACHED, REDIS)`,
		"type: IN-MEMORY\nconfig:\n  max_sise: 1":                  `line 3: unknown key "max_sise"`,
		"type: IN-MEMORY\nconfg: {}":                               `line 2: unknown key "confg"`,
		"type: IN-MEMORY\nconfig:\n  max_size: much":               `line 3: "much" is not a size in bytes such as 1000, 250MB or 1GiB`,
		"type: IN-MEMORY\nconfig:\n  max_size: 0":                  "max_size must be more than 0",
		"type: IN-MEMORY\nconfig: {max_size: 1, max_item_size: 2}": "max_item_size 2B is more than max_size 1B",
		"type: IN-MEMORY\nenabled_items: [Chunks]":                 `enabled_items: unknown item "Chunks" (known: Postings, Series, ExpandedPostings)`,
		"type: IN-MEMORY\n---\ntype: REDIS":                        "more than one YAML document",
		"type: [":                                                  "line 1: did not find expected node content",
		"- a":                                                      "line 1: cannot unmarshal !!seq",
	} {
		_, err := ParseConfig([]byte(text))
		require.EqualError(t, err, want, text)
	}
	_, err := New(Config{Type: TypeRedis}, zap.NewNop(), nil)
	require.ErrorContains(t, err, "not in this version yet")
	_, err = New(Config{Type: TypeInMemory}, zap.NewNop(), nil)
	require.ErrorContains(t, err, "max_size must be more than 0")
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("type: IN-MEMORY\nconfig: {max_size: 1GB}\nenabled_items: [Series]\nttl: 24h"))
	f.Add([]byte("type: redis\nconfig: {addr: x}"))
	f.Add([]byte("type: &a [*a]"))
	f.Add([]byte("type: IN-MEMORY\n\"0 0\": x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := ParseConfig(text)
		if err == nil {
			require.NoError(t, cfg.Validate())
		} else {
			require.NotContains(t, strings.TrimSpace(err.Error()), "indexcache.")
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
