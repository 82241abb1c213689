package app

import (
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// BindFlags gives names and help texts to all settings but the common ones.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Bucket", c.bindBucket)
	flags.Group(fs, "Blocks", c.bindSync)
	flags.Group(fs, "Reading", c.bindRead)
	flags.Group(fs, "Limits", c.bindLimits)
	flags.Group(fs, "Web", c.bindWeb)
	bindRemoved(fs)
}

func (c *Config) bindBucket(fs *pflag.FlagSet) {
	flags.BindContent(fs, &c.Bucket, "objstore.config", "YAML that says where the bucket is.", flags.Required())
	flags.BindContent(fs, &c.Parquet, "objstore-parquet.config", "Accepted for compatibility: blocks that exist as parquet too are served from the TSDB blocks.")
	flags.BindContent(fs, &c.CachingBucket, "store.caching-bucket.config", "YAML that says where parts of chunk files and small objects of the bucket are cached.")
	flags.Hide(fs, "store.caching-bucket.config", "store.caching-bucket.config-file")
	flags.String(fs, &c.DataDir, "data-dir", "Folder for index headers and block metadata. What is in it can be made anew from the bucket.")
}

func (c *Config) bindSync(fs *pflag.FlagSet) {
	s := &c.Sync
	flags.Duration(fs, &s.Interval, "sync-block-duration", "How often the bucket is looked through for new and deleted blocks.")
	flags.Enum(fs, &s.Strategy, "block-discovery-strategy", "How blocks are found: by listing the root and asking for each block, or by listing everything.",
		string(fetch.Concurrent), string(fetch.Recursive))
	flags.Int(fs, &s.OpenConcurrency, "block-sync-concurrency", "How many blocks are opened at once.")
	flags.Int(fs, &s.FetchConcurrency, "block-meta-fetch-concurrency", "How many metadata files are read at once.")
	flags.Time(fs, &s.MinTime, "min-time", "Serve nothing before this time: RFC 3339, or a duration relative to now.")
	flags.Time(fs, &s.MaxTime, "max-time", "Serve nothing after this time: RFC 3339, or a duration relative to now.")
	flags.BindContent(fs, &s.SelectorRelabel, "selector.relabel-config", "YAML with relabel rules that pick the blocks to serve, by their external labels and __block_id; actions keep, drop and hashmod.")
	flags.Duration(fs, &s.ConsistencyDelay, "consistency-delay", "Age at which new blocks are served; those made from other blocks are served at once.")
	flags.Duration(fs, &s.DeletionDelay, "ignore-deletion-marks-delay", "How long blocks are still served after they were marked for deletion. It should be shorter than the delay with which the compactor deletes them.")
}

func (c *Config) bindRead(fs *pflag.FlagSet) {
	h := &c.Headers
	flags.Bool(fs, &h.Cache, "cache-index-header", "Keep index headers on disk, below --data-dir; otherwise they are held in memory.")
	flags.Bytes(fs, &c.IndexCacheBytes, "index-cache-size", "Size of the index cache in memory; 0 for none. Has no effect with --index-cache.config.")
	flags.BindContent(fs, &c.IndexCache, "index-cache.config", "YAML that says where parts of indexes are cached.")
	flags.Bytes(fs, &c.ChunkPoolBytes, "chunk-pool-size", "How many bytes all requests together may hold at most, unless --store.memory-budget says it.")
	flags.Int(fs, &c.MatcherCache, "matcher-cache-size", "Accepted for compatibility: matchers are not cached.")
	flags.Bool(fs, &h.LazyReader, "store.enable-index-header-lazy-reader", "Open index headers at their first use and close them when they are idle.")
	flags.Duration(fs, &h.IdleTimeout, "store.index-header-lazy-reader-idle-timeout", "How long an index header opened at its first use stays open without use.")
	flags.Enum(fs, &h.Download, "store.index-header-lazy-download-strategy", "When index headers are made from the bucket: all at start, or each at its first use. The latter needs --store.enable-index-header-lazy-reader.",
		downloadEager, downloadLazy)
	flags.Int(fs, &h.Sampling, "store.index-header-posting-offsets-in-mem-sampling", "How many values of a label share one place in memory.")
	flags.Bool(fs, &c.Read.LazyPostings, "store.enable-lazy-expanded-postings", "Check matchers with large postings on the series that the others select.")
	flags.Float64(fs, &c.Read.MaxKeyRatio, "store.posting-group-max-key-series-ratio", "Also check a matcher on the series when it needs more than so many lists for each series selected; 0 for any number. Needs --store.enable-lazy-expanded-postings.")
	flags.Int(fs, &c.Read.BatchSeries, "debug.series-batch-size", "How many series of a block are read at once.")
	flags.Int64(fs, &c.Read.SeriesBytes, "debug.estimated-max-series-size", "Size of a series entry in blocks that do not say, in bytes.")
	flags.Int64(fs, &c.Read.ChunkBytes, "debug.estimated-max-chunk-size", "Size of a chunk in blocks that do not say, in bytes.")
	flags.Hide(fs, "store.index-header-lazy-reader-idle-timeout", "store.index-header-posting-offsets-in-mem-sampling",
		"debug.series-batch-size", "debug.estimated-max-series-size", "debug.estimated-max-chunk-size")
}

func (c *Config) bindLimits(fs *pflag.FlagSet) {
	l := &c.Limits
	flags.Uint64(fs, &l.RequestSeries, "store.limits.request-series", "How many series one Series call may be sent; 0 for any number.")
	flags.Uint64(fs, &l.RequestSamples, "store.limits.request-samples", "How many samples one Series call may be sent, a chunk counted as 120; 0 for any number.")
	flags.Uint64(fs, &l.TouchedSeries, "store.grpc.touched-series-limit", "How many series one call may read, over all blocks; 0 for any number.")
	flags.Uint64(fs, &l.TouchedSamples, "store.grpc.series-sample-limit", "How many samples one Series call may read, over all blocks, a chunk counted as 120; 0 for any number.")
	flags.Bytes(fs, &l.DownloadedBytes, "store.grpc.downloaded-bytes-limit", "How many bytes one call may read from the bucket or the cache; 0 for any number.")
	flags.Int(fs, &l.Concurrency, "store.grpc.series-max-concurrency", "How many Series calls are answered at once; further ones wait. Calls that find few series have as many places of their own.")
	flags.Bytes(fs, &c.BudgetBytes, "store.memory-budget", "How many bytes all requests together may hold. Requests wait for it, do with less, or are refused with the numbers. 0 for half of what the memory limit of the process leaves besides the caches, but no more than --chunk-pool-size.")
	flags.Duration(fs, &l.SlowClient, "store.slow-client-timeout", "How long a client may not read what it asked for while other requests wait, before its request is ended; 0 for as long as it likes.")
	flags.Deprecate(fs, "store.grpc.touched-series-limit", "use --store.limits.request-series")
	flags.Deprecate(fs, "store.grpc.series-sample-limit", "use --store.limits.request-samples")
}

func (c *Config) bindWeb(fs *pflag.FlagSet) {
	c.Web.BindFlags(fs)
	flags.Bool(fs, &c.Web.Disable, "web.disable", "Leave out the blocks API.")
	flags.String(fs, &c.Web.Label, "bucket-web-label", "External label that pages group blocks by.")
	flags.Bool(fs, &c.Web.DisableAdmin, "disable-admin-operations", "Accepted for compatibility: there are no administrative calls.")
}
