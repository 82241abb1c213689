package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
	"github.com/promontory-io/promontory/libs/cache/cachebucket"
	"github.com/promontory-io/promontory/libs/cache/indexcache"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/promapi/procstatus"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/webui"
	"github.com/promontory-io/promontory/services/store-gateway/internal/api"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/requests"
	"github.com/promontory-io/promontory/services/store-gateway/internal/store"
	"github.com/promontory-io/promontory/services/store-gateway/internal/syncer"
)

// NewCommand returns the command.
func NewCommand() *cobra.Command { return command(os.Stderr) }

func command(logs io.Writer) *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:  "store-gateway",
		Short: "Serves the blocks of a bucket over the Store API.",
		Words: [][]string{{"store"}}, Common: &cfg.Common, Settings: &cfg,
		Run:       func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
		LogOutput: logs,
	})
}

// retrySync is how soon a look through the bucket that failed is repeated.
const retrySync = 10 * time.Second

// Run wires a store gateway and serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *service.Process) (err error) {
	warn(cfg, p.Logger)
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	counter := requests.NewCounter(p.Registry)
	bkt, err := newBucket(cfg, p)
	if err != nil {
		return err
	}
	bkt = counter.Bucket(bkt)
	defer func() { err = errors.Join(err, bkt.Close()) }()
	indexCache, indexBytes, indexCloser, err := newIndexCache(cfg, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, indexCloser.Close()) }()
	read, objectBytes, readCloser, err := newCachingBucket(cfg, bkt, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, readCloser.Close()) }()

	reader := rangeread.New(read, rangeread.DefaultConfig())
	st := store.New(storeConfig(cfg), newBudget(cfg, indexBytes+objectBytes, p), p.Logger, p.Registry)
	metas := reader.SmallObjects(read.ReaderWithExpectedErrs(read.IsObjNotFoundErr))
	base, err := fetch.NewBase(p.Logger, metas, fetch.Config{
		Strategy: fetch.Strategy(cfg.Sync.Strategy), Concurrency: cfg.Sync.FetchConcurrency, CacheDir: cfg.DataDir,
	}, p.Registry)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	defer closeBase(ctx, base)
	sync, err := newSyncer(cfg, bkt, base, reader, indexCache, st, counter, p)
	if err != nil {
		return err
	}
	defer sync.Close()
	p.Group.AddPart(lifecycle.Part{Name: "slow clients", Run: st.Watch})
	p.Group.AddPart(lifecycle.Part{Name: "sync", Run: sync.Run, Ready: sync.Ready()})

	if !cfg.Web.Disable {
		mw := p.Middleware(nil)
		cfg.Web.Normalize(false)
		mux := http.NewServeMux()
		blocks := api.Blocks(cfg.Web.Label, sync.State, p.Logger.Named("api"))
		wrap := func(name string, h http.Handler) http.Handler { return mw.Wrap(name, cfg.Web.CORS(h)) }
		mux.Handle("GET /api/v1/blocks", wrap("blocks", blocks))
		procstatus.Handle(mux, p.Flags, wrap, p.Logger)
		cfg.Web.Mount(p.HTTP, "/", webui.Over(webui.Config{
			Service: "store-gateway", Pages: []webui.Page{webui.Loaded, webui.Flags, webui.Status}, Wrap: mw.Wrap,
		}, cfg.Web.Preflight(mux, mw.Wrap)))
	} else {
		procstatus.Handle(p.HTTP, p.Flags, nil, p.Logger)
	}
	_, err = p.GRPC(grpcserver.Options{
		Register: []func(grpc.ServiceRegistrar){
			func(r grpc.ServiceRegistrar) {
				storeapi.Register(r, st, storeapi.ServerConfig{
					Limits:     storeapi.Limits{Series: cfg.Limits.RequestSeries, Samples: cfg.Limits.RequestSamples},
					Registerer: p.Registry,
				})
			},
			st.RegisterInfo,
		},
		ServerOptions: []grpc.ServerOption{
			storeapi.ServerOption(),
			grpc.ChainStreamInterceptor(counter.StreamInterceptor(), st.StreamInterceptor()),
			grpc.ChainUnaryInterceptor(counter.UnaryInterceptor(), st.UnaryInterceptor()),
		},
	})
	if err != nil {
		return err
	}
	return p.Serve(ctx)
}

