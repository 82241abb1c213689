package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/block"
)

// health is what is wrong with a block's index, as counts.
type health struct {
	// Series with labels that are not sorted, and series that do not come after the one before.
	unsortedLabels, unsortedSeries int
	// Chunks that overlap the one before; that repeat it; that lie wholly or partly outside of the block's time; whose
	// end is before their begin; and that point to where no data is.
	overlapping, repeated, outside, reaching, reversed, dangling int
	series, chunks                                               uint64
	// broken says that reading ended early.
	broken error
	// miscounted says that meta.json gives other numbers.
	miscounted string
}

// problem is empty for a healthy index.
func (h *health) problem() string {
	var parts []string
	for _, c := range []struct {
		n    int
		noun string
	}{
		{h.unsortedLabels, "series with unsorted labels"},
		{h.unsortedSeries, "series out of order"},
		{h.overlapping, "chunks that overlap or come before the one ahead of them"},
		{h.repeated, "repeated chunks"},
		{h.outside, "chunks outside of the block's time"},
		{h.reaching, "chunks that reach out of the block's time"},
		{h.reversed, "chunks that end before they begin"},
		{h.dangling, "chunks that point to where no data is"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.noun))
		}
	}
	if h.broken != nil {
		parts = append(parts, "unreadable: "+h.broken.Error())
	}
	if h.miscounted != "" {
		parts = append(parts, h.miscounted)
	}
	return strings.Join(parts, "; ")
}

// incurable returns why leaving out chunks does not mend the index, empty if it does.
func (h *health) incurable() string {
	switch {
	case h.broken != nil:
		return "the index cannot be read to its end"
	case h.dangling > 0:
		return "chunk data is missing"
	case h.unsortedLabels+h.unsortedSeries > 0:
		return "series are out of order"
	case h.overlapping+h.reversed+h.reaching > 0:
		return "samples would have to be merged or cut"
	case h.repeated+h.outside == 0:
		return "only the numbers in meta.json are wrong"
	}
	return ""
}

// verdict is what is to be done with a chunk.
type verdict uint8

const (
	keep verdict = iota
	repeated
	outside
	other // wrong in a way that leaving it out does not mend
)

// judge says what is wrong with chunk c of a block, prev being the last one kept of the series, nil at first.
func (h *health) judge(m *block.Meta, prev *chunks.Meta, c chunks.Meta) verdict {
	switch {
	case c.MinTime > c.MaxTime:
		h.reversed++
		return other
	case c.MinTime >= m.MaxTime || c.MaxTime < m.MinTime:
		h.outside++
		return outside
	case prev != nil && prev.MinTime == c.MinTime && prev.MaxTime == c.MaxTime:
		h.repeated++
		return repeated
	case c.MinTime < m.MinTime || c.MaxTime > m.MaxTime:
		h.reaching++
		return other
	case prev != nil && c.MinTime <= prev.MaxTime:
		h.overlapping++
		return other
	}
	return keep
}

// checkIndex reads a whole index, whose block has the given objects.
func checkIndex(ctx context.Context, path string, m *block.Meta, objects map[string]int64) (h health) {
	r, err := index.NewFileReader(path, index.DecodePostingsRaw)
	if err != nil {
		h.broken = err
		return h
	}
	defer func() { h.broken = errors.Join(h.broken, r.Close()) }()
	h.broken = eachSeries(ctx, r, func(s indexed) error {
		h.series++
		h.chunks += uint64(len(s.chunks))
		h.labels(s.prev, s.lset)
		var last *chunks.Meta
		for i := range s.chunks {
			h.place(s.chunks[i].Ref, objects)
			if v := h.judge(m, last, s.chunks[i]); v == keep || v == other {
				last = &s.chunks[i]
			}
		}
		return nil
	})
	if h.broken == nil && (h.series != m.Stats.NumSeries || h.chunks != m.Stats.NumChunks) {
		h.miscounted = fmt.Sprintf("meta.json counts %d series and %d chunks, the index has %d and %d", m.Stats.NumSeries, m.Stats.NumChunks, h.series, h.chunks)
	}
	return h
}

// labels checks the label set of one series, prev being that of the one before.
func (h *health) labels(prev, lset labels.Labels) {
	name := ""
	sorted := lset.Len() > 0
	lset.Range(func(l labels.Label) {
		sorted = sorted && l.Name > name
		name = l.Name
	})
	if !sorted {
		h.unsortedLabels++
	}
	if prev.Len() > 0 && labels.Compare(prev, lset) >= 0 {
		h.unsortedSeries++
	}
}

// place checks that a chunk reference points into a segment.
func (h *health) place(ref chunks.ChunkRef, objects map[string]int64) {
	segment, offset := chunks.BlockChunkRef(ref).Unpack()
	size, there := objects[block.ChunksDirname+"/"+segmentName(segment)]
	if !there || int64(offset) < chunks.SegmentHeaderSize || int64(offset) >= size {
		h.dangling++
	}
}

func segmentName(i int) string {
	n := strconv.Itoa(i + 1)
	return strings.Repeat("0", max(0, 6-len(n))) + n
}

// indexed is one series of an index.
type indexed struct {
	ref storage.SeriesRef
	// lset are its labels, prev those of the series before.
	lset, prev labels.Labels
	// chunks are overwritten by the next series.
	chunks []chunks.Meta
}

// eachSeries calls f for the series of an index in its order. Damage in the index is an error, also where the reader
// panics over it.
func eachSeries(ctx context.Context, r *index.Reader, f func(indexed) error) (err error) {
	defer func() {
		// The reader trusts offsets once their checksum is right; what it trips over is the block's damage, not a bug here.
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", block.ErrCorrupt, p)
		}
	}()
	name, value := index.AllPostingsKey()
	postings, err := r.Postings(ctx, name, value)
	if err != nil {
		return err
	}
	var builder labels.ScratchBuilder
	var chks []chunks.Meta
	prev := labels.EmptyLabels()
	for postings.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.Series(postings.At(), &builder, &chks); err != nil {
			return fmt.Errorf("series at %d: %w", postings.At(), err)
		}
		// Not sorted first: whether it is, is one of the questions. Symbols lie in the mapped file, so labels are copied.
		lset := builder.Labels()
		if err := f(indexed{postings.At(), lset, prev, chks}); err != nil {
			return err
		}
		prev = lset
	}
	return postings.Err()
}

// fetchIndexHealth downloads a block's index into a scratch folder and checks it.
func (e *env) fetchIndexHealth(ctx context.Context, m *block.Meta, objects map[string]int64) (h health, err error) {
	dir, err := os.MkdirTemp("", "promontory-verify-")
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, block.IndexFilename)
	if err := download(ctx, e.bkt, block.ObjectName(m.ULID, block.IndexFilename), path); err != nil {
		return h, fmt.Errorf("read the index of block %s: %w", m.ULID, err)
	}
	h = checkIndex(ctx, path, m, objects)
	return h, ctx.Err()
}
