package tenants

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/promontory-io/promontory/libs/block"
)

// Options are what all tenants have in common.
type Options struct {
	// Dir holds a folder for each tenant.
	Dir string
	// Labels are set on what is served and uploaded, over those of the hashring.
	Labels labels.Labels
	// TenantLabel holds the tenant.
	TenantLabel string

	BlockDuration     time.Duration
	MaxBlockDuration  time.Duration
	Retention         time.Duration
	MaxBytes          int64
	WALCompression    bool
	NoLockfile        bool
	MaxExemplars      int64
	OutOfOrderWindow  time.Duration
	OutOfOrderCapMax  int64
	TooFarInFuture    time.Duration // 0 for any time
	WriteQueueSize    int
	SnapshotOnStop    bool
	HashFunc          block.HashFunc
	UploadConcurrency int
	UploadOutOfOrder  bool
	SkipCorrupted     bool

	// OpenWait is how long a write waits for a TSDB that is about to open before it goes to the journal.
	OpenWait time.Duration
	// JournalBytes bounds the journal of a tenant.
	JournalBytes int64
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

// DefaultOptions returns what holds unless said otherwise.
func DefaultOptions() Options {
	return Options{
		Dir: "./data", TenantLabel: "tenant_id",
		BlockDuration: 2 * time.Hour, MaxBlockDuration: 2 * time.Hour,
		Retention: 15 * 24 * time.Hour, WALCompression: true,
		OpenWait: time.Second, JournalBytes: 1 << 30,
	}
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// newest is the latest time a sample may have.
func (o *Options) newest() int64 {
	if o.TooFarInFuture <= 0 {
		return math.MaxInt64
	}
	return o.now().Add(o.TooFarInFuture).UnixMilli()
}

// tsdb are the options of a tenant's TSDB.
func (o *Options) tsdb() *tsdb.Options {
	t := tsdb.DefaultOptions()
	t.MinBlockDuration = o.BlockDuration.Milliseconds()
	t.MaxBlockDuration = max(o.MaxBlockDuration, o.BlockDuration).Milliseconds()
	t.RetentionDuration = o.Retention.Milliseconds()
	t.MaxBytes = o.MaxBytes
	t.NoLockfile = o.NoLockfile
	if o.WALCompression {
		t.WALCompression = compression.Snappy
	}
	// Half of the default: each tenant pays for its stripes, 1.5 MB now, however few series it has.
	t.StripeSize = 1 << 13
	t.OutOfOrderTimeWindow = o.OutOfOrderWindow.Milliseconds()
	if o.OutOfOrderCapMax > 0 {
		t.OutOfOrderCapMax = o.OutOfOrderCapMax
	}
	// Merged blocks are not uploaded: overlapping ones are for the compactor to merge.
	t.EnableOverlappingCompaction = false
	t.EnableExemplarStorage = o.MaxExemplars > 0
	t.MaxExemplars = o.MaxExemplars
	t.HeadChunksWriteQueueSize = o.WriteQueueSize
	t.EnableMemorySnapshotOnShutdown = o.SnapshotOnStop
	return t
}
