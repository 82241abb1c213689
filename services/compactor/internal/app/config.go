// Package app puts the compactor together: its configuration, its command, and the wiring of
// all other packages.
package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/services/compactor/internal/job"
	"github.com/promontory-io/promontory/services/compactor/internal/lease"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

const component = "compact"

// The values of --plan.format.
const (
	planText = "text"
	planJSON = "json"
)

// Config is all that can be said to the compactor from outside.
type Config struct {
	Common  service.Config
	Web     httpserver.WebConfig
	Bucket  flags.Content
	DataDir string

	// Wait makes the compactor go on for ever.
	Wait         bool
	WaitInterval time.Duration
	// PlanOnly prints the plan in PlanFormat and ends.
	PlanOnly   bool
	PlanFormat string

	Blocks    BlocksConfig
	Work      WorkConfig
	Retention RetentionConfig
	Viewer    ViewerConfig
	Lease     LeaseConfig
	// Accepted are settings without effect here.
	Accepted AcceptedConfig
}

// BlocksConfig is which blocks the compactor works with, and how it finds them.
type BlocksConfig struct {
	ConsistencyDelay     time.Duration
	Discovery            string
	MetaFetchConcurrency int
	MinTime, MaxTime     flags.When
	Relabel              flags.Content
}

// WorkConfig is how the work is done.
type WorkConfig struct {
	CompactConcurrency    int
	DownsampleConcurrency int
	DisableDownsampling   bool
	DedupFunc             string
	ReplicaLabels         []string
	Vertical              bool
	HashFunc              string
	MaxIndexBytes         int64
	MaxLevel              int
	ReadBuffer            int64
	ProgressInterval      time.Duration
}

// RetentionConfig is what is kept for how long.
type RetentionConfig struct {
	Raw, FiveMinutes, OneHour time.Duration
	Policies                  flags.Content
	DeleteDelay               time.Duration
	CleanupInterval           time.Duration
}

// ViewerConfig is the block viewer.
type ViewerConfig struct {
	Disable      bool
	Label        string
	SyncInterval time.Duration
	SyncTimeout  time.Duration
	DisableAdmin bool
}

// LeaseConfig is the guard against a second compactor.
type LeaseConfig struct {
	Disable bool
	Term    time.Duration
}

// AcceptedConfig holds values of flags that mean nothing to a compactor that streams and
// does not halt.
type AcceptedConfig struct {
	BlockFilesConcurrency  int
	BlocksFetchConcurrency int
	HaltOnError            bool
	MalformedIndex         bool
	SkipOutOfOrder         bool
}

// maxLevels is how many levels the ranges give.
func maxLevels() int { return len(plan.Ranges()) - 1 }

