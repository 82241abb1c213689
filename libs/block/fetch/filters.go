package fetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/block"
)

// TimePartition keeps blocks that reach into [minTime, maxTime], in Unix
// milliseconds. Both are asked at each sync, for limits relative to now.
func TimePartition(minTime, maxTime func(now time.Time) int64) Filter {
	return Filter{Name: "time partition", Decide: func(in Input) Output {
		var out Output
		lo, hi := minTime(in.Now), maxTime(in.Now)
		for id, m := range in.Metas {
			if m.MaxTime < lo || m.MinTime > hi {
				out.exclude(id, StateTimeExcluded)
			}
		}
		return out
	}}
}

// BlockIDLabel is the label that relabel rules of RelabelShard see a block's ULID in.
const BlockIDLabel = "__block_id"

// ParseRelabelShard reads the rules of --selector.relabel-config: a YAML list of
// relabel configurations, of which only the actions keep, drop and hashmod make sense.
func ParseRelabelShard(content []byte) ([]*relabel.Config, error) {
	var rules []*relabel.Config
	dec := yaml.NewDecoder(bytes.NewReader(content))
	dec.KnownFields(true)
	if err := dec.Decode(&rules); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse selector relabel configuration: %w", err)
	}
	var errs []error
	for i, r := range rules {
		if r == nil {
			errs = append(errs, fmt.Errorf("selector relabel rule %d is empty", i+1))
			continue
		}
		switch r.Action {
		case relabel.Keep, relabel.Drop, relabel.HashMod:
		default:
			errs = append(errs, fmt.Errorf("selector relabel rule %d: action %q is not supported, use keep, drop or hashmod", i+1, r.Action))
			continue
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			errs = append(errs, fmt.Errorf("selector relabel rule %d: %w", i+1, err))
		}
	}
	return rules, errors.Join(errs...)
}

// RelabelShard keeps blocks of whose external labels, with the ULID added as
// BlockIDLabel, the rules leave something. rules come from ParseRelabelShard.
func RelabelShard(rules []*relabel.Config) Filter {
	return Filter{Name: "relabel shard", Decide: func(in Input) Output {
		var out Output
		if len(rules) == 0 {
			return out
		}
		b := labels.NewBuilder(labels.EmptyLabels())
		for id, m := range in.Metas {
			b.Reset(labels.EmptyLabels())
			for name, value := range m.Thanos.Labels {
				b.Set(name, value)
			}
			b.Set(BlockIDLabel, id.String())
			if !relabel.ProcessBuilder(b, rules...) || b.Labels().IsEmpty() {
				out.exclude(id, StateLabelExcluded)
			}
		}
		return out
	}}
}

// ConsistencyDelay keeps blocks that were uploaded at least delay ago, so that
// eventually consistent stores and other components have come to agree on them.
// Blocks made from blocks in the bucket are let through at once: their data was there before.
// The delay is shown as thanos_consistency_delay_seconds; reg may be nil.
func ConsistencyDelay(delay time.Duration, reg prometheus.Registerer) Filter {
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "thanos_consistency_delay_seconds",
		Help: "Age a new block must have before it is taken into account.",
	}).Set(delay.Seconds())

	exempt := []block.Source{block.SourceBucketRepair, block.SourceCompactor, block.SourceCompactorRepair}
	return Filter{Name: "consistency delay", Decide: func(in Input) Output {
		var out Output
		for id, m := range in.Metas {
			if slices.Contains(exempt, m.Thanos.Source) {
				continue
			}
			if in.Now.Sub(m.CreationTime()) < delay {
				out.exclude(id, StateTooFresh)
			}
		}
		return out
	}}
}

// IgnoreDeletionMark leaves out blocks that were marked for deletion at least delay
// ago. Younger marks are honoured by nobody yet: the replacement may not be known everywhere.
func IgnoreDeletionMark(delay time.Duration) Filter {
	return Filter{Name: "ignore deletion mark", Needs: DeletionMarks, Decide: func(in Input) Output {
		var out Output
		for id := range in.Metas {
			if mark, ok := in.Marks.Deletion[id]; ok && in.Now.Sub(mark.Time()) >= delay {
				out.exclude(id, StateMarkedForDeletion)
			}
		}
		return out
	}}
}

// Deduplicate leaves out blocks whose data is in another block of the same
// resolution and external labels: all their compaction sources are among the other's.
// Of two with the same sources the smaller ULID stays.
func Deduplicate() Filter {
	return Filter{Name: "deduplicate", Decide: func(in Input) Output {
		groups := map[string][]*block.Meta{}
		for _, m := range in.Metas {
			key := m.GroupKey()
			groups[key] = append(groups[key], m)
		}
		var out Output
		for _, g := range groups {
			for _, id := range duplicates(g) {
				out.exclude(id, StateDuplicate)
			}
		}
		return out
	}}
}

