package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
)

// survey is what an index says that changes would do.
type survey struct {
	deleted, cut, relabelled int
	// series are those of the new block, in its order.
	series  []surveyed
	symbols map[string]struct{}
	log     strings.Builder
}

// surveyed is one series of a new block.
type surveyed struct {
	lset labels.Labels
	// from is the place of the series in the old index.
	from storage.SeriesRef
	gone tombstones.Intervals
}

func (s *survey) changes() bool { return s.deleted+s.cut+s.relabelled > 0 }

func (s *survey) String() string {
	return fmt.Sprintf("%d series deleted, %d without some of their time, %d relabelled, %d in the new block", s.deleted, s.cut, s.relabelled, len(s.series))
}

// survey goes through the index at path.
func (c *changes) survey(ctx context.Context, path string) (s *survey, err error) {
	r, err := index.NewFileReader(path, index.DecodePostingsRaw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	s = &survey{symbols: map[string]struct{}{"": {}}}
	err = eachSeries(ctx, r, func(x indexed) error {
		s.see(c, x)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.series, func(a, b surveyed) int { return labels.Compare(a.lset, b.lset) })
	return s, nil
}

// see decides about one series. Strings lie in the mapped file, and are copied where they are kept.
func (s *survey) see(c *changes, x indexed) {
	lset, chks := x.lset, x.chunks
	next, gone := c.decide(lset)
	var within tombstones.Intervals
	for _, v := range gone {
		if slices.ContainsFunc(chks, func(m chunks.Meta) bool { return m.OverlapsClosedInterval(v.Mint, v.Maxt) }) {
			within = append(within, v)
		}
	}
	all := len(chks) > 0 && !slices.ContainsFunc(chks, func(m chunks.Meta) bool {
		return !(tombstones.Interval{Mint: m.MinTime, Maxt: m.MaxTime}).IsSubrange(within)
	})
	if next.IsEmpty() || all {
		s.deleted++
		fmt.Fprintf(&s.log, "deleted %s\n", lset)
		return
	}
	if len(within) > 0 {
		s.cut++
		fmt.Fprintf(&s.log, "deleted %v of %s\n", within, lset)
	}
	if !labels.Equal(next, lset) {
		s.relabelled++
		fmt.Fprintf(&s.log, "relabelled %s to %s\n", lset, next)
	}
	kept := next.Copy()
	var builder labels.ScratchBuilder
	kept.Range(func(l labels.Label) {
		n, v := strings.Clone(l.Name), strings.Clone(l.Value)
		s.symbols[n], s.symbols[v] = struct{}{}, struct{}{}
		builder.Add(n, v)
	})
	s.series = append(s.series, surveyed{builder.Labels(), x.ref, within})
}

// write makes the block that s describes, in the folder made, of the block old.
func (c *changes) write(ctx context.Context, old *localBlock, made string, m *block.Meta, s *survey, stats *tsdb.BlockStats) (err error) {
	w, err := newBlockWriter(ctx, made, index.NewStringListIter(slices.Sorted(maps.Keys(s.symbols))), stats)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for i := 0; i < len(s.series); {
		if err := ctx.Err(); err != nil {
			return err
		}
		same := i + 1
		for same < len(s.series) && labels.Equal(s.series[same].lset, s.series[i].lset) {
			same++
		}
		kept, err := gather(old, s.series[i:same], m.Thanos.Downsample.Resolution)
		if err == nil {
			err = w.add(s.series[i].lset, kept)
		}
		if err != nil {
			return fmt.Errorf("series %s: %w", s.series[i].lset, err)
		}
		i = same
	}
	return nil
}

// gather returns the chunks of series that become one, in the order of time.
func gather(old *localBlock, from []surveyed, resolution int64) ([]chunks.Meta, error) {
	var kept []chunks.Meta
	for _, f := range from {
		var builder labels.ScratchBuilder
		var chks []chunks.Meta
		if err := old.index.Series(f.from, &builder, &chks); err != nil {
			return nil, err
		}
		for _, c := range chks {
			var err error
			if c.Chunk, err = old.chunk(c); err != nil {
				return nil, err
			}
			left, err := cut(c, f.gone, resolution)
			if err != nil {
				return nil, fmt.Errorf("chunk from %s to %s: %w", utc(c.MinTime), utc(c.MaxTime), err)
			}
			kept = append(kept, left...)
		}
	}
	slices.SortStableFunc(kept, func(a, b chunks.Meta) int {
		return int(min(1, max(-1, a.MinTime-b.MinTime)))
	})
	for i := 1; i < len(kept) && len(from) > 1; i++ {
		if kept[i].MinTime <= kept[i-1].MaxTime {
			return nil, fmt.Errorf("relabelling makes %d series into this one, and they share the time from %s: one would be lost", len(from), utc(kept[i].MinTime))
		}
	}
	return kept, nil
}

// cut returns what is left of a chunk without the times that are to go: as it is where it has none of them.
func cut(c chunks.Meta, gone tombstones.Intervals, resolution int64) ([]chunks.Meta, error) {
	if !slices.ContainsFunc(gone, func(v tombstones.Interval) bool { return c.OverlapsClosedInterval(v.Mint, v.Maxt) }) {
		return []chunks.Meta{c}, nil
	}
	if (tombstones.Interval{Mint: c.MinTime, Maxt: c.MaxTime}).IsSubrange(gone) {
		return nil, nil
	}
	if aggregates, ok := c.Chunk.(*downsample.Chunk); ok {
		return cutAggregates(aggregates, gone, resolution)
	}
	series := &storage.SeriesEntry{SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return &tsdb.DeletedIterator{Iter: c.Chunk.Iterator(nil), Intervals: gone}
	}}
	var out []chunks.Meta
	it := storage.NewSeriesToChunkEncoder(series).Iterator(nil)
	for it.Next() {
		out = append(out, it.At())
	}
	return out, it.Err()
}
