// Package cardinality tells how many series and label values a block has, and which metrics and labels
// make them, from one part of its index: the table of postings offsets.
//
// The table names each label pair and says where its list of series begins. Lists lie one behind the other, each with a
// head and a checksum of known size, so that the distance to the next list tells how many series a pair has; not one list has
// to be read. What is read is the table of contents and the table itself, in one ranged request, as a stream: memory
// does not grow with the size of the index.
//
// Format: Prometheus TSDB index v1 and v2, tsdb/docs/format/index.md.
package cardinality

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
)

// Figure is a name and how many of something it has.
type Figure struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Label is what one label name has.
type Label struct {
	Name   string `json:"name"`
	Values uint64 `json:"values"`
	// Series is how many series carry the label.
	Series uint64 `json:"series"`
}

// Report is the cardinality of a block. Lists are sorted, the largest first, and cut to the limit that was asked for.
type Report struct {
	Series     uint64 `json:"series"`
	LabelNames int    `json:"labelNames"`
	LabelPairs uint64 `json:"labelPairs"`
	// Metrics are metric names by series, Labels label names by values, Pairs label pairs but metric names by series.
	Metrics []Figure `json:"metrics"`
	Labels  []Label  `json:"labels"`
	Pairs   []Figure `json:"pairs"`
	// ReadBytes is how much of the index was read.
	ReadBytes int64 `json:"readBytes"`
}

const (
	tocLen = 6*8 + 4
	// listFrame is what a list has around its entries: length, count, checksum.
	listFrame = 4 + 4 + 4
	// maxString bounds a label name or value: more cannot be in an index that anybody wrote on purpose.
	maxString = 16 << 20
)

// Read reports on a block of bkt, with lists of at most limit entries. Errors wrap block.ErrCorrupt where the index cannot be
// right; else they are those of the bucket.
func Read(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, limit int) (*Report, error) {
	name := block.ObjectName(id, block.IndexFilename)
	attrs, err := bkt.Attributes(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", name, err)
	}
	if attrs.Size < index.HeaderLen+tocLen {
		return nil, fmt.Errorf("%s: %w: truncated to %d bytes", name, block.ErrCorrupt, attrs.Size)
	}
	tail := make([]byte, tocLen)
	if err := readRange(ctx, bkt, name, attrs.Size-tocLen, tail); err != nil {
		return nil, fmt.Errorf("table of contents of %s: %w", name, err)
	}
	toc, err := index.NewTOCFromByteSlice(whole(tail))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: table of contents: %w", name, block.ErrCorrupt, err)
	}
	begin, end := int64(toc.PostingsTable), attrs.Size-tocLen
	if begin < index.HeaderLen || begin >= end || toc.Postings >= toc.PostingsTable {
		return nil, fmt.Errorf("%s: %w: postings table at %d of %d", name, block.ErrCorrupt, begin, attrs.Size)
	}
	body, err := bkt.GetRange(ctx, name, begin, end-begin)
	if err != nil {
		return nil, fmt.Errorf("postings table of %s: %w", name, err)
	}
	report, err := scan(body, listsEnd(toc), limit)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("postings table of %s: %w", name, err)
	}
	report.ReadBytes += tocLen
	return report, nil
}

// listsEnd is where the last list ends: what follows the lists are the offset tables.
func listsEnd(toc *index.TOC) uint64 {
	end := toc.PostingsTable
	for _, at := range []uint64{toc.LabelIndices, toc.LabelIndicesTable} {
		if at > toc.Postings && at < end {
			end = at
		}
	}
	return end
}

func readRange(ctx context.Context, bkt objstore.BucketReader, name string, off int64, buf []byte) error {
	r, err := bkt.GetRange(ctx, name, off, int64(len(buf)))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(r, buf)
	return errors.Join(err, r.Close())
}

// whole presents a table of contents to the parser that wants a whole index.
type whole []byte

func (b whole) Len() int                    { return len(b) }
func (b whole) Range(start, end int) []byte { return b[start:end] }

// table reads a stream and sums it up on the way.
type table struct {
	r    *bufio.Reader
	sum  hash.Hash32
	read int64
	left int64 // bytes of the table that are not read yet; below 0 before its length is known
}

func (t *table) ReadByte() (byte, error) {
	if t.left <= 0 {
		return 0, fmt.Errorf("%w: an entry is longer than the table", block.ErrCorrupt)
	}
	b, err := t.r.ReadByte()
	if err != nil {
		return 0, truncated(err)
	}
	t.read++
	t.left--
	_, _ = t.sum.Write([]byte{b}) // a digest cannot fail
	return b, nil
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: truncated", block.ErrCorrupt)
	}
	return err
}

