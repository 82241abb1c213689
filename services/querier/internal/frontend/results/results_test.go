package results

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// known is the answer to the steps of r: one series whose value is its time.
func known(t testing.TB, r plan.Range) *answer.Answer {
	t.Helper()
	var points []string
	for at := r.Start; at <= r.End; at += r.Step {
		points = append(points, fmt.Sprintf(`[%d.%03d,"%d"]`, at/1000, at%1000, at))
	}
	text := `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[` + strings.Join(points, ",") + `]}]}}`
	a, err := answer.Parse([]byte(text))
	require.NoError(t, err)
	return a
}

func text(t testing.TB, a *answer.Answer) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, a.Write(&b))
	return b.String()
}

func TestWhateverIsKnownAndAskedTheGapsAreTheRest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	const step = 10
	for range 100 {
		var e Entry
		truth := map[int64]bool{}
		for range 20 {
			start := random.Int64N(50) * step
			r := plan.Range{Start: start, End: start + random.Int64N(200), Step: step}
			found, gaps, err := e.Find(r)
			require.NoError(t, err)
			covered := map[int64]bool{}
			var all []Extent
			for _, x := range found {
				for at := x.Start; at <= x.End; at += step {
					require.True(t, truth[at], "step %d is not known", at)
					covered[at] = true
				}
				all = append(all, x)
			}
			var fresh []Extent
			for _, g := range gaps {
				for at := g.Start; at <= g.End; at += step {
					require.False(t, truth[at], "step %d is known", at)
					require.False(t, covered[at])
					covered[at] = true
				}
				x := Extent{Start: g.Start, End: g.Last(), Answer: known(t, g)}
				all = append(all, x)
				fresh = append(fresh, x)
			}
			require.Len(t, covered, int((r.Last()-r.Start)/step)+1)
			parts, err := Entry(nil).Add(all, step)
			require.NoError(t, err)
			require.Len(t, parts, 1, "what is known and the gaps follow each other")
			last := plan.Range{Start: r.Start, End: r.Last(), Step: step}
			require.Equal(t, text(t, known(t, last)), text(t, parts[0].Answer))

			if random.IntN(3) > 0 { // sometimes nothing may be kept
				e, err = e.Add(fresh, step)
				require.NoError(t, err)
				for at := range covered {
					truth[at] = true
				}
			}
			e = through(t, e)
		}
	}
}

// through is what is left of an entry that was stored.
func through(t testing.TB, e Entry) Entry {
	t.Helper()
	for _, compress := range []bool{false, true} {
		out, err := decode(encode("key", e, compress), "key")
		require.NoError(t, err)
		require.Len(t, out, len(e))
		for i := range e {
			require.Equal(t, text(t, e[i].Answer), text(t, out[i].Answer))
		}
		e = out
	}
	return e
}

func TestAnEntryKeepsItsLongestExtents(t *testing.T) {
	t.Parallel()
	var fresh []Extent
	for i := range int64(40) {
		r := plan.Range{Start: i * 1000, End: i*1000 + i*10, Step: 10}
		fresh = append(fresh, Extent{Start: r.Start, End: r.End, Answer: known(t, r)})
	}
	e, err := Entry(nil).Add(fresh, 10)
	require.NoError(t, err)
	require.Len(t, e, maxExtents)
	require.EqualValues(t, 8000, e[0].Start)
}

func TestTheYoungEndOfAnExtentIsCutOff(t *testing.T) {
	t.Parallel()
	r := plan.Range{Start: 100, End: 200, Step: 10}
	x := Extent{Start: 100, End: 200, Answer: known(t, r)}
	for until, want := range map[int64]int64{99: -1, 100: 100, 109: 100, 155: 150, 200: 200, 300: 200} {
		got, ok, err := x.Until(until, 10)
		require.NoError(t, err)
		require.Equal(t, want >= 0, ok, until)
		if ok {
			require.Equal(t, want, got.End)
			require.Equal(t, text(t, known(t, plan.Range{Start: 100, End: want, Step: 10})), text(t, got.Answer))
		}
	}
}

