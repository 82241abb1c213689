package indexheader

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// LabelNames returns the names of all labels in the block, sorted. The slice must not
// be changed.
func (r *Reader) LabelNames() []string { return r.names }

// HasLabel reports whether a series of the block has the label.
func (r *Reader) HasLabel(name string) bool {
	_, ok := r.tables[name]
	return ok && name != ""
}

// CountValues is how many values a label has.
func (r *Reader) CountValues(name string) int {
	if t := r.tables[name]; t != nil {
		return t.count
	}
	return 0
}

// LabelBytes is how many bytes of postings all values of a label have together.
func (r *Reader) LabelBytes(name string) (int64, error) {
	t := r.tables[name]
	if t == nil {
		return 0, nil
	}
	var n int64
	if t.all != nil {
		for _, l := range t.all {
			n += l.rng.End - l.rng.Start
		}
		return n, nil
	}
	first, err := r.lineAt(t, t.samples[0].pos)
	return t.after - first.rng.Start, err
}

// lineAt reads the line at pos.
func (r *Reader) lineAt(t *valueTable, pos int64) (l line, err error) {
	err = r.lines(t, pos, t.end, func(value string, rng Range) bool {
		l = line{strings.Clone(value), rng}
		return false
	})
	return l, err
}

// Postings returns where the list of a label pair is; false when there is none. The
// empty pair has the list of all series.
func (r *Reader) Postings(name, value string) (rng Range, ok bool, err error) {
	t := r.tables[name]
	if t == nil {
		return Range{}, false, nil
	}
	if t.all != nil {
		i, found := slices.BinarySearchFunc(t.all, value, func(l line, v string) int { return strings.Compare(l.value, v) })
		if !found {
			return Range{}, false, nil
		}
		return t.all[i].rng, true, nil
	}
	i := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].value > value }) - 1
	if i < 0 || t.samples[len(t.samples)-1].value < value {
		return Range{}, false, nil
	}
	// Two samples on: the list of the last line before the next sample ends where that
	// sample's list begins.
	limit := t.end
	if i+2 < len(t.samples) {
		limit = t.samples[i+2].pos
	}
	err = r.lines(t, t.samples[i].pos, limit, func(v string, at Range) bool {
		if v == value {
			rng, ok = at, true
		}
		return v < value
	})
	return rng, ok, err
}

// Values calls f with each value of a label that begins with prefix, in order, and
// where its list is, until f returns false. value is only valid during the call.
func (r *Reader) Values(name, prefix string, f func(value string, rng Range) bool) error {
	t := r.tables[name]
	if t == nil {
		return nil
	}
	within := func(value string, rng Range) bool {
		if value < prefix {
			return true
		}
		return strings.HasPrefix(value, prefix) && f(value, rng)
	}
	if t.all != nil {
		for _, l := range t.all {
			if !within(l.value, l.rng) {
				return nil
			}
		}
		return nil
	}
	i := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].value > prefix }) - 1
	return r.lines(t, t.samples[max(i, 0)].pos, t.end, within)
}

// lines calls f for the lines of a label from pos up to limit, where a line begins or
// the label ends.
func (r *Reader) lines(t *valueTable, pos, limit int64, f func(value string, rng Range) bool) error {
	scan := tableScan{s: openRange(r.src, pos, limit)}
	var value []byte
	var start int64
	for first := true; ; first = false {
		end, more := t.after, scan.s.left() > 0
		var e entry
		if more {
			var err error
			if e, err = scan.next(); err != nil {
				return fmt.Errorf("postings offset table: %w", err)
			}
			end = e.offset
		}
		// A list ends where the next one begins, so each line waits for its successor.
		if !first && !f(text(value), Range{Start: start, End: end}) {
			return nil
		}
		if !more {
			return nil
		}
		value, start = append(value[:0], e.value...), e.offset
	}
}

// Symbols resolves references to strings for one request. It keeps what it has read
// and serves one goroutine.
type Symbols struct {
	r      *Reader
	groups [][]string
	byRef  map[uint32]string // version 1
	buf    []byte
}

// Symbols returns a resolver.
func (r *Reader) Symbols() *Symbols {
	s := &Symbols{r: r}
	if r.version == 1 {
		s.byRef = map[uint32]string{}
	} else {
		s.groups = make([][]string, len(r.symbolAt))
	}
	return s
}

// Lookup returns the string a reference of a series entry stands for. The string owns
// its memory.
func (s *Symbols) Lookup(ref uint32) (string, error) {
	if s.byRef != nil {
		return s.lookupV1(ref)
	}
	g := ref / symbolFactor
	if int(ref) >= s.r.symbols {
		return "", fmt.Errorf("%w: symbol %d of %d", ErrCorrupt, ref, s.r.symbols)
	}
	if s.groups[g] == nil {
		if err := s.load(int(g)); err != nil {
			return "", err
		}
	}
	return s.groups[g][ref%symbolFactor], nil
}

// load reads a group of symbols. They share one string.
func (s *Symbols) load(g int) error {
	start, end := s.r.symbolAt[g], s.r.symbolsEnd
	if g+1 < len(s.r.symbolAt) {
		end = s.r.symbolAt[g+1]
	}
	if n := int(end - start); cap(s.buf) < n {
		s.buf = make([]byte, n)
	}
	b := s.buf[:end-start]
	if err := readAt(s.r.src, b, start); err != nil {
		return fmt.Errorf("read symbols: %w", err)
	}
	all := string(b)
	n := min(symbolFactor, s.r.symbols-g*symbolFactor)
	group := make([]string, n)
	pos := 0
	for i := range group {
		size, k := binary.Uvarint(b[pos:])
		if k <= 0 || size > uint64(len(b)-pos-k) {
			return fmt.Errorf("%w: symbol %d", ErrCorrupt, g*symbolFactor+i)
		}
		pos += k
		group[i] = all[pos : pos+int(size)]
		pos += int(size)
	}
	s.groups[g] = group
	return nil
}

// lookupV1 reads a symbol by its place in the index.
func (s *Symbols) lookupV1(ref uint32) (string, error) {
	if v, ok := s.byRef[ref]; ok {
		return v, nil
	}
	pos := int64(ref) + s.r.symbolShift
	if pos < headLen || pos >= s.r.symbolsEnd {
		return "", fmt.Errorf("%w: symbol at %d", ErrCorrupt, ref)
	}
	b, err := openRange(s.r.src, pos, s.r.symbolsEnd).bytes()
	if err != nil {
		return "", err
	}
	v := string(b)
	s.byRef[ref] = v
	return v, nil
}
