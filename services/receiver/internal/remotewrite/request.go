package remotewrite

import (
	"fmt"
	"unicode/utf8"

	"github.com/promontory-io/promontory/libs/pbwire"
)

// Metadata describes a metric family.
type Metadata struct {
	Family string
	// Type is the number of the metric type, which both versions share: 1 counter, 2 gauge, 3 histogram,
	// 4 gauge histogram, 5 summary, 6 info, 7 state set.
	Type       int32
	Help, Unit string
}

// Bad is a series that was refused while the request was read.
type Bad struct {
	// Labels are what could be read of them.
	Labels                        []byte
	Err                           error
	Floats, Histograms, Exemplars uint32
}

// Request is a decoded request. It can be used again after Reset; what it returned must not be in
// use then.
type Request struct {
	Series []Series
	// Bad are the series that cannot be kept although the request is well-formed.
	Bad      []Bad
	Metadata []Metadata

	arena     []byte
	symbols   [][]byte
	described []bool // by symbol: metadata of this metric name was taken
	spans     []span
}

// Reset empties r and keeps its memory, unless a huge request made it huge.
func (r *Request) Reset() {
	const keep = 1 << 16
	clear(r.Series)
	clear(r.Bad)
	clear(r.symbols)
	if cap(r.Series) > keep || cap(r.symbols) > keep || cap(r.arena) > 16<<20 {
		*r = Request{}
		return
	}
	r.Series, r.Bad, r.Metadata = r.Series[:0], r.Bad[:0], nil
	r.arena, r.symbols, r.described, r.spans = r.arena[:0], r.symbols[:0], r.described[:0], r.spans[:0]
}

// Totals is how many samples of each kind the request holds, those of bad series included.
func (r *Request) Totals() (floats, histograms, exemplars uint64) {
	for i := range r.Series {
		s := &r.Series[i]
		floats += uint64(s.Floats)
		histograms += uint64(s.Histograms)
		exemplars += uint64(s.Exemplars)
	}
	for _, b := range r.Bad {
		floats += uint64(b.Floats)
		histograms += uint64(b.Histograms)
		exemplars += uint64(b.Exemplars)
	}
	return floats, histograms, exemplars
}

// DecodeV1 reads a WriteRequest of 1.0 into r, which is empty. Series alias data. The error is
// [ErrMalformed]; labels are not looked at.
func (r *Request) DecodeV1(data []byte) error {
	var f pbwire.Field
	for rest := data; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: write request: %w", ErrMalformed, err)
		}
		rest = next
		switch f.Tag {
		case 1<<3 | pbwire.Bytes:
			s, err := ParseSeries(f.Val)
			if err != nil {
				return err
			}
			r.Series = append(r.Series, s)
		case 3<<3 | pbwire.Bytes:
			m, err := ParseMetadata(f.Val)
			if err != nil {
				return err
			}
			r.Metadata = append(r.Metadata, m)
		}
	}
	return nil
}

// ParseMetadata decodes a MetricMetadata of 1.0: {1 type, 2 metric_family_name, 4 help, 5 unit}.
func ParseMetadata(b []byte) (m Metadata, err error) {
	var f pbwire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return m, fmt.Errorf("%w: metadata: %w", ErrMalformed, err)
		}
		switch f.Tag {
		case 1<<3 | pbwire.Varint:
			m.Type = int32(f.V)
		case 2<<3 | pbwire.Bytes:
			m.Family = toText(f.Val)
		case 4<<3 | pbwire.Bytes:
			m.Help = toText(f.Val)
		case 5<<3 | pbwire.Bytes:
			m.Unit = toText(f.Val)
		}
	}
	return m, nil
}

// AppendMetadata appends m in the form that ParseMetadata reads.
func AppendMetadata(b []byte, m Metadata) []byte {
	if m.Type != 0 {
		b = append(b, 1<<3|pbwire.Varint)
		b = appendVarint(b, uint64(uint32(m.Type)))
	}
	b = appendBytes(b, 2<<3|pbwire.Bytes, m.Family)
	b = appendBytes(b, 4<<3|pbwire.Bytes, m.Help)
	return appendBytes(b, 5<<3|pbwire.Bytes, m.Unit)
}

// toText copies text, made valid where it is not: it is for people to read.
func toText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}