func TestValuesOfOthersAndBrokenOnesAreNotUsed(t *testing.T) {
	t.Parallel()
	r := plan.Range{Start: 100, End: 200, Step: 10}
	value := encode("key", Entry{{Start: 100, End: 200, Answer: known(t, r)}}, false)
	_, err := decode(value, "other key")
	require.ErrorIs(t, err, errOther)
	for n := range value {
		_, err := decode(value[:n], "key")
		require.Error(t, err, "%d bytes", n)
	}
	_, err = decode(append(value[:len(value):len(value)], 0), "key")
	require.Error(t, err)
	_, err = decode([]byte("x123"), "key")
	require.ErrorContains(t, err, `'x'`)
	_, err = decode([]byte("s\xff\xff\xff\xff\xff\xff"), "key")
	require.Error(t, err)

	reg := prometheus.NewRegistry()
	under := cache.NewMemory(1<<20, 1<<20)
	c := New("test", under, Config{}, zap.NewNop(), reg)
	under.Set(shorten("key"), []byte("p\x00"), 0)
	require.Equal(t, []Entry{nil, nil}, c.Get(t.Context(), []string{"key", "none"}))
	require.InDelta(t, 1, testutil.ToFloat64(c.metrics.broken), 0)
	require.InDelta(t, 2, testutil.ToFloat64(c.metrics.fetched), 0)
	require.InDelta(t, 0, testutil.ToFloat64(c.metrics.hits), 0)
}

func TestEveryKindOfCacheKeepsAnswers(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]func(t *testing.T) string{
		"memory": func(*testing.T) string {
			return "type: in-memory\nconfig: {max_size: 10MB, max_size_items: 5, validity: 1h}"
		},
		"memcached": func(t *testing.T) string {
			return fmt.Sprintf("type: MEMCACHED\nconfig: {addresses: [%q], expiration: 1h}", cachetest.Memcached(t).Addr)
		},
		"redis": func(t *testing.T) string {
			return fmt.Sprintf("type: REDIS\nconfig: {addr: %q, expiration: 1h}", cachetest.Redis(t).Addr)
		},
	} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/compress=%t", name, compress), func(t *testing.T) {
				t.Parallel()
				cfg, err := ParseConfig("file", []byte(config(t)))
				require.NoError(t, err)
				require.Equal(t, time.Hour, cfg.TTL)
				cfg.Compress = compress
				c, err := Open("test", cfg, zap.NewNop(), prometheus.NewRegistry())
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				r := plan.Range{Start: 100, End: 90_000, Step: 10}
				// Longer than memcached takes, and with spaces.
				key := "sum by (job) (rate(x[5m])) " + strings.Repeat("ü", 500)
				require.Eventually(t, func() bool {
					// What is put before the server is reached is lost.
					c.Put(key, Entry{{Start: r.Start, End: r.End, Answer: known(t, r)}})
					return c.Get(t.Context(), []string{key})[0] != nil
				}, 10*time.Second, 5*time.Millisecond)
				got := c.Get(t.Context(), []string{"none", key})
				require.Nil(t, got[0])
				require.Equal(t, text(t, known(t, r)), text(t, got[1][0].Answer))
			})
		}
	}
}