// sourced is a block of a group with its distinct sources.
type sourced struct {
	id      ulid.ULID
	sources map[ulid.ULID]struct{}
}

func (a sourced) covers(b sourced) bool {
	for s := range b.sources {
		if _, ok := a.sources[s]; !ok {
			return false
		}
	}
	return true
}

// duplicates returns the blocks of one group that others cover. It asks only the
// blocks that share a source, so that a large group costs no more than its sources.
func duplicates(group []*block.Meta) []ulid.ULID {
	order := make([]sourced, len(group))
	for i, m := range group {
		order[i] = sourced{id: m.ULID, sources: sourcesOf(m)}
	}
	slices.SortFunc(order, func(a, b sourced) int {
		if d := len(b.sources) - len(a.sources); d != 0 {
			return d
		}
		return a.id.Compare(b.id)
	})
	kept := map[ulid.ULID][]sourced{}
	var out []ulid.ULID
	for _, b := range order {
		if slices.ContainsFunc(kept[anyOf(b.sources)], func(a sourced) bool { return a.covers(b) }) {
			out = append(out, b.id)
			continue
		}
		for s := range b.sources {
			kept[s] = append(kept[s], b)
		}
	}
	return out
}

// sourcesOf returns a block's compaction sources; one that names none is its own.
func sourcesOf(m *block.Meta) map[ulid.ULID]struct{} {
	if len(m.Compaction.Sources) == 0 {
		return map[ulid.ULID]struct{}{m.ULID: {}}
	}
	out := make(map[ulid.ULID]struct{}, len(m.Compaction.Sources))
	for _, s := range m.Compaction.Sources {
		out[s] = struct{}{}
	}
	return out
}

// anyOf returns one member of a set that is not empty.
func anyOf(set map[ulid.ULID]struct{}) ulid.ULID {
	for id := range set {
		return id
	}
	return ulid.ULID{}
}

// dedupedValue stands for the replica in blocks that had no other label.
const dedupedValue = "deduped"

// RemoveReplicaLabels takes replica labels off the metas, so that replicas fall into
// one group. A block that is left without labels gets the first replica label back,
// with the value "deduped".
func RemoveReplicaLabels(replicaLabels ...string) Filter {
	return Filter{Name: "remove replica labels", Decide: func(in Input) Output {
		out := Output{Replaced: map[ulid.ULID]*block.Meta{}, Modified: map[Modification]int{}}
		if len(replicaLabels) == 0 {
			return out
		}
		for id, m := range in.Metas {
			lset := maps.Clone(m.Thanos.Labels)
			for _, name := range replicaLabels {
				delete(lset, name)
			}
			if len(lset) > 0 && len(lset) == len(m.Thanos.Labels) {
				continue
			}
			if len(lset) == 0 {
				lset = map[string]string{replicaLabels[0]: dedupedValue}
			}
			// A copy of the head is enough: the rest is shared and not changed.
			c := *m
			c.Thanos.Labels = lset
			out.Replaced[id] = &c
			out.Modified[ModifiedReplicaLabelRemoved]++
		}
		return out
	}}
}

// GatherNoCompactMarks reads no-compact marks into Result.Marks; all blocks stay.
func GatherNoCompactMarks() Filter {
	return Filter{Name: "gather no-compact marks", Needs: NoCompactMarks, Decide: func(in Input) Output {
		return Output{Gathered: map[State]int{StateMarkedNoCompact: marked(in.Metas, in.Marks.NoCompact)}}
	}}
}

// GatherNoDownsampleMarks reads no-downsample marks into Result.Marks; all blocks stay.
func GatherNoDownsampleMarks() Filter {
	return Filter{Name: "gather no-downsample marks", Needs: NoDownsampleMarks, Decide: func(in Input) Output {
		return Output{Gathered: map[State]int{StateMarkedNoDownsample: marked(in.Metas, in.Marks.NoDownsample)}}
	}}
}

func marked[M any](metas map[ulid.ULID]*block.Meta, marks map[ulid.ULID]*M) int {
	n := 0
	for id := range metas {
		if _, ok := marks[id]; ok {
			n++
		}
	}
	return n
}

// ParquetMigrated leaves out blocks whose extensions say that parquet-aware stores
// serve their data.
func ParquetMigrated() Filter {
	return Filter{Name: "parquet migrated", Decide: func(in Input) Output {
		var out Output
		for id, m := range in.Metas {
			if isParquetMigrated(m.Thanos.Extensions) {
				out.exclude(id, StateParquetMigrated)
			}
		}
		return out
	}}
}

func isParquetMigrated(extensions json.RawMessage) bool {
	var ext struct {
		Migrated any `json:"parquet_migrated"`
	}
	// Extensions are free: what is no object, or another type, says nothing about parquet.
	if len(extensions) == 0 || json.Unmarshal(extensions, &ext) != nil {
		return false
	}
	migrated, ok := ext.Migrated.(bool)
	return ok && migrated
}
