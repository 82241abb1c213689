package redis

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, addr string, change func(*Config)) *Client {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addr = addr
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg, zap.NewNop(), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestKeepsWhatACacheKeeps(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"defaults":             nil,
		"small batches":        func(c *Config) { c.GetMultiBatchSize, c.SetMultiBatchSize = 7, 3 },
		"prefix and database":  func(c *Config) { c.Prefix, c.DB = "prefix:", 3 },
		"client-side cache":    func(c *Config) { c.CacheSize = 8 * cache.MiB },
		"no bounds to batches": func(c *Config) { c.GetMultiBatchSize, c.SetMultiBatchSize, c.MaxGetMultiConcurrency = 0, 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cachetest.Suite(t, open(t, cachetest.Redis(t).Addr, change))
		})
	}
}

func TestSurvivesItsServer(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]cache.ByteSize{"plain": 0, "client-side cache": cache.MiB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cachetest.Redis(t)
			cachetest.SurvivesTheServer(t, open(t, s.Addr, func(c *Config) { c.CacheSize = size }), s)
		})
	}
}

func TestStartsWithoutItsServer(t *testing.T) {
	t.Parallel()
	s := cachetest.Redis(t)
	s.Kill()
	c := open(t, s.Addr, nil)
	c.Set("k", []byte("v"), 0)
	require.Nil(t, c.Get(t.Context(), []string{"k"})[0])
	s.Start(t)
	cachetest.Await(t, c, "k", []byte("v"))
}

func TestSpeaksToAClusterThroughAnyNode(t *testing.T) {
	t.Parallel()
	s := cachetest.Redis(t, "--cluster-enabled", "yes")
	cachetest.Cluster(t, s)
	cachetest.Suite(t, open(t, s.Addr+","+s.Addr, nil))
}

func TestFindsTheMasterThroughSentinels(t *testing.T) {
	t.Parallel()
	master := cachetest.Redis(t)
	sentinel := cachetest.Sentinel(t, master)
	cachetest.Suite(t, open(t, sentinel.Addr, func(c *Config) { c.MasterName = "main" }))
}

func TestSignsIn(t *testing.T) {
	t.Parallel()
	s := cachetest.Redis(t, "--requirepass", "secret")
	cachetest.Await(t, open(t, s.Addr, func(c *Config) { c.Password = "secret" }), "k", []byte("v"))
	wrong := open(t, s.Addr, func(c *Config) { c.Password = "wrong" })
	require.Nil(t, wrong.Get(t.Context(), []string{"k"})[0])
}

func TestBadSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"addr":              func(c *Config) { c.Addr = " , " },
		"db":                func(c *Config) { c.DB = -1 },
		"read_timeout":      func(c *Config) { c.ReadTimeout = 0 },
		"min_version":       func(c *Config) { c.TLS.MinVersion = "SSL3" },
		"cert_file":         func(c *Config) { c.TLS.KeyFile = "x" },
		"half_open":         func(c *Config) { c.Breaker.Enabled, c.Breaker.HalfOpenMaxRequests = true, 0 },
		"no/such/ca":        func(c *Config) { c.TLSEnabled, c.TLS.CAFile = true, "/no/such/ca" },
		"get_multi_batch_s": func(c *Config) { c.GetMultiBatchSize = -1 },
	} {
		cfg := DefaultConfig()
		cfg.Addr = "127.0.0.1:1"
		change(&cfg)
		_, err := New(cfg, zap.NewNop(), nil)
		require.ErrorContains(t, err, want)
	}
}

func BenchmarkGet100(b *testing.B) {
	for name, size := range map[string]cache.ByteSize{"plain": 0, "client-side": 8 * cache.MiB} {
		b.Run(name, func(b *testing.B) {
			c := open(b, cachetest.Redis(b).Addr, func(c *Config) { c.CacheSize = size })
			keys := make([]string, 100)
			for i := range keys {
				keys[i] = fmt.Sprint("key", i)
				cachetest.Await(b, c, keys[i], make([]byte, 300))
			}
			b.ReportAllocs()
			for b.Loop() {
				if c.Get(b.Context(), keys)[99] == nil {
					b.Fatal("miss")
				}
			}
		})
	}
}
