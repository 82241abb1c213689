package memcached

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/cachetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, change func(*Config), addrs ...string) *Client {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addresses = addrs
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
	for _, batch := range []int{0, 7} {
		t.Run(fmt.Sprintf("batch=%d", batch), func(t *testing.T) {
			t.Parallel()
			a, b := cachetest.Memcached(t), cachetest.Memcached(t)
			cachetest.Suite(t, open(t, func(c *Config) { c.MaxGetMultiBatchSize = batch }, a.Addr, b.Addr))
		})
	}
}

func TestSurvivesItsServer(t *testing.T) {
	t.Parallel()
	s := cachetest.Memcached(t)
	cachetest.SurvivesTheServer(t, open(t, func(c *Config) { c.Breaker.Enabled, c.Breaker.OpenDuration = true, cache.Duration(time.Second) }, s.Addr), s)
}

func TestOneServerDownLeavesTheKeysOfTheOther(t *testing.T) {
	t.Parallel()
	a, b := cachetest.Memcached(t), cachetest.Memcached(t)
	c := open(t, nil, a.Addr, b.Addr)
	onA := ""
	for i := 0; onA == ""; i++ {
		if key := fmt.Sprint("key", i); (*c.servers.Load()).of(key).addr == a.Addr {
			onA = key
		}
	}
	cachetest.Await(t, c, onA, []byte("v"))
	b.Kill()
	keys := []string{onA}
	for i := range 100 {
		keys = append(keys, fmt.Sprint("some", i))
	}
	require.Equal(t, "v", string(c.Get(t.Context(), keys)[0]))
}

func TestAServerThatHangsIsLeftAlone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	c := open(t, func(c *Config) { c.Timeout = cache.Duration(50 * time.Millisecond) }, l.Addr().String())
	start := time.Now()
	for range 1000 {
		require.Nil(t, c.Get(t.Context(), []string{"k"})[0])
	}
	require.Less(t, time.Since(start), 5*time.Second, "1000 timeouts would be 50 s")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Nil(t, c.Get(ctx, []string{"k"})[0])
}

func TestLargeItemsAreNotSent(t *testing.T) {
	t.Parallel()
	s := cachetest.Memcached(t)
	c := open(t, func(c *Config) { c.MaxItemSize = 100 }, s.Addr)
	c.Set("large", make([]byte, 101), time.Minute)
	cachetest.Await(t, c, "fits", make([]byte, 100))
	require.Nil(t, c.Get(t.Context(), []string{"large"})[0])
}

func TestServersAreChosenByJumpHashInNaturalOrder(t *testing.T) {
	t.Parallel()
	r, _ := ring(nil).next([]string{"m-10:1", "m-2:1", "m-1:1", "m-2:1"}, func(addr string) *server { return &server{addr: addr} })
	require.Len(t, r, 3)
	require.Equal(t, []string{"m-1:1", "m-2:1", "m-10:1"}, []string{r[0].addr, r[1].addr, r[2].addr})
	next, gone := r.next([]string{"m-1:1", "m-10:1", "m-11:1"}, func(addr string) *server { return &server{addr: addr} })
	require.Same(t, r[0], next[0])
	require.Same(t, r[2], next[1])
	require.Equal(t, "m-2:1", gone[0].addr)
	require.Len(t, gone, 1)

	// Published values of the algorithm, as its implementations test them.
	for _, tc := range []struct {
		key  uint64
		n    int
		want int
	}{{1, 1, 0}, {42, 57, 43}, {0xDEAD10CC, 1, 0}, {0xDEAD10CC, 666, 361}, {256, 1024, 520}, {0, 100, 0}} {
		require.Equal(t, tc.want, jumpHash(tc.key, tc.n), "key %d of %d", tc.key, tc.n)
	}
	moved := 0
	for key := range uint64(10_000) {
		a, b := jumpHash(key*0x9E3779B97F4A7C15, 9), jumpHash(key*0x9E3779B97F4A7C15, 10)
		if a != b {
			moved++
			require.Equal(t, 9, b)
		}
	}
	require.InDelta(t, 1000, moved, 150)
}

func TestExpirationIsWhatTheProtocolMeans(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	require.EqualValues(t, 0, expiration(0, now))
	require.EqualValues(t, 1, expiration(time.Millisecond, now))
	require.EqualValues(t, 30*86400, expiration(30*24*time.Hour, now))
	require.EqualValues(t, 1_700_000_000+31*86400, expiration(31*24*time.Hour, now))
	require.EqualValues(t, 1<<31-1, expiration(1<<62, now))
}

func TestNamesAreLookedUp(t *testing.T) {
	t.Parallel()
	s := cachetest.Memcached(t)
	_, port, err := net.SplitHostPort(s.Addr)
	require.NoError(t, err)
	c := open(t, nil, "dns+localhost:"+port)
	require.Eventually(t, func() bool { return len(*c.servers.Load()) > 0 }, 10*time.Second, 10*time.Millisecond)
	cachetest.Await(t, c, "k", []byte("v"))
}

func TestAutoDiscoveryAsksForTheNodes(t *testing.T) {
	t.Parallel()
	s := cachetest.Memcached(t)
	host, port, err := net.SplitHostPort(s.Addr)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if strings.TrimSpace(line) == "config get cluster" {
				body := fmt.Sprintf("12\n|%s|%s\n", host, port)
				_, _ = fmt.Fprintf(conn, "CONFIG cluster 0 %d\r\n%s\r\nEND\r\n", len(body), body)
			}
			_ = conn.Close()
		}
	}()
	c := open(t, func(c *Config) {
		c.AutoDiscovery, c.DNSProviderUpdateInterval = true, cache.Duration(10*time.Millisecond)
	}, l.Addr().String())
	cachetest.Await(t, c, "k", []byte("v"))
	require.Equal(t, s.Addr, (*c.servers.Load())[0].addr)
	require.NoError(t, l.Close())
	<-done
	cachetest.Await(t, c, "k", []byte("still known"))
}

func FuzzReadCluster(f *testing.F) {
	f.Add("CONFIG cluster 0 20\r\n1\na.example|1.2.3.4|11211 b||12\n\r\nEND\r\n")
	f.Add("CONFIG cluster 0 999999999\r\n")
	f.Add("ERROR\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := readCluster(bufio.NewReader(strings.NewReader(text)))
		require.Equal(t, err == nil, len(nodes) > 0)
	})
}

func BenchmarkGet100(b *testing.B) {
	s := cachetest.Memcached(b)
	c := open(b, nil, s.Addr)
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
}
