// Package app puts the store gateway together: its configuration, its command, and the
// wiring of all other packages.
package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
)

// component is what a store gateway calls itself.
const component = "store"

// Words of --store.index-header-lazy-download-strategy.
const (
	downloadEager = "eager"
	downloadLazy  = "lazy"
)

// Config is all that can be said to the store gateway from outside.
type Config struct {
	Common service.Config
	Web    WebConfig
	Bucket flags.Content
	// Parquet is accepted for compatibility.
	Parquet flags.Content
	// CachingBucket says what of the bucket is cached, and where; unset: nothing.
	CachingBucket flags.Content

	// DataDir is where index headers and block metadata are kept.
	DataDir    string
	Headers    HeaderConfig
	IndexCache flags.Content
	// IndexCacheBytes sizes the index cache where IndexCache says nothing.
	IndexCacheBytes int64
	// ChunkPoolBytes bounds what BudgetBytes is when it is 0.
	ChunkPoolBytes int64
	// BudgetBytes is how much memory all requests may hold; 0 is a part of what the process may have.
	BudgetBytes int64
	// MatcherCache is accepted for compatibility.
	MatcherCache int
	Limits       LimitConfig
	Sync         SyncConfig
	Read         blockread.Config
}

// WebConfig is about the blocks API.
type WebConfig struct {
	httpserver.WebConfig
	// Disable leaves the blocks API out.
	Disable bool
	// Label is the external label that pages group blocks by.
	Label string
	// DisableAdmin is accepted for compatibility: there are no administrative calls.
	DisableAdmin bool
}

// HeaderConfig is how index headers are kept.
type HeaderConfig struct {
	// Cache keeps them on disk, else in memory.
	Cache bool
	// LazyReader opens them at their first use and closes them after IdleTimeout.
	LazyReader  bool
	IdleTimeout time.Duration
	// Download is downloadEager or downloadLazy: when they are made.
	Download string
	Sampling int
}

// LimitConfig bounds requests; 0 is no limit.
type LimitConfig struct {
	// RequestSeries and RequestSamples are about what is sent.
	RequestSeries, RequestSamples uint64
	// TouchedSeries, TouchedSamples and DownloadedBytes are about what is read.
	TouchedSeries, TouchedSamples uint64
	DownloadedBytes               int64
	// Concurrency is how many Series requests are answered at once.
	Concurrency int
	// SlowClient is how long a client may not read while other requests wait; 0 is as long as it likes.
	SlowClient time.Duration
}

// SyncConfig is which blocks are served, and how the bucket is followed.
type SyncConfig struct {
	Interval         time.Duration
	Strategy         string
	OpenConcurrency  int
	FetchConcurrency int
	MinTime, MaxTime flags.When
	SelectorRelabel  flags.Content
	ConsistencyDelay time.Duration
	DeletionDelay    time.Duration
}

// DefaultConfig returns all defaults.
func DefaultConfig() Config {
	return Config{
		Common:  service.DefaultConfig(component),
		DataDir: "./data",
		Headers: HeaderConfig{
			Cache: true, IdleTimeout: 5 * time.Minute, Download: downloadEager, Sampling: indexheader.DefaultSampling,
		},
		IndexCacheBytes: 250 << 20,
		ChunkPoolBytes:  2 << 30,
		Limits:          LimitConfig{Concurrency: 20, SlowClient: 30 * time.Second},
		Sync: SyncConfig{
			Interval: 15 * time.Minute, Strategy: string(fetch.Concurrent),
			OpenConcurrency: 20, FetchConcurrency: fetch.DefaultConcurrency,
			MinTime:       flags.At(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
			MaxTime:       flags.At(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
			DeletionDelay: 24 * time.Hour,
		},
		Read: blockread.DefaultConfig(),
	}
}

// Validate returns all problems at once; content of files is checked when it is loaded.
func (c *Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(c.DataDir != "", "--data-dir: it must not be empty")
	add(c.IndexCacheBytes >= 0, "--index-cache-size: %d is negative", c.IndexCacheBytes)
	add(c.BudgetBytes >= 0, "--store.memory-budget: %d is negative", c.BudgetBytes)
	add(c.Limits.SlowClient >= 0, "--store.slow-client-timeout: %s is negative", c.Limits.SlowClient)
	add(c.ChunkPoolBytes > 0, "--chunk-pool-size: %d is not positive", c.ChunkPoolBytes)
	add(c.Limits.Concurrency > 0, "--store.grpc.series-max-concurrency: %d is not positive", c.Limits.Concurrency)
	add(c.Limits.DownloadedBytes >= 0, "--store.grpc.downloaded-bytes-limit: %d is negative", c.Limits.DownloadedBytes)
	add(c.Sync.Interval > 0, "--sync-block-duration: %s is not positive", c.Sync.Interval)
	add(c.Sync.OpenConcurrency > 0, "--block-sync-concurrency: %d is not positive", c.Sync.OpenConcurrency)
	add(c.Sync.FetchConcurrency > 0, "--block-meta-fetch-concurrency: %d is not positive", c.Sync.FetchConcurrency)
	add(c.Sync.ConsistencyDelay >= 0, "--consistency-delay: %s is negative", c.Sync.ConsistencyDelay)
	add(c.Sync.DeletionDelay >= 0, "--ignore-deletion-marks-delay: %s is negative", c.Sync.DeletionDelay)
	add(c.Headers.Sampling > 0, "--store.index-header-posting-offsets-in-mem-sampling: %d is not positive", c.Headers.Sampling)
	add(c.Headers.IdleTimeout > 0, "--store.index-header-lazy-reader-idle-timeout: %s is not positive", c.Headers.IdleTimeout)
	add(c.Read.BatchSeries > 0, "--debug.series-batch-size: %d is not positive", c.Read.BatchSeries)
	add(c.Read.SeriesBytes > 0, "--debug.estimated-max-series-size: %d is not positive", c.Read.SeriesBytes)
	add(c.Read.ChunkBytes > 0, "--debug.estimated-max-chunk-size: %d is not positive", c.Read.ChunkBytes)
	add(c.Read.MaxKeyRatio >= 0, "--store.posting-group-max-key-series-ratio: %v is negative", c.Read.MaxKeyRatio)
	now := time.Now()
	add(c.Sync.MinTime.Millis(now) <= c.Sync.MaxTime.Millis(now), "--min-time: %s is after --max-time %s", c.Sync.MinTime, c.Sync.MaxTime)
	add(c.Web.PrefixHeader == "" || c.Web.ExternalPrefix == "", "--web.prefix-header: cannot be used together with --web.external-prefix")
	return errors.Join(errs...)
}
