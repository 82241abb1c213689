package block

import "github.com/oklog/ulid/v2"

// Coverage knows which compaction sources the downsampled blocks of a bucket hold, by set of external labels and
// resolution. Make it with NewCoverage. Reading is safe for concurrent use.
type Coverage map[coverKey]map[ulid.ULID]bool

type coverKey struct {
	labels     uint64
	resolution int64
}

// NewCoverage returns a Coverage of no block.
func NewCoverage() Coverage { return Coverage{} }

// Add takes a block in; a raw one makes no difference.
func (c Coverage) Add(m *Meta) {
	if m.Thanos.Downsample.Resolution == ResolutionRaw {
		return
	}
	k := coverKey{LabelsHash(m.Thanos.Labels), m.Thanos.Downsample.Resolution}
	if c[k] == nil {
		c[k] = map[ulid.ULID]bool{}
	}
	for _, s := range m.Sources() {
		c[k][s] = true
	}
}

// Has reports whether all sources of m exist at the resolution.
func (c Coverage) Has(m *Meta, resolution int64) bool {
	known := c[coverKey{LabelsHash(m.Thanos.Labels), resolution}]
	for _, s := range m.Sources() {
		if !known[s] {
			return false
		}
	}
	return true
}

// Sources returns the compaction sources; a block that names none is its own. The result is not to be changed.
func (m *Meta) Sources() []ulid.ULID {
	if len(m.Compaction.Sources) == 0 {
		return []ulid.ULID{m.ULID}
	}
	return m.Compaction.Sources
}