// warn says at start what was asked for and has no effect.
func warn(cfg Config, logger *zap.Logger) {
	if cfg.Parquet.IsSet() {
		logger.Warn("--objstore-parquet.config has no effect: data that exists as parquet too is served from the TSDB blocks")
	}
	if cfg.Headers.Download == downloadLazy && !cfg.Headers.LazyReader {
		logger.Warn("--store.index-header-lazy-download-strategy=lazy has no effect without --store.enable-index-header-lazy-reader")
	}
}

func newBucket(cfg Config, p *service.Process) (objstore.InstrumentedBucket, error) {
	text, err := cfg.Bucket.Bytes()
	if err != nil {
		return nil, err
	}
	return objstore.New(text, component, p.Logger, p.Registry, objstore.WithSource(cfg.Bucket.Source()), objstore.WithHedging())
}

// newCachingBucket puts the cache of --store.caching-bucket.config in front of bkt, which stays the caller's to close; how much
// memory the cache may take, and what is to be closed besides, comes along.
func newCachingBucket(cfg Config, bkt objstore.InstrumentedBucket, p *service.Process) (objstore.InstrumentedBucket, int64, io.Closer, error) {
	if !cfg.CachingBucket.IsSet() {
		return bkt, 0, io.NopCloser(nil), nil
	}
	text, err := cfg.CachingBucket.Bytes()
	if err != nil {
		return nil, 0, nil, err
	}
	c, err := cachebucket.ParseConfig(cfg.CachingBucket.Source(), cfg.CachingBucket.Path(), text)
	if err != nil {
		return nil, 0, nil, err
	}
	if c.Alone {
		p.Logger.Warn("caching bucket type GROUPCACHE: nothing is shared with peers, this process keeps a cache of its own", zap.Stringer("max_size", c.Backend.Memory.MaxSize))
	}
	kept, err := backend.Open("caching-bucket", c.Backend, p.Logger, p.Registry)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%s: caching bucket: %w", cfg.CachingBucket.Source(), err)
	}
	return cachebucket.New(bkt, kept, c.Settings, c.Hash, p.Logger, p.Registry), c.Backend.MemoryBytes(), kept, nil
}

// maxMemoryWait is how long a request waits for memory before it is refused: most clients have a minute or two for all they ask.
const maxMemoryWait = 10 * time.Second

// newBudget bounds what all requests hold; fixed is how many bytes caches may take besides.
func newBudget(cfg Config, fixed int64, p *service.Process) *budget.Budget {
	of, from := budget.ProcessLimit()
	if budget.Apply(of, from) {
		p.Logger.Info("GOMEMLIMIT is set", zap.String("from", string(from)), zap.Int64("limit_bytes", of/5*4))
	}
	limit, source := cfg.BudgetBytes, "--store.memory-budget"
	if limit == 0 {
		limit = min(budget.Share(of, fixed), cfg.ChunkPoolBytes)
		source = fmt.Sprintf("%s of %s, caches of %s", from, flags.FormatBytes(of), flags.FormatBytes(fixed))
	}
	p.Logger.Info("memory budget of requests", zap.Int64("limit_bytes", limit), zap.String("from", source))
	return budget.New(limit, p.Registry, budget.WithMaxWait(maxMemoryWait))
}

func newIndexCache(cfg Config, p *service.Process) (indexcache.Cache, int64, io.Closer, error) {
	c := indexcache.DefaultConfig()
	source := "--index-cache-size"
	if cfg.IndexCache.IsSet() {
		source = cfg.IndexCache.Source()
		text, err := cfg.IndexCache.Bytes()
		if err == nil {
			c, err = indexcache.ParseConfig(source, text)
		}
		if err != nil {
			return nil, 0, nil, err
		}
	} else {
		c.Backend.Memory.MaxSize = cache.ByteSize(cfg.IndexCacheBytes)
		c.Backend.Memory.MaxItemSize = min(c.Backend.Memory.MaxItemSize, c.Backend.Memory.MaxSize)
	}
	ic, closer, err := indexcache.New(c, p.Logger, p.Registry)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%s: %w", source, err)
	}
	return ic, c.Backend.MemoryBytes(), closer, nil
}