// DefaultConfig returns all defaults.
func DefaultConfig() Config {
	common := service.DefaultConfig(component)
	common.WithoutGRPC = true
	return Config{
		Common: common, DataDir: "./data", WaitInterval: 5 * time.Minute, PlanFormat: planText,
		Blocks: BlocksConfig{
			ConsistencyDelay: 30 * time.Minute, Discovery: string(fetch.Concurrent), MetaFetchConcurrency: 32,
			MinTime: flags.At(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
			MaxTime: flags.At(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
		},
		Work: WorkConfig{
			CompactConcurrency: 1, DownsampleConcurrency: 1, MaxIndexBytes: plan.DefaultMaxIndexBytes, MaxLevel: maxLevels(),
			ReadBuffer: job.DefaultReadBytes, ProgressInterval: 5 * time.Minute,
		},
		Retention: RetentionConfig{DeleteDelay: 48 * time.Hour, CleanupInterval: 5 * time.Minute},
		Viewer:    ViewerConfig{SyncInterval: time.Minute, SyncTimeout: 5 * time.Minute},
		Lease:     LeaseConfig{Term: lease.DefaultTerm},
		Accepted:  AcceptedConfig{BlockFilesConcurrency: 1, BlocksFetchConcurrency: 1, HaltOnError: true},
	}
}

// dedupFuncs are the names --deduplication.func takes; empty is 1:1.
func dedupFuncs() []string {
	known := slices.DeleteFunc(dedup.Funcs(), func(s string) bool { return s == string(dedup.Chain) })
	return append([]string{""}, known...)
}

// Dedup returns the function that merges overlapping chunks.
func (c *WorkConfig) Dedup() dedup.Func {
	if c.DedupFunc == "" {
		return dedup.Chain
	}
	return dedup.Func(c.DedupFunc)
}

// Rules returns the retention rules.
func (c *RetentionConfig) Rules() (retention.Rules, error) {
	r := retention.Rules{Default: retention.Keep{Raw: c.Raw, FiveMinutes: c.FiveMinutes, OneHour: c.OneHour}}
	if !c.Policies.IsSet() {
		return r, nil
	}
	var doc struct {
		Policies []retention.PolicyYAML `yaml:"policies"`
	}
	if err := c.Policies.Decode(&doc); err != nil {
		return r, err
	}
	var err error
	if r.Policies, err = retention.ParsePolicies(doc.Policies); err != nil {
		return r, fmt.Errorf("%s: %w", c.Policies.Source(), err)
	}
	return r, nil
}

// Validate returns all problems at once.
func (c *Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	w := &c.Work
	add(w.CompactConcurrency > 0, "--compact.concurrency: %d is not positive", w.CompactConcurrency)
	add(w.DownsampleConcurrency > 0, "--downsample.concurrency: %d is not positive", w.DownsampleConcurrency)
	add(c.Blocks.MetaFetchConcurrency > 0, "--block-meta-fetch-concurrency: %d is not positive", c.Blocks.MetaFetchConcurrency)
	add(c.Blocks.ConsistencyDelay >= 0, "--consistency-delay: %s is negative", c.Blocks.ConsistencyDelay)
	add(c.Retention.DeleteDelay >= 0, "--delete-delay: %s is negative", c.Retention.DeleteDelay)
	add(c.WaitInterval > 0, "--wait-interval: %s is not positive", c.WaitInterval)
	add(w.MaxLevel > 0 && w.MaxLevel <= maxLevels(), "--debug.max-compaction-level: %d is not between 1 and %d", w.MaxLevel, maxLevels())
	add(w.MaxIndexBytes > 0, "--compact.block-max-index-size: %d is not positive", w.MaxIndexBytes)
	add(w.ReadBuffer > 0, "--compact.read-buffer: %d is not positive", w.ReadBuffer)
	add(c.Lease.Term > 0, "--lease.term: %s is not positive", c.Lease.Term)
	add(!c.Wait || !c.PlanOnly, "--plan: cannot be used together with --wait")
	if now := time.Now(); c.Blocks.MinTime.Millis(now) > c.Blocks.MaxTime.Millis(now) {
		errs = append(errs, fmt.Errorf("--min-time: %s is after --max-time: %s", c.Blocks.MinTime, c.Blocks.MaxTime))
	}
	if w.DedupFunc != "" && len(w.ReplicaLabels) == 0 {
		errs = append(errs, fmt.Errorf("--deduplication.func: %s needs --deduplication.replica-label", w.DedupFunc))
	}
	if _, err := block.ParseHashFunc(w.HashFunc); err != nil {
		errs = append(errs, fmt.Errorf("--hash-func: %w", err))
	}
	if c.Web.PrefixHeader != "" && c.Web.ExternalPrefix != "" {
		errs = append(errs, errors.New("--web.prefix-header: cannot be used together with --web.external-prefix"))
	}
	rules, err := c.Retention.Rules()
	if err == nil {
		err = rules.Validate(!w.DisableDownsampling)
	}
	if err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// BindFlags gives names and help texts to all settings but the common ones.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Bucket", func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.Bucket, "objstore.config", "YAML that says where the bucket is.", flags.Required())
		flags.String(fs, &c.DataDir, "data-dir", "Folder for scratch files and cached metadata. It can be deleted while the compactor does not run.")
	})
	flags.Group(fs, "Blocks", c.Blocks.bind)
	flags.Group(fs, "Work", func(fs *pflag.FlagSet) {
		flags.Bool(fs, &c.Wait, "wait", "Go on when all is done, and wait for new work.")
		fs.Lookup("wait").Shorthand = "w"
		flags.Duration(fs, &c.WaitInterval, "wait-interval", "Time between two looks for new work.")
		flags.Bool(fs, &c.PlanOnly, "plan", "Print what would be done and what retention would mark, and end.")
		flags.Enum(fs, &c.PlanFormat, "plan.format", "How --plan prints: text for people, or the JSON of /api/v1/compactor/plan.", planText, planJSON)
		c.Work.bind(fs)
	})
	flags.Group(fs, "Retention", c.Retention.bind)
	flags.Group(fs, "Lease", func(fs *pflag.FlagSet) {
		flags.Bool(fs, &c.Lease.Disable, "lease.disable", "Do not guard against a second compactor on the same blocks.")
		flags.Duration(fs, &c.Lease.Term, "lease.term", "How long a compactor that does not answer keeps others out.")
	})
	flags.Group(fs, "Web", func(fs *pflag.FlagSet) {
		c.Web.BindRoutePrefix(fs)
		c.Web.BindFlags(fs)
		c.Viewer.bind(fs)
	})
	flags.Group(fs, "Accepted for compatibility", c.Accepted.bind)
}

func (b *BlocksConfig) bind(fs *pflag.FlagSet) {
	flags.Duration(fs, &b.ConsistencyDelay, "consistency-delay", "Age that a freshly uploaded block must have before it is worked with.")
	flags.Enum(fs, &b.Discovery, "block-discovery-strategy", "How blocks are found: concurrent lists the root and asks for each block, recursive lists all objects.",
		string(fetch.Concurrent), string(fetch.Recursive))
	flags.Int(fs, &b.MetaFetchConcurrency, "block-meta-fetch-concurrency", "How many meta.json files are read at once.")
	flags.Time(fs, &b.MinTime, "min-time", "Only blocks that reach behind this time are worked with: RFC 3339, or a duration relative to now.")
	flags.Time(fs, &b.MaxTime, "max-time", "Only blocks that begin before this time are worked with: RFC 3339, or a duration relative to now.")
	flags.BindContent(fs, &b.Relabel, "selector.relabel-config", "YAML with relabel rules over external labels that choose the blocks this compactor works with.")
}

