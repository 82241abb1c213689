package merge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// cursor stands on one series of one source.
type cursor struct {
	n       int // of the source
	src     *read.Source
	refs    refs
	deleted tombstones.Reader

	series  read.Series
	lset    []uint32 // symbol numbers of the current series
	prev    []uint32
	done    bool
	sorted  []saved // in salvage: all series, in order
	salvage *Loss
}

// saved is a series kept in memory.
type saved struct {
	series read.Series
	lset   []uint32
}

// next moves to the next series.
func (c *cursor) next(ctx context.Context) error {
	if c.sorted != nil {
		return c.nextSaved()
	}
	c.prev, c.lset = c.lset, c.prev
	err := c.src.Next(ctx, &c.series)
	if errors.Is(err, io.EOF) {
		c.done = true
		return nil
	}
	if err != nil {
		return err
	}
	if c.lset, err = c.translate(c.lset[:0]); err != nil {
		return err
	}
	if len(c.prev) > 0 && slices.Compare(c.prev, c.lset) >= 0 {
		return &read.CorruptError{Block: c.src.ID(), Object: "index", Offset: -1, Err: read.ErrUnsorted}
	}
	return nil
}

func (c *cursor) translate(dst []uint32) ([]uint32, error) {
	for _, ref := range c.series.Labels {
		id, ok := c.refs.of(ref)
		if !ok {
			return dst, &read.CorruptError{Block: c.src.ID(), Object: "index", Offset: -1, Err: fmt.Errorf("series has symbol %d, which does not exist", ref)}
		}
		dst = append(dst, id)
	}
	return dst, nil
}

func (c *cursor) nextSaved() error {
	if len(c.sorted) == 0 {
		c.done = true
		return nil
	}
	s := c.sorted[0]
	c.sorted = c.sorted[1:]
	if len(c.sorted) == 0 {
		c.sorted = []saved{}
	}
	c.series, c.lset = s.series, s.lset
	return nil
}

// loadAll reads all series that can be read, whatever their order, and sorts them. It
// is for salvage, where an index cannot be trusted to be in order; memory is that of
// the series section.
func (c *cursor) loadAll(ctx context.Context) error {
	c.sorted = []saved{}
	for {
		err := c.src.Next(ctx, &c.series)
		if errors.Is(err, io.EOF) {
			break
		}
		var lset []uint32
		if err == nil {
			lset, err = c.translate(nil)
		}
		if err == nil {
			s := c.series
			c.sorted = append(c.sorted, saved{series: s, lset: lset})
			c.series = read.Series{}
			continue
		}
		if _, ok := read.AsCorrupt(err); !ok {
			return err
		}
		c.salvage.addIndex(err)
		if _, err = c.src.Resync(ctx); errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(c.sorted, func(a, b saved) int { return slices.Compare(a.lset, b.lset) })
	return nil
}

// intervals returns what tombstones delete of the current series.
func (c *cursor) intervals() (tombstones.Intervals, error) {
	if c.deleted == nil {
		return nil, nil
	}
	return c.deleted.Get(storage.SeriesRef(c.series.Ref))
}

// heap orders cursors by their series, then by source.
type heap []*cursor

func (h heap) less(i, j int) bool {
	if d := slices.Compare(h[i].lset, h[j].lset); d != 0 {
		return d < 0
	}
	return h[i].n < h[j].n
}

// down restores the order below i.
func (h heap) down(i int) {
	for {
		m := 2*i + 1
		if m >= len(h) {
			return
		}
		if r := m + 1; r < len(h) && h.less(r, m) {
			m = r
		}
		if !h.less(m, i) {
			return
		}
		h[i], h[m] = h[m], h[i]
		i = m
	}
}

func (h heap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}