// maxRequestBytes bounds what one request holds of chunks however large the pool is: more
// makes nothing faster.
const maxRequestBytes = 64 << 20

func storeConfig(cfg Config) store.Config {
	l := cfg.Limits
	chunks := l.TouchedSamples / 120
	if l.TouchedSamples > 0 {
		chunks = max(chunks, 1)
	}
	return store.Config{
		Component:    component,
		MinTime:      func() int64 { return cfg.Sync.MinTime.Millis(time.Now()) },
		MaxTime:      func() int64 { return cfg.Sync.MaxTime.Millis(time.Now()) },
		Concurrency:  l.Concurrency,
		RequestBytes: min(cfg.ChunkPoolBytes/int64(l.Concurrency), maxRequestBytes), SlowClient: l.SlowClient,
		MaxSeries: l.TouchedSeries, MaxChunks: chunks, MaxBytes: uint64(l.DownloadedBytes),
	}
}

// closeBase lets the metadata that was read reach the disk, within a few seconds.
func closeBase(ctx context.Context, base *fetch.Base) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	base.Close(ctx)
}

func newSyncer(cfg Config, bkt objstore.InstrumentedBucket, base *fetch.Base, reader *rangeread.Bucket,
	indexCache indexcache.Cache, st *store.Store, counter *requests.Counter, p *service.Process,
) (*syncer.Syncer, error) {
	filters := []fetch.Filter{fetch.TimePartition(
		func(now time.Time) int64 { return cfg.Sync.MinTime.Millis(now) },
		func(now time.Time) int64 { return cfg.Sync.MaxTime.Millis(now) },
	)}
	if cfg.Sync.SelectorRelabel.IsSet() {
		text, err := cfg.Sync.SelectorRelabel.Bytes()
		if err != nil {
			return nil, err
		}
		rules, err := fetch.ParseRelabelShard(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.Sync.SelectorRelabel.Source(), err)
		}
		filters = append(filters, fetch.RelabelShard(rules))
	}
	partial := filters[:len(filters):len(filters)]
	filters = append(filters,
		fetch.ConsistencyDelay(cfg.Sync.ConsistencyDelay, p.Registry),
		fetch.IgnoreDeletionMark(cfg.Sync.DeletionDelay),
		fetch.Deduplicate(),
	)
	headers := indexheader.Config{
		Sampling: cfg.Headers.Sampling, Lazy: cfg.Headers.LazyReader, IdleTimeout: cfg.Headers.IdleTimeout,
	}
	if cfg.Headers.Cache {
		headers.Dir = cfg.DataDir
	}
	opener := indexheader.NewOpener(reader, headers, p.Logger.Named("indexheader"), indexheader.NewMetrics(p.Registry))
	return syncer.New(syncer.Config{
		Interval: cfg.Sync.Interval, Retry: retrySync, Concurrency: cfg.Sync.OpenConcurrency,
		OnDemand:  cfg.Headers.LazyReader && cfg.Headers.Download == downloadLazy,
		IdleCheck: idleCheck(cfg.Headers), Dir: headers.Dir, Read: cfg.Read, Partial: partial,
	}, syncer.Deps{
		Fetcher: base.NewFetcher(p.Registry, filters...), Bucket: reader, Opener: opener,
		Check: func(ctx context.Context) error { return objstore.CheckReachable(ctx, bkt) },
		Blocks: blockread.Deps{
			Bucket: reader, Opener: opener, Cache: indexCache,
		},
		Store: st, Requests: counter, Logger: p.Logger, Registerer: p.Registry,
	}), nil
}

func idleCheck(h HeaderConfig) time.Duration {
	if !h.LazyReader {
		return 0
	}
	return max(h.IdleTimeout/10, time.Millisecond)
}
