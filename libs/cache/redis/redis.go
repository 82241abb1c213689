// Package redis is a cache in a Redis: a single one, a cluster, or one that sentinels watch.
//
// Reading asks once for many keys; storing goes through a bounded queue and sends many items at once. The connection is
// made behind the back of the process: while there is none, all keys are misses.
package redis

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/remote"
)

const (
	// clientCacheTTL bounds how long values stay in this process; the server tells when one changes or expires sooner.
	clientCacheTTL = 24 * time.Hour
	// The pauses between attempts to connect for the first time; after that the library reconnects.
	minPause, maxPause = 100 * time.Millisecond, 5 * time.Second
)

// Client is a cache.Cache in Redis.
type Client struct {
	cfg     Config
	logger  *zap.Logger
	metrics *remote.Metrics
	queue   *remote.Queue
	breaker *remote.Breaker
	getGate chan struct{} // nil: no bound
	setGate chan struct{}
	gets    sync.WaitGroup
	conn    atomic.Pointer[rueidis.Client] // nil until connected

	ctx     context.Context //nolint:containedctx // the client's life, which no context of a caller spans
	cancel  context.CancelFunc
	connect sync.WaitGroup
}

var _ cache.Cache = (*Client)(nil)

// New returns a client and begins to connect; the server does not have to be there. The registry may be nil. Errors are
// about the configuration, files included.
func New(cfg Config, logger *zap.Logger, reg prometheus.Registerer) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	tlsCfg, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, logger: logger.Named("redis"), metrics: remote.NewMetrics(reg, "thanos_redis_").Tell(cfg.Observer),
		breaker: remote.NewBreaker(remote.ReadBreakerConfig()),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if cfg.MaxGetMultiConcurrency > 0 {
		c.getGate = make(chan struct{}, cfg.MaxGetMultiConcurrency)
	}
	if cfg.MaxSetMultiConcurrency > 0 {
		c.setGate = make(chan struct{}, cfg.MaxSetMultiConcurrency)
	}
	batch := cfg.SetMultiBatchSize
	if batch == 0 {
		batch = cfg.MaxAsyncBufferSize
	}
	c.queue = remote.NewQueue(remote.QueueConfig{
		Length: cfg.MaxAsyncBufferSize, Concurrency: cfg.MaxAsyncConcurrency, Batch: batch,
	}, remote.NewBreaker(cfg.Breaker), c.metrics, c.logger, c.store)
	c.connect.Go(func() { c.dial(c.options(tlsCfg)) })
	return c, nil
}

func (c *Client) options(tlsCfg *tls.Config) rueidis.ClientOption {
	o := rueidis.ClientOption{
		TLSConfig: tlsCfg, Username: c.cfg.Username, Password: c.cfg.Password, SelectDB: c.cfg.DB,
		InitAddress: c.cfg.addresses(), ShuffleInit: true,
		ConnWriteTimeout:  time.Duration(c.cfg.WriteTimeout),
		CacheSizeEachConn: int(c.cfg.CacheSize), DisableCache: c.cfg.CacheSize == 0,
		// Trying again is for things that must succeed. A miss is quicker.
		DisableRetry: true,
		DialCtxFn:    c.dialConn,
	}
	o.Dialer.Timeout = time.Duration(c.cfg.DialTimeout)
	if c.cfg.MasterName != "" {
		o.Sentinel = rueidis.SentinelOption{MasterSet: c.cfg.MasterName, TLSConfig: tlsCfg}
	}
	return o
}

// dialConn lets Close end attempts to connect.
func (c *Client) dialConn(ctx context.Context, addr string, dialer *net.Dialer, tlsCfg *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	if tlsCfg != nil {
		return (&tls.Dialer{NetDialer: dialer, Config: tlsCfg}).DialContext(ctx, "tcp", addr)
	}
	return dialer.DialContext(ctx, "tcp", addr)
}

