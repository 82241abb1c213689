// Package memcached is a cache in memcached servers.
//
// A key lives on the server that a jump hash picks among the addresses in natural order, the way Thanos does it, so that
// both may share the servers. Reading asks each server once for many keys. Storing goes through a bounded queue. A server
// that does not answer is left alone for a moment: its keys are misses, and nobody waits for it.
package memcached

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/remote"
	"github.com/promontory-io/promontory/libs/discovery"
)

// Client is a cache.Cache in memcached servers.
type Client struct {
	cfg      Config
	logger   *zap.Logger
	metrics  *remote.Metrics
	provider *discovery.Provider
	queue    *remote.Queue
	servers  atomic.Pointer[ring]
	gate     chan struct{} // nil: no bound
	gets     sync.WaitGroup

	cancel  context.CancelFunc
	refresh sync.WaitGroup
	// clusters holds the last good answer of each configuration endpoint; only the refreshing goroutine uses it.
	clusters map[string][]string
}

var _ cache.Cache = (*Client)(nil)

// New returns a client and starts to look for the servers. None of them has to be there: while it is not, its keys are
// misses. The registry may be nil.
func New(cfg Config, logger *zap.Logger, reg prometheus.Registerer) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	logger = logger.Named("memcached")
	c := &Client{
		cfg: cfg, logger: logger, metrics: remote.NewMetrics(reg, "thanos_memcached_").Tell(cfg.Observer),
		provider: discovery.NewProvider(discovery.Options{Logger: logger, Registerer: reg, MetricPrefix: "thanos_memcached_"}),
		clusters: map[string][]string{},
	}
	c.servers.Store(&ring{})
	if cfg.MaxGetMultiConcurrency > 0 {
		c.gate = make(chan struct{}, cfg.MaxGetMultiConcurrency)
	}
	c.queue = remote.NewQueue(remote.QueueConfig{
		Length: cfg.MaxAsyncBufferSize, Concurrency: cfg.MaxAsyncConcurrency, Batch: 1, MaxItemBytes: int64(cfg.MaxItemSize),
	}, remote.NewBreaker(cfg.Breaker), c.metrics, logger, c.store)

	// The life of the refreshing goroutine is the client's, which no context spans.
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	dynamic := cfg.AutoDiscovery
	for _, addr := range cfg.Addresses {
		dynamic = dynamic || discovery.IsDynamic(addr)
	}
	if !dynamic {
		// Nothing is asked for, so this neither waits nor fails.
		_ = c.provider.Resolve(ctx, cfg.Addresses)
		c.update(ctx)
		return c, nil
	}
	c.refresh.Go(func() {
		_ = c.provider.Run(ctx, time.Duration(cfg.DNSProviderUpdateInterval), func() []string { return cfg.Addresses }, nil, func() { c.update(ctx) })
	})
	return c, nil
}

// update takes the addresses that discovery knows now. Connections to servers that remain are kept.
func (c *Client) update(ctx context.Context) {
	var addrs []string
	for _, a := range c.provider.Addresses() {
		addrs = append(addrs, a.Addr)
	}
	if c.cfg.AutoDiscovery {
		addrs = c.nodes(ctx, addrs)
	}
	next, gone := (*c.servers.Load()).next(addrs, func(addr string) *server { return newServer(addr, c.cfg) })
	c.servers.Store(&next)
	for _, s := range gone {
		// Requests that are under way end as they would; what they give back later is closed with the process.
		_ = s.client.Close()
	}
}

func (c *Client) nodes(ctx context.Context, endpoints []string) []string {
	var all []string
	answers := make(map[string][]string, len(endpoints))
	for _, endpoint := range endpoints {
		nodes, err := askCluster(ctx, endpoint, time.Duration(c.cfg.Timeout))
		if err != nil {
			nodes = c.clusters[endpoint]
			c.logger.Warn("configuration endpoint does not answer, keeping its last answer",
				zap.String("address", endpoint), zap.Strings("kept", nodes), zap.Error(err))
		}
		answers[endpoint] = nodes
		all = append(all, nodes...)
	}
	c.clusters = answers
	return all
}

// batch is what one request asks for.
type batch struct {
	server *server
	keys   []string
}