func (t *table) uvarint() (uint64, error) {
	v, err := binary.ReadUvarint(t)
	if err != nil && !errors.Is(err, block.ErrCorrupt) {
		return 0, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	return v, err
}

// next returns the next string, which is valid until next is called twice more.
func (t *table) next(into []byte) ([]byte, error) {
	n, err := t.uvarint()
	if err != nil {
		return nil, err
	}
	if n > maxString || int64(n) > t.left {
		return nil, fmt.Errorf("%w: a string of %d bytes", block.ErrCorrupt, n)
	}
	into = slices.Grow(into[:0], int(n))[:n]
	if _, err := io.ReadFull(t.r, into); err != nil {
		return nil, truncated(err)
	}
	t.read += int64(n)
	t.left -= int64(n)
	_, _ = t.sum.Write(into)
	return into, nil
}

// scan reads a table, length and checksum included; end is where the last list ends.
func scan(r io.Reader, end uint64, limit int) (*Report, error) {
	t := &table{r: bufio.NewReaderSize(r, 1<<16), sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	var head [4]byte
	if _, err := io.ReadFull(t.r, head[:]); err != nil {
		return nil, truncated(err)
	}
	t.left = int64(binary.BigEndian.Uint32(head[:]))
	t.read = 4
	if t.left < 4 {
		return nil, fmt.Errorf("%w: a table of %d bytes", block.ErrCorrupt, t.left)
	}
	if _, err := io.ReadFull(t.r, head[:]); err != nil {
		return nil, truncated(err)
	}
	t.left -= 4
	t.read += 4
	_, _ = t.sum.Write(head[:])
	c := newCounter(limit)
	if err := t.entries(binary.BigEndian.Uint32(head[:]), end, c); err != nil {
		return nil, err
	}
	if t.left != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the last entry", block.ErrCorrupt, t.left)
	}
	if _, err := io.ReadFull(t.r, head[:]); err != nil {
		return nil, truncated(err)
	}
	t.read += 4
	if got, want := t.sum.Sum32(), binary.BigEndian.Uint32(head[:]); got != want {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", block.ErrCorrupt, got, want)
	}
	report := c.report()
	report.ReadBytes = t.read
	return report, nil
}

// entries gives each pair to c with the number of its series, once the beginning of the next list is known.
func (t *table) entries(n uint32, end uint64, c *counter) error {
	var name, value, lastName, lastValue []byte
	var last uint64
	for i := range n {
		keys, err := t.uvarint()
		if err != nil {
			return err
		}
		if keys != 2 {
			return fmt.Errorf("%w: an entry of %d keys", block.ErrCorrupt, keys)
		}
		if name, err = t.next(name); err != nil {
			return err
		}
		if value, err = t.next(value); err != nil {
			return err
		}
		at, err := t.uvarint()
		if err != nil {
			return err
		}
		if i > 0 {
			if err := c.add(lastName, lastValue, last, at); err != nil {
				return err
			}
		}
		last = at
		name, lastName = lastName, name
		value, lastValue = lastValue, value
	}
	if n == 0 {
		return nil
	}
	return c.add(lastName, lastValue, last, end)
}

// counter takes pairs in the order of the table: by name, then by value.
type counter struct {
	limit   int
	series  uint64
	pairs   uint64
	labels  []Label
	metrics top
	others  top
}

func newCounter(limit int) *counter {
	return &counter{limit: limit, metrics: top{limit: limit}, others: top{limit: limit}}
}

func (c *counter) add(name, value []byte, from, to uint64) error {
	if to < from+listFrame || (to-from-listFrame)%4 != 0 {
		return fmt.Errorf("%w: the list of %s=%q reaches from %d to %d", block.ErrCorrupt, name, value, from, to)
	}
	n := (to - from - listFrame) / 4
	if len(name) == 0 {
		// The list of all series stands under an empty pair.
		c.series = n
		return nil
	}
	c.pairs++
	if len(c.labels) == 0 || c.labels[len(c.labels)-1].Name != string(name) {
		c.labels = append(c.labels, Label{Name: string(name)})
	}
	l := &c.labels[len(c.labels)-1]
	l.Values++
	l.Series += n
	if string(name) == labels.MetricName {
		c.metrics.add(n, value)
	} else {
		c.others.add(n, name, []byte("="), value)
	}
	return nil
}

func (c *counter) report() *Report {
	r := &Report{Series: c.series, LabelNames: len(c.labels), LabelPairs: c.pairs, Metrics: c.metrics.sorted(), Pairs: c.others.sorted()}
	slices.SortStableFunc(c.labels, func(a, b Label) int { return cmp.Compare(b.Values, a.Values) })
	r.Labels = append([]Label{}, c.labels[:min(c.limit, len(c.labels))]...)
	return r
}