func (c *Client) dial(o rueidis.ClientOption) {
	for pause, failed := minPause, false; ; pause = min(2*pause, maxPause) {
		client, err := rueidis.NewClient(o)
		if err == nil {
			c.conn.Store(&client)
			if failed {
				c.logger.Info("connected", zap.Strings("addresses", o.InitAddress))
			}
			return
		}
		if c.ctx.Err() != nil {
			return
		}
		if !failed {
			c.logger.Warn("no connection yet, going on without", zap.Strings("addresses", o.InitAddress), zap.Error(err))
			failed = true
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Get asks for many keys at once, see cache.Cache.
func (c *Client) Get(ctx context.Context, keys []string) [][]byte {
	values := make([][]byte, len(keys))
	conn := c.conn.Load()
	if conn == nil {
		c.metrics.Skipped(remote.OpGet, remote.SkipNoServer, len(keys))
		return values
	}
	size := c.cfg.GetMultiBatchSize
	if size == 0 {
		size = max(len(keys), 1)
	}
	type answer struct {
		first  int
		values [][]byte
	}
	batches := (len(keys) + size - 1) / size
	answers := make(chan answer, batches)
	for first := 0; first < len(keys); first += size {
		part := keys[first:min(first+size, len(keys))]
		if c.cfg.Prefix != "" {
			part = prefixed(c.cfg.Prefix, part)
		} else {
			part = append([]string(nil), part...) // the request may outlive the call when the context ends
		}
		c.gets.Go(func() { answers <- answer{first: first, values: c.fetch(ctx, *conn, part)} })
	}
	for range batches {
		select {
		case a := <-answers:
			copy(values[a.first:], a.values)
		case <-ctx.Done():
			return values
		}
	}
	return values
}

func prefixed(prefix string, keys []string) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = prefix + key
	}
	return out
}

func (c *Client) fetch(ctx context.Context, conn rueidis.Client, keys []string) [][]byte {
	if c.getGate != nil {
		select {
		case c.getGate <- struct{}{}:
			defer func() { <-c.getGate }()
		case <-ctx.Done():
			return nil
		}
	}
	done, ok := c.breaker.Allow()
	if !ok {
		c.metrics.Skipped(remote.OpGet, remote.SkipBreaker, len(keys))
		return nil
	}
	start := time.Now()
	asking, cancel := context.WithTimeout(ctx, time.Duration(c.cfg.ReadTimeout))
	defer cancel()
	messages, err := rueidis.MGetCache(conn, asking, clientCacheTTL, keys)
	// A caller who leaves says nothing about the server.
	done(err == nil || ctx.Err() != nil)
	values := make([][]byte, len(keys))
	var size int
	for i, key := range keys {
		if m, ok := messages[key]; ok && !m.IsNil() {
			value, err := m.AsBytes()
			if err != nil {
				continue // not a text: somebody else's
			}
			if value == nil {
				value = []byte{}
			}
			values[i] = value
			size += len(value)
		}
	}
	c.metrics.Done(remote.OpGet, start, size, err)
	if err != nil {
		c.logger.Debug("server did not answer", zap.Int("keys", len(keys)), zap.Error(err))
	}
	return values
}

// Set stores a value some time later, see cache.Cache.
func (c *Client) Set(key string, value []byte, ttl time.Duration) {
	if c.conn.Load() == nil {
		c.metrics.Skipped(remote.OpSet, remote.SkipNoServer, 1)
		return
	}
	c.queue.Add(key, value, ttl)
}

func (c *Client) store(items []remote.Item) error {
	if c.setGate != nil {
		c.setGate <- struct{}{}
		defer func() { <-c.setGate }()
	}
	conn := *c.conn.Load()
	ctx, cancel := context.WithTimeout(c.ctx, time.Duration(c.cfg.WriteTimeout))
	defer cancel()
	commands := make(rueidis.Commands, len(items))
	for i, item := range items {
		set := conn.B().Set().Key(c.cfg.Prefix + item.Key).Value(rueidis.BinaryString(item.Value))
		if item.TTL > 0 {
			commands[i] = set.PxMilliseconds(max(item.TTL.Milliseconds(), 1)).Build()
		} else {
			commands[i] = set.Build()
		}
	}
	var errs []error
	for _, result := range conn.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &storeError{failed: len(errs), first: errs[0]}
}

// storeError names one of what may be hundreds of equal failures.
type storeError struct {
	failed int
	first  error
}

func (e *storeError) Error() string { return strings.TrimSpace(e.first.Error()) }
func (e *storeError) Unwrap() error { return e.first }

// Close ends what is under way, see cache.Cache.
func (c *Client) Close() error {
	c.cancel()
	c.connect.Wait()
	c.queue.Close()
	if conn := c.conn.Load(); conn != nil {
		(*conn).Close()
	}
	c.gets.Wait()
	return nil
}