// Get asks each server for its keys, see cache.Cache.
func (c *Client) Get(ctx context.Context, keys []string) [][]byte {
	values := make([][]byte, len(keys))
	batches := c.split(keys)
	if len(batches) == 0 || ctx.Err() != nil {
		return values
	}
	answers := make(chan map[string]*memcache.Item, len(batches))
	for _, b := range batches {
		c.gets.Go(func() { answers <- c.fetch(ctx, b) })
	}
	found := make(map[string]*memcache.Item, len(keys))
	for range batches {
		select {
		case answer := <-answers:
			for key, item := range answer {
				found[key] = item
			}
		case <-ctx.Done():
			// The requests end by their own timeouts; nobody looks at what they bring.
			return fill(values, keys, found)
		}
	}
	return fill(values, keys, found)
}

func fill(values [][]byte, keys []string, found map[string]*memcache.Item) [][]byte {
	for i, key := range keys {
		if item := found[key]; item != nil {
			values[i] = item.Value
		}
	}
	return values
}

func (c *Client) split(keys []string) []batch {
	servers := *c.servers.Load()
	if len(servers) == 0 {
		c.metrics.Skipped(remote.OpGet, remote.SkipNoServer, len(keys))
		return nil
	}
	perServer := make(map[*server][]string, len(servers))
	for _, key := range keys {
		if !legal(key) {
			c.metrics.Skipped(remote.OpGet, remote.SkipBadKey, 1)
			continue
		}
		s := servers.of(key)
		perServer[s] = append(perServer[s], key)
	}
	var batches []batch
	for s, all := range perServer {
		size := len(all)
		if c.cfg.MaxGetMultiBatchSize > 0 {
			size = c.cfg.MaxGetMultiBatchSize
		}
		for len(all) > 0 {
			n := min(size, len(all))
			batches = append(batches, batch{server: s, keys: all[:n]})
			all = all[n:]
		}
	}
	return batches
}

// fetch asks one server. What came before a failure counts.
func (c *Client) fetch(ctx context.Context, b batch) map[string]*memcache.Item {
	if c.gate != nil {
		select {
		case c.gate <- struct{}{}:
			defer func() { <-c.gate }()
		case <-ctx.Done():
			return nil
		}
	}
	done, ok := b.server.breaker.Allow()
	if !ok {
		c.metrics.Skipped(remote.OpGet, remote.SkipBreaker, len(b.keys))
		return nil
	}
	start := time.Now()
	items, err := b.server.client.GetMulti(b.keys)
	done(err == nil)
	var size int
	for _, item := range items {
		size += len(item.Value)
	}
	c.metrics.Done(remote.OpGet, start, size, err)
	if err != nil {
		c.logger.Debug("server did not answer", zap.String("server", b.server.addr), zap.Int("keys", len(b.keys)), zap.Error(err))
	}
	return items
}

// Servers returns how many servers are known at the moment.
func (c *Client) Servers() int { return len(*c.servers.Load()) }

// Set stores a value some time later, see cache.Cache.
func (c *Client) Set(key string, value []byte, ttl time.Duration) {
	switch {
	case !legal(key):
		c.metrics.Skipped(remote.OpSet, remote.SkipBadKey, 1)
	case len(*c.servers.Load()) == 0:
		c.metrics.Skipped(remote.OpSet, remote.SkipNoServer, 1)
	default:
		c.queue.Add(key, value, ttl)
	}
}

var errNoServer = errors.New("there is no server")

func (c *Client) store(items []remote.Item) error {
	servers := *c.servers.Load()
	if len(servers) == 0 {
		return errNoServer
	}
	var errs []error
	for _, item := range items {
		errs = append(errs, servers.of(item.Key).client.Set(&memcache.Item{
			Key: item.Key, Value: item.Value, Expiration: expiration(item.TTL, time.Now()),
		}))
	}
	return errors.Join(errs...)
}

// expiration is the ttl as the protocol has it: seconds, or the Unix time where they are more than 30 days.
func expiration(ttl time.Duration, now time.Time) int32 {
	const relativeMax = 30 * 24 * time.Hour
	if ttl <= 0 {
		return 0
	}
	seconds := int64((ttl + time.Second - 1) / time.Second)
	if ttl > relativeMax {
		seconds += now.Unix()
	}
	const never = 1<<31 - 1 // the last second that there is a number for
	return int32(min(seconds, never))
}

// legal reports whether the protocol can say the key.
func legal(key string) bool {
	if key == "" || len(key) > 250 {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] == 0x7f {
			return false
		}
	}
	return true
}

// Close ends what is under way, see cache.Cache.
func (c *Client) Close() error {
	c.cancel()
	c.refresh.Wait()
	c.queue.Close()
	c.gets.Wait()
	var errs []error
	for _, s := range *c.servers.Load() {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(errs...)
}