func open(t *testing.T, config string) (*Cache, *prometheus.Registry) {
	t.Helper()
	cfg, err := ParseConfig("file", []byte(config))
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	c, err := Open("labels", cfg, zap.NewNop(), reg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, reg
}

func TestACacheInMemoryKeepsItsBoundsAndCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, reg := open(t, "type: IN-MEMORY\nconfig: {max_size: 1MB, max_size_items: 2, validity: 1h}")
		e := Entry{{Start: 100, End: 200, Answer: known(t, plan.Range{Start: 100, End: 200, Step: 10})}}
		other := Entry{{Start: 100, End: 110, Answer: known(t, plan.Range{Start: 100, End: 110, Step: 10})}}
		c.Put("a", e)
		c.Put("b", e)
		c.Put("b", other)
		c.Put("c", e)
		got := c.Get(t.Context(), []string{"a", "b", "c"})
		require.Nil(t, got[0], "two at most")
		require.NotNil(t, got[1])
		require.NotNil(t, got[2])
		c.Try(t.Context(), []string{"a", "x", "y"})
		time.Sleep(time.Hour) // fake time
		require.Nil(t, c.Get(t.Context(), []string{"c"})[0], "an hour at most")
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP querier_cache_added_new_total Items put into the cache in memory under keys that it did not hold.
# TYPE querier_cache_added_new_total counter
querier_cache_added_new_total{cache="labels"} 3
# HELP querier_cache_added_total Items put into the cache in memory.
# TYPE querier_cache_added_total counter
querier_cache_added_total{cache="labels"} 4
# HELP querier_cache_entries Items in the cache in memory.
# TYPE querier_cache_entries gauge
querier_cache_entries{cache="labels"} 1
# HELP querier_cache_evicted_total Items given up to make room, or too old.
# TYPE querier_cache_evicted_total counter
querier_cache_evicted_total{cache="labels"} 2
# HELP querier_cache_gets_total Keys asked of the cache in memory.
# TYPE querier_cache_gets_total counter
querier_cache_gets_total{cache="labels"} 4
# HELP querier_cache_misses_total Keys that the cache in memory did not have.
# TYPE querier_cache_misses_total counter
querier_cache_misses_total{cache="labels"} 2
# HELP querier_cache_stale_gets_total Keys whose item in the cache in memory was too old.
# TYPE querier_cache_stale_gets_total counter
querier_cache_stale_gets_total{cache="labels"} 1
# HELP cortex_cache_fetched_keys_total Keys asked of the response cache.
# TYPE cortex_cache_fetched_keys_total counter
cortex_cache_fetched_keys_total{name="labels"} 4
# HELP cortex_cache_hits_total Keys that the response cache had.
# TYPE cortex_cache_hits_total counter
cortex_cache_hits_total{name="labels"} 2
`), "querier_cache_added_new_total", "querier_cache_added_total", "querier_cache_entries", "querier_cache_evicted_total", "querier_cache_gets_total",
			"querier_cache_misses_total", "querier_cache_stale_gets_total", "cortex_cache_fetched_keys_total", "cortex_cache_hits_total"))
		for _, name := range []string{"querier_cache_memory_bytes", "cortex_cache_request_duration_seconds", "cortex_cache_value_size_bytes"} {
			n, err := testutil.GatherAndCount(reg, name)
			require.NoError(t, err)
			require.Equal(t, 1, n, name)
		}
	})
}

func TestACacheInMemoryTakesNoMoreThanItsSize(t *testing.T) {
	t.Parallel()
	c, _ := open(t, "type: IN-MEMORY\nconfig: {max_size: 20KB}")
	e := Entry{{Start: 0, End: 1000, Answer: known(t, plan.Range{Start: 0, End: 1000, Step: 10})}}
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprint(i))
		c.Put(keys[i], e)
	}
	held := 0
	for _, got := range c.Get(t.Context(), keys) {
		if got != nil {
			held++
		}
	}
	require.Positive(t, held)
	require.Less(t, held, 20)
}

func TestRequestsToSharedCachesAreTimed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ config, down, family, get, set string }{
		"memcached": {
			config: fmt.Sprintf("type: MEMCACHED\nconfig: {addresses: [%q]}", cachetest.Memcached(t).Addr),
			down:   "type: MEMCACHED\nconfig: {addresses: ['127.0.0.1:1']}",
			family: "cortex_memcache_request_duration_seconds", get: "Memcache.GetMulti", set: "Memcache.Put",
		},
		"redis": {
			config: fmt.Sprintf("type: REDIS\nconfig: {addr: %q}", cachetest.Redis(t).Addr),
			family: "cortex_rediscache_request_duration_seconds", get: "RedisCache.MGet", set: "RedisCache.MSet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, reg := open(t, tc.config)
			e := Entry{{Start: 100, End: 200, Answer: known(t, plan.Range{Start: 100, End: 200, Step: 10})}}
			require.Eventually(t, func() bool {
				c.Put("key", e)
				return c.Get(t.Context(), []string{"key"})[0] != nil && observed(t, reg, tc.family, tc.set, "200") > 0
			}, 10*time.Second, 5*time.Millisecond)
			require.Positive(t, observed(t, reg, tc.family, tc.get, "200"))
			require.Zero(t, observed(t, reg, tc.family, tc.get, "500"))
			if tc.down == "" {
				return
			}
			require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP cortex_memcache_client_servers Memcached servers that are known.
# TYPE cortex_memcache_client_servers gauge
cortex_memcache_client_servers{name="labels"} 1
`), "cortex_memcache_client_servers"))
			c, reg = open(t, tc.down)
			require.Nil(t, c.Get(t.Context(), []string{"key"})[0])
			require.Positive(t, observed(t, reg, tc.family, tc.get, "500"))
		})
	}
}

