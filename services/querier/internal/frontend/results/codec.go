package results

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/snappy"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
)

// The first byte of a value says how the rest is written.
const (
	plain  = 'p'
	snappd = 's'
)

// errOther is for values that belong to another key whose hash is the same.
var errOther = errors.New("value of another key")

// encode writes an entry: the whole key, the extents, of each its ends, notes, and items or series. Numbers are varints, texts are
// preceded by their length.
func encode(key string, e Entry, compress bool) []byte {
	b := []byte{plain}
	b = appendText(b, key)
	b = binary.AppendUvarint(b, uint64(len(e)))
	for _, x := range e {
		b = binary.AppendVarint(b, x.Start)
		b = binary.AppendVarint(b, x.End)
		b = appendText(b, x.Answer.Type)
		b = appendTexts(b, x.Answer.Warnings)
		b = appendTexts(b, x.Answer.Infos)
		b = appendTexts(b, x.Answer.Items)
		b = binary.AppendUvarint(b, uint64(len(x.Answer.Series)))
		for i := range x.Answer.Series {
			s := &x.Answer.Series[i]
			b = appendText(b, s.Metric)
			b = appendPoints(b, s.Floats)
			b = appendPoints(b, s.Histograms)
		}
	}
	if !compress {
		return b
	}
	return append([]byte{snappd}, snappy.Encode(nil, b[1:])...)
}

func appendText[T string | []byte](b []byte, text T) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendTexts[T string | []byte](b []byte, texts []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, t := range texts {
		b = appendText(b, t)
	}
	return b
}

// appendPoints writes the pieces as one.
func appendPoints(b []byte, p answer.Points) []byte {
	n := p.Bytes()
	if n > 0 {
		n += len(p) - 1
	}
	b = binary.AppendUvarint(b, uint64(n))
	for i, piece := range p {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, piece...)
	}
	return b
}

// maxDecoded bounds what a compressed value may become, so that a broken one does not take all memory.
const maxDecoded = 1 << 30

// decode reads what encode wrote. The entry points into value.
func decode(value []byte, key string) (Entry, error) {
	if len(value) == 0 {
		return nil, errors.New("empty value")
	}
	body := value[1:]
	switch value[0] {
	case plain:
	case snappd:
		n, err := snappy.DecodedLen(body)
		if err != nil || n > maxDecoded {
			return nil, fmt.Errorf("compressed value of %d bytes: %w", n, errors.Join(err))
		}
		if body, err = snappy.Decode(nil, body); err != nil {
			return nil, fmt.Errorf("compressed value: %w", err)
		}
	default:
		return nil, fmt.Errorf("value of unknown form %q", value[0])
	}
	r := &reader{b: body}
	if string(r.text()) != key {
		return nil, errors.Join(r.err, errOther)
	}
	n := r.count()
	e := make(Entry, 0, n)
	for range n {
		x := Extent{Start: r.varint(), End: r.varint(), Answer: &answer.Answer{Type: string(r.text())}}
		x.Answer.Warnings, x.Answer.Infos = r.texts(), r.texts()
		for range r.count() {
			x.Answer.Items = append(x.Answer.Items, r.text())
		}
		series := r.count()
		x.Answer.Series = make([]answer.Series, 0, series)
		for range series {
			x.Answer.Series = append(x.Answer.Series, answer.Series{Metric: r.text(), Floats: r.points(), Histograms: r.points()})
		}
		if x.End < x.Start || len(e) > 0 && x.Start <= e[len(e)-1].End {
			return nil, errors.Join(r.err, errors.New("extents that do not ascend"))
		}
		e = append(e, x)
	}
	if len(r.b) > 0 && r.err == nil {
		return nil, fmt.Errorf("%d bytes too many", len(r.b))
	}
	return e, r.err
}

// reader reads from b. The first error stays; after it everything is empty.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return advance(r, v, n)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return advance(r, v, n)
}

func advance[T int64 | uint64](r *reader, v T, n int) T {
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fail() {
	r.b = nil
	if r.err == nil {
		r.err = errors.New("value ends too early")
	}
}

// count reads how many of something follow, each of which takes a byte at least.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) text() []byte {
	n := r.count()
	text := r.b[:n:n]
	r.b = r.b[n:]
	return text
}

func (r *reader) texts() []string {
	var out []string
	for range r.count() {
		out = append(out, string(r.text()))
	}
	return out
}

func (r *reader) points() answer.Points {
	if text := r.text(); len(text) > 0 {
		return answer.Points{text}
	}
	return nil
}
