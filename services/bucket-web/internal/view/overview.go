package view

import (
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blockapi"
)

// Flags of a row.
const (
	FlagDeletion = 1 << iota
	FlagNoCompact
	FlagNoDownsample
	FlagCompactionFailed
	FlagTombstones
)

// Overview is a state small enough to send tens of thousands of blocks to a browser: label sets and sources are told
// once, and a block is a row of figures in the order of Columns.
type Overview struct {
	Label       string     `json:"label"`
	RefreshedAt time.Time  `json:"refreshedAt"`
	TriedAt     time.Time  `json:"triedAt"`
	Err         *string    `json:"err"`
	Admin       bool       `json:"admin"`
	Compactor   bool       `json:"compactor"`
	Columns     []string   `json:"columns"`
	Groups      []Group    `json:"groups"`
	Sources     []string   `json:"sources"`
	Blocks      []Row      `json:"blocks"`
	Marked      []Marked   `json:"marked"`
	Unusable    []Unusable `json:"unusable"`
}

// Group is a set of external labels.
type Group struct {
	Labels map[string]string `json:"labels"`
}

// Marked is a block with marks.
type Marked struct {
	ID ulid.ULID `json:"ulid"`
	blockapi.Marks
}

// Unusable is a block that cannot be used.
type Unusable struct {
	ID     ulid.ULID `json:"ulid"`
	Reason string    `json:"reason"`
}

// Row is one block: ULID and twelve figures.
type Row [13]any

func columns() []string {
	return []string{
		"ulid", "group", "minTime", "maxTime", "resolution", "level", "bytes", "series", "samples", "chunks", "source", "flags", "uploaded",
	}
}

// OverviewOf makes the overview of a state.
func OverviewOf(s State) Overview {
	out := Overview{
		RefreshedAt: s.Refreshed, TriedAt: s.Tried, Columns: columns(), Groups: []Group{}, Sources: []string{},
		Blocks: make([]Row, 0, len(s.Blocks)), Marked: []Marked{}, Unusable: []Unusable{},
	}
	if s.Err != nil {
		text := s.Err.Error()
		out.Err = &text
	}
	groups, sources := map[uint64]int{}, map[block.Source]int{}
	for _, m := range s.Blocks {
		hash := block.LabelsHash(m.Thanos.Labels)
		group, ok := groups[hash]
		if !ok {
			group = len(out.Groups)
			groups[hash] = group
			out.Groups = append(out.Groups, Group{Labels: m.Thanos.Labels})
		}
		source, ok := sources[m.Thanos.Source]
		if !ok {
			source = len(out.Sources)
			sources[m.Thanos.Source] = source
			out.Sources = append(out.Sources, string(m.Thanos.Source))
		}
		marks := s.Marks[m.ULID]
		out.Blocks = append(out.Blocks, Row{
			m.ULID, group, m.MinTime, m.MaxTime, m.Thanos.Downsample.Resolution, m.Compaction.Level, Size(m),
			m.Stats.NumSeries, m.Stats.NumSamples, m.Stats.NumChunks, source, flagsOf(m, marks), m.CreationTime().UnixMilli(),
		})
		if !marks.Empty() {
			out.Marked = append(out.Marked, Marked{ID: m.ULID, Marks: marks})
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.Unusable), ulid.ULID.Compare) {
		out.Unusable = append(out.Unusable, Unusable{ID: id, Reason: s.Unusable[id].Error()})
	}
	return out
}

// Size is the size of a block in bytes as far as its meta.json tells; 0 where it does not.
func Size(m *block.Meta) int64 {
	var n int64
	for _, f := range m.Thanos.Files {
		n += f.SizeBytes
	}
	return n
}

func flagsOf(m *block.Meta, marks blockapi.Marks) int {
	n := 0
	for flag, on := range map[int]bool{
		FlagDeletion: marks.Deletion != nil, FlagNoCompact: marks.NoCompact != nil, FlagNoDownsample: marks.NoDownsample != nil,
		FlagCompactionFailed: m.Compaction.Failed, FlagTombstones: m.Stats.NumTombstones > 0,
	} {
		if on {
			n |= flag
		}
	}
	return n
}