// observed is how often a histogram with these labels was told of something.
func observed(t *testing.T, reg *prometheus.Registry, family, method, code string) (n uint64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	found := false
	for _, f := range families {
		if f.GetName() != family {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["method"] == method && labels["status_code"] == code && labels["name"] == "labels" {
				found = true
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	require.True(t, found, "%s{method=%q,status_code=%q}", family, method, code)
	return n
}

func TestShorterStepsHoldLongerOnes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(9, 1))
	for range 300 {
		const step = 10
		var e Entry
		truth := map[int64]bool{}
		for range 1 + random.IntN(4) {
			start := random.Int64N(60) * step
			r := plan.Range{Start: start, End: start + random.Int64N(20)*step, Step: step}
			found, gaps, err := e.Find(r)
			require.NoError(t, err)
			_ = found
			var fresh []Extent
			for _, g := range gaps {
				fresh = append(fresh, Extent{Start: g.Start, End: g.Last(), Answer: known(t, g)})
				for at := g.Start; at <= g.End; at += step {
					truth[at] = true
				}
			}
			e, err = e.Add(fresh, step)
			require.NoError(t, err)
		}
		long := step * (2 + random.Int64N(7))
		start := random.Int64N(60) * step
		r := plan.Range{Start: start, End: start + random.Int64N(400), Step: long}
		found, gaps, err := e.Sample(r, step)
		require.NoError(t, err)
		covered := map[int64]int{}
		for _, x := range found {
			for at := x.Start; at <= x.End; at += long {
				require.True(t, truth[at], "step %d is not known", at)
				covered[at]++
			}
			require.Equal(t, text(t, known(t, plan.Range{Start: x.Start, End: x.End, Step: long})), text(t, x.Answer))
		}
		for _, g := range gaps {
			for at := g.Start; at <= g.End; at += long {
				require.False(t, truth[at], "step %d is known", at)
				covered[at]++
			}
		}
		for at := r.Start; at <= r.End; at += long {
			require.Equal(t, 1, covered[at], at)
		}
	}
	noted := known(t, plan.Range{Start: 0, End: 100, Step: 10})
	noted.Infos = []string{"PromQL info: at one of these steps"}
	found, gaps, err := Entry{{Start: 0, End: 100, Answer: noted}}.Sample(plan.Range{Start: 0, End: 100, Step: 20}, 10)
	require.NoError(t, err)
	require.Empty(t, found)
	require.Equal(t, []plan.Range{{Start: 0, End: 100, Step: 20}}, gaps)
}

func TestConfigurationsAreReadAsThanosWritesThem(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig("f", []byte("type: MEMCACHED\nconfig:\n  addresses: ['a:1']\n  max_async_concurrency: 3\n"))
	require.NoError(t, err)
	require.Equal(t, backend.TypeMemcached, cfg.Backend.Type)
	require.Equal(t, 24*time.Hour, cfg.TTL)
	require.Equal(t, 3, cfg.Backend.Memcached.MaxAsyncConcurrency)
	cfg, err = ParseConfig("f", []byte("type: MEMCACHED\nconfig: {addresses: ['a:1'], expiration: 3h}"))
	require.NoError(t, err)
	require.Equal(t, 3*time.Hour, cfg.TTL)
	require.Equal(t, 10, cfg.Backend.Memcached.MaxAsyncConcurrency)
	for text, want := range map[string]string{
		"type: MAGIC":                            "f: unknown type \"MAGIC\"",
		"{}":                                     "f: unknown type \"\"",
		"type: IN-MEMORY\nconfig: {max_sise: 1}": "f:2: unknown key \"max_sise\"",
		"type: IN-MEMORY\nconfig: {max_size: 1, max_item_size: 2}": "f: config: max_item_size",
		"type: IN-MEMORY\nconfig: {max_size_items: -1}":            "f: config: max_size_items -1 is negative",
		"type: REDIS\nconfig: {}":                                  "f: config: ",
		"type: REDIS\nconfig: {addr: a:1, x: y}":                   "f:2: unknown key \"x\"",
		"type: MEMCACHED\nconfig: {expiration: now}":               "f:2: ",
		"typ: REDIS": "f:1: unknown key \"typ\"",
	} {
		_, err := ParseConfig("f", []byte(text))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "\n")
	}
}

func FuzzStoredValuesAreReadOrRefused(f *testing.F) {
	for _, compress := range []bool{false, true} {
		f.Add(encode("key", Entry{{Start: 100, End: 200, Answer: &answer.Answer{
			Type: answer.TypeMatrix, Warnings: []string{"w"}, Items: [][]byte{[]byte("1")},
			Series: []answer.Series{{Metric: []byte(`{"a":"b"}`), Floats: answer.Points{[]byte(`[1,"2"]`)}}},
		}}}, compress))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := decode(value, "key")
		if err != nil {
			return
		}
		again, err := decode(encode("key", e, false), "key")
		require.NoError(t, err)
		require.Len(t, again, len(e))
	})
}
