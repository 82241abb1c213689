package block

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

const (
	// MetaVersion is the only version of meta.json there is.
	MetaVersion = 1
	// ThanosVersion is the only version of its "thanos" section; absent means 1.
	ThanosVersion = 1
)

// Source says what made a block.
type Source string

// The known sources. Readers must tolerate others.
const (
	SourceUnknown         Source = ""
	SourceSidecar         Source = "sidecar"
	SourceReceive         Source = "receive"
	SourceRuler           Source = "ruler"
	SourceCompactor       Source = "compactor"
	SourceCompactorRepair Source = "compactor.repair"
	SourceBucketRepair    Source = "bucket.repair"
	SourceBucketRewrite   Source = "bucket.rewrite"
	SourceBucketUpload    Source = "bucket.upload"
	SourceTest            Source = "test"
)

// Resolutions a block can have, in milliseconds between samples; raw is as scraped.
const (
	ResolutionRaw int64 = 0
	Resolution5m  int64 = 5 * 60 * 1000
	Resolution1h  int64 = 60 * 60 * 1000
)

// Meta is the content of meta.json: Prometheus' own section at the top and what
// object storage adds below "thanos". A Meta that came out of a fetcher is shared
// and must not be changed; Clone it first.
type Meta struct {
	tsdb.BlockMeta

	Thanos Thanos `json:"thanos"`

	// Unknown holds the members this version does not know, so that whoever writes
	// the block anew keeps them: raw JSON by the dotted path of the object they were
	// found in ("" is the top, e.g. "thanos.downsample") and by name. Nil if there are none.
	Unknown map[string]map[string]json.RawMessage `json:"-"`
}

// Thanos is the "thanos" section of meta.json.
type Thanos struct {
	// Version is ThanosVersion, or 0 where the writer left it out.
	Version int `json:"version,omitempty"`
	// Labels are the external labels. They identify the producer, replica included.
	Labels     map[string]string `json:"labels"`
	Downsample Downsample        `json:"downsample"`
	Source     Source            `json:"source"`
	// SegmentFiles are the base names in chunks/, sorted. Readers locate chunks by them.
	SegmentFiles []string `json:"segment_files,omitempty"`
	// Files lists the block's objects sorted by path, meta.json included (without a size).
	Files []File `json:"files,omitempty"`
	// Rewrites is the history of deletions and relabelings applied to the block.
	Rewrites   []Rewrite  `json:"rewrites,omitempty"`
	IndexStats IndexStats `json:"index_stats"`
	// Extensions is any JSON; nil where there is none.
	Extensions json.RawMessage `json:"extensions,omitempty"`
	// UploadTime is set just before meta.json is uploaded; zero for a block never uploaded.
	UploadTime time.Time `json:"upload_time"`
}

// Downsample tells a block's resolution.
type Downsample struct {
	// Resolution is ResolutionRaw, Resolution5m or Resolution1h, in milliseconds.
	Resolution int64 `json:"resolution"`
}

// File is one object of a block.
type File struct {
	// RelPath is relative to the block's folder, with forward slashes.
	RelPath   string `json:"rel_path"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
	Hash      *Hash  `json:"hash,omitempty"`
}

// Rewrite is one rewriting of a block.
type Rewrite struct {
	Sources          []ulid.ULID       `json:"sources,omitempty"`
	DeletionsApplied []DeletionRequest `json:"deletions_applied,omitempty"`
	// RelabelsApplied are relabel configurations as raw JSON, kept as they were written.
	RelabelsApplied []json.RawMessage `json:"relabels_applied,omitempty"`
}

// DeletionRequest is one deletion applied by a rewrite.
type DeletionRequest struct {
	// Matchers are kept as raw JSON, as they were written.
	Matchers  json.RawMessage      `json:"matchers"`
	Intervals tombstones.Intervals `json:"intervals,omitempty"`
	RequestID string               `json:"request_id,omitempty"`
}

// IndexStats let a reader size its range reads. A member is 0 where it is not known.
type IndexStats struct {
	// SeriesMaxSize is the size in bytes of the largest series entry of the index.
	SeriesMaxSize int64 `json:"series_max_size,omitempty"`
	// ChunkMaxSize is the size in bytes of the largest chunk, its frame and checksum included.
	ChunkMaxSize int64 `json:"chunk_max_size,omitempty"`
}

// ExternalLabels returns the external labels, sorted.
func (m *Meta) ExternalLabels() labels.Labels { return labels.FromMap(m.Thanos.Labels) }

// GroupKey identifies the blocks that may be compacted together: those of one
// resolution and one set of external labels. It names local work folders and metrics.
func (m *Meta) GroupKey() string {
	return strconv.FormatInt(m.Thanos.Downsample.Resolution, 10) + "@" + strconv.FormatUint(LabelsHash(m.Thanos.Labels), 10)
}

// Overlaps reports whether the block may hold samples in [mint, maxt], both inclusive.
func (m *Meta) Overlaps(mint, maxt int64) bool { return m.MinTime <= maxt && mint < m.MaxTime }

// CreationTime is when the block was uploaded or, where that is not recorded, made
// according to its ULID.
func (m *Meta) CreationTime() time.Time {
	if !m.Thanos.UploadTime.IsZero() {
		return m.Thanos.UploadTime
	}
	return ulid.Time(m.ULID.Time())
}

// Clone returns a copy that shares nothing the caller might change.
func (m *Meta) Clone() *Meta {
	c := *m
	c.Compaction.Sources = slices.Clone(m.Compaction.Sources)
	c.Compaction.Parents = slices.Clone(m.Compaction.Parents)
	c.Compaction.Hints = slices.Clone(m.Compaction.Hints)
	c.Thanos.Labels = maps.Clone(m.Thanos.Labels)
	c.Thanos.SegmentFiles = slices.Clone(m.Thanos.SegmentFiles)
	c.Thanos.Files = slices.Clone(m.Thanos.Files)
	for i, f := range c.Thanos.Files {
		if f.Hash != nil {
			h := *f.Hash
			c.Thanos.Files[i].Hash = &h
		}
	}
	c.Thanos.Rewrites = slices.Clone(m.Thanos.Rewrites)
	c.Thanos.Extensions = slices.Clone(m.Thanos.Extensions)
	if m.Unknown != nil {
		c.Unknown = make(map[string]map[string]json.RawMessage, len(m.Unknown))
		for path, members := range m.Unknown {
			c.Unknown[path] = maps.Clone(members)
		}
	}
	return &c
}

// String names the block the way log lines and errors do.
func (m *Meta) String() string {
	return fmt.Sprintf("%s [%d, %d) level %d resolution %d", m.ULID, m.MinTime, m.MaxTime, m.Compaction.Level, m.Thanos.Downsample.Resolution)
}

// LabelsHash is the hash of a label set that outlives processes and versions of
// Prometheus: xxhash64 over name, 0xff, value, 0xff of each label in the order of names.
func LabelsHash(lset map[string]string) uint64 {
	d := xxhash.New()
	sep := []byte{0xff}
	for _, name := range slices.Sorted(maps.Keys(lset)) {
		// Writing to a digest cannot fail.
		_, _ = d.WriteString(name)
		_, _ = d.Write(sep)
		_, _ = d.WriteString(lset[name])
		_, _ = d.Write(sep)
	}
	return d.Sum64()
}