func (c *WorkConfig) bind(fs *pflag.FlagSet) {
	flags.Int(fs, &c.CompactConcurrency, "compact.concurrency", "How many compactions run at once.")
	flags.Int(fs, &c.DownsampleConcurrency, "downsample.concurrency", "How many blocks are downsampled at once, besides those that compactions downsample in passing.")
	flags.Bool(fs, &c.DisableDownsampling, "downsampling.disable", "Do not downsample.")
	flags.Enum(fs, &c.DedupFunc, "deduplication.func", "How overlapping chunks are merged: empty for 1:1, where all samples stay, or a function that merges replicas: "+strings.Join(dedupFuncs()[1:], ", ")+".", dedupFuncs()...)
	flags.List(fs, &c.ReplicaLabels, "deduplication.replica-label", "External label that tells replicas apart. It is taken off, and blocks of replicas are merged. May be repeated or comma separated.")
	flags.Bool(fs, &c.Vertical, "compact.enable-vertical-compaction", "Merge blocks that overlap also without a replica label.")
	flags.Enum(fs, &c.HashFunc, "hash-func", "Checksum of files to be put into meta.json.", "", string(block.HashSHA256))
	flags.Bytes(fs, &c.MaxIndexBytes, "compact.block-max-index-size", "Size that no index may reach.")
	flags.Int(fs, &c.MaxLevel, "debug.max-compaction-level", "Level of the largest range: 1 is 2h, 2 is 8h, 3 is 2d, 4 is 14d.")
	flags.Bytes(fs, &c.ReadBuffer, "compact.read-buffer", "Memory for what is read ahead, of each job.")
	flags.Duration(fs, &c.ProgressInterval, "compact.progress-interval", "Time between calculations of what is left to do; 0 for none.")
	flags.Hide(fs, "compact.enable-vertical-compaction", "compact.block-max-index-size", "debug.max-compaction-level")
}

func (c *RetentionConfig) bind(fs *pflag.FlagSet) {
	flags.Duration(fs, &c.Raw, "retention.resolution-raw", "How long raw blocks are kept; 0 for ever.")
	flags.Duration(fs, &c.FiveMinutes, "retention.resolution-5m", "How long blocks of 5m resolution are kept; 0 for ever.")
	flags.Duration(fs, &c.OneHour, "retention.resolution-1h", "How long blocks of 1h resolution are kept; 0 for ever.")
	flags.BindContent(fs, &c.Policies, "retention.policies", "YAML with retentions for blocks chosen by a selector over external labels.")
	flags.Duration(fs, &c.DeleteDelay, "delete-delay", "How long a block stays after it was marked for deletion. Until then the mark can be taken off. 0 deletes at the next clean-up.")
	flags.Duration(fs, &c.CleanupInterval, "compact.cleanup-interval", "Time between clean-ups with --wait; 0 for none.")
}

func (v *ViewerConfig) bind(fs *pflag.FlagSet) {
	flags.Bool(fs, &v.Disable, "web.disable", "Do not serve the block viewer and its API.")
	flags.String(fs, &v.Label, "bucket-web-label", "External label that the block viewer groups blocks by.")
	flags.Duration(fs, &v.SyncInterval, "block-viewer.global.sync-block-interval", "Time between two looks at all blocks of the bucket for the block viewer.")
	flags.Duration(fs, &v.SyncTimeout, "block-viewer.global.sync-block-timeout", "Longest time such a look may take.")
	flags.Bool(fs, &v.DisableAdmin, "disable-admin-operations", "Do not let the API set or take off marks.")
}

func (a *AcceptedConfig) bind(fs *pflag.FlagSet) {
	const streams = "Has no effect: blocks are streamed, not downloaded."
	const goesOn = "Has no effect: this compactor does not halt, and saves what it can of broken blocks."
	flags.Int(fs, &a.BlockFilesConcurrency, "block-files-concurrency", streams)
	flags.Int(fs, &a.BlocksFetchConcurrency, "compact.blocks-fetch-concurrency", streams)
	flags.Bool(fs, &a.HaltOnError, "debug.halt-on-error", goesOn)
	flags.Bool(fs, &a.MalformedIndex, "debug.accept-malformed-index", goesOn)
	flags.Bool(fs, &a.SkipOutOfOrder, "compact.skip-block-with-out-of-order-chunks", goesOn)
	flags.Hide(fs, "debug.halt-on-error", "debug.accept-malformed-index", "compact.skip-block-with-out-of-order-chunks")
}
