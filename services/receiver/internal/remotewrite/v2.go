package remotewrite

import (
	"errors"
	"fmt"
	"strings"

	"github.com/promontory-io/promontory/libs/pbwire"
)

// span is where a series lies in the arena, which moves while it grows.
type span struct{ from, labels, to int }

// DecodeV2 reads a Request of 2.0 into r, which is empty. Series are written into memory of r.
// The error is [ErrMalformed]; series that point outside of the symbol table or hold nothing are in
// r.Bad.
func (r *Request) DecodeV2(data []byte) error {
	// Symbols may stand behind the series that use them.
	if err := r.readSymbols(data); err != nil {
		return err
	}
	var f pbwire.Field
	for rest := data; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: request: %w", ErrMalformed, err)
		}
		rest = next
		if f.Tag != 5<<3|pbwire.Bytes {
			continue
		}
		if err := r.seriesV2(f.Val); err != nil {
			return err
		}
	}
	for i, sp := range r.spans {
		r.Series[i].Labels = r.arena[sp.from:sp.labels:sp.labels]
		r.Series[i].Body = r.arena[sp.labels:sp.to:sp.to]
	}
	return nil
}

func (r *Request) readSymbols(data []byte) error {
	var f pbwire.Field
	for rest := data; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: request: %w", ErrMalformed, err)
		}
		rest = next
		if f.Tag == 4<<3|pbwire.Bytes {
			r.symbols = append(r.symbols, f.Val)
		}
	}
	if len(r.symbols) > 0 && len(r.symbols[0]) > 0 {
		return fmt.Errorf("%w: symbol 0 is %q, it has to be empty", ErrMalformed, r.symbols[0][:min(64, len(r.symbols[0]))])
	}
	r.described = append(r.described, make([]bool, len(r.symbols))...)
	return nil
}

// seriesV2 writes one TimeSeries of 2.0 into the arena.
func (r *Request) seriesV2(msg []byte) error {
	var f pbwire.Field
	var s Series
	sp := span{from: len(r.arena)}
	var packed []byte
	// Labels come first in the arena, so they are gathered first.
	for rest := msg; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: time series: %w", ErrMalformed, err)
		}
		rest = next
		switch f.Tag {
		case 1<<3 | pbwire.Bytes:
			if packed == nil {
				packed = f.Val
			} else {
				packed = append(packed, f.Val...) // f.Val has no spare capacity, so this copies
			}
		case 1<<3 | pbwire.Varint:
			packed = appendVarint(packed, f.V)
		}
	}
	nameRef, bad := r.appendRefs(tagLabel, refReader{packed: packed})
	if errors.Is(bad, ErrMalformed) {
		return bad
	}
	sp.labels = len(r.arena)
	var meta []byte
	for rest := msg; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: time series: %w", ErrMalformed, err)
		}
		rest = next
		switch f.Tag {
		case 2<<3 | pbwire.Bytes:
			s.Floats++
			r.arena = appendBytes(r.arena, tagSample, f.Val)
		case 3<<3 | pbwire.Bytes:
			s.Histograms++
			r.arena = appendBytes(r.arena, tagHistogram, f.Val)
		case 4<<3 | pbwire.Bytes:
			s.Exemplars++
			switch err := r.exemplarV2(f.Val); {
			case errors.Is(err, ErrMalformed):
				return err
			case err != nil && bad == nil:
				bad = err
			}
		case 5<<3 | pbwire.Bytes:
			meta = f.Val
		}
	}
	sp.to = len(r.arena)
	if bad == nil && s.Samples() == 0 {
		bad = fmt.Errorf("%w: the series has neither a sample nor a histogram", ErrInvalidLabels)
	}
	if bad != nil {
		r.Bad = append(r.Bad, Bad{
			Labels: append([]byte(nil), r.arena[sp.from:sp.labels]...), Err: bad,
			Floats: s.Floats, Histograms: s.Histograms, Exemplars: s.Exemplars,
		})
		r.arena = r.arena[:sp.from]
		return nil //nolint:nilerr // it is the series that failed, not the request
	}
	r.Series = append(r.Series, s)
	r.spans = append(r.spans, sp)
	if meta != nil && nameRef != 0 && !r.described[nameRef] {
		r.described[nameRef] = true
		return r.metadataV2(r.symbols[nameRef], meta)
	}
	return nil
}

// refReader reads packed references one by one.
type refReader struct{ packed []byte }

func (r *refReader) next() (ref uint64, ok bool, err error) {
	if len(r.packed) == 0 {
		return 0, false, nil
	}
	ref, n := pbwire.Uvarint(r.packed)
	if n <= 0 {
		return 0, false, fmt.Errorf("%w: labels_refs: %w", ErrMalformed, pbwire.ErrTruncated)
	}
	r.packed = r.packed[n:]
	return ref, true, nil
}

// appendRefs appends the labels that refs point to as fields with the given tag, and returns
// the reference of the metric name.
func (r *Request) appendRefs(tag byte, refs refReader) (nameRef uint32, err error) {
	for {
		n, ok, err := refs.next()
		if err != nil || !ok {
			return nameRef, err
		}
		v, ok, err := refs.next()
		if err != nil {
			return nameRef, err
		}
		if !ok {
			return nameRef, fmt.Errorf("%w: labels_refs has an odd number of references", ErrInvalidLabels)
		}
		if n >= uint64(len(r.symbols)) || v >= uint64(len(r.symbols)) {
			return nameRef, fmt.Errorf("%w: labels_refs points to symbol %d, there are %d", ErrInvalidLabels, max(n, v), len(r.symbols))
		}
		if string(r.symbols[n]) == metricName {
			nameRef = uint32(v)
		}
		r.arena = appendLabel(r.arena, tag, r.symbols[n], r.symbols[v])
	}
}

// exemplarV2 writes {1 labels_refs, 2 value, 3 timestamp} as {1 labels, 2 value, 3 timestamp}.
func (r *Request) exemplarV2(msg []byte) error {
	// The length in front is known when the content is: it is written behind the arena and copied.
	mark := len(r.arena)
	var f pbwire.Field
	var bad error
	for rest := msg; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: exemplar: %w", ErrMalformed, err)
		}
		switch f.Tag {
		case 1<<3 | pbwire.Bytes:
			if _, err := r.appendRefs(nameTag, refReader{packed: f.Val}); err != nil {
				bad = err
			}
		case 2<<3 | pbwire.Fixed64, 3<<3 | pbwire.Varint:
			r.arena = append(r.arena, rest[:len(rest)-len(next)]...)
		}
		rest = next
	}
	content := append([]byte(nil), r.arena[mark:]...)
	r.arena = appendBytes(r.arena[:mark], tagExemplar, content)
	return bad
}

// metadataV2 takes {1 type, 3 help_ref, 4 unit_ref} of a series.
func (r *Request) metadataV2(name, msg []byte) error {
	var f pbwire.Field
	m := Metadata{Family: toText(name)}
	text := func(ref uint64) string {
		if ref >= uint64(len(r.symbols)) {
			return ""
		}
		return toText(r.symbols[ref])
	}
	for len(msg) > 0 {
		rest, err := f.Next(msg)
		if err != nil {
			return fmt.Errorf("%w: metadata: %w", ErrMalformed, err)
		}
		msg = rest
		switch f.Tag {
		case 1<<3 | pbwire.Varint:
			m.Type = int32(f.V)
		case 3<<3 | pbwire.Varint:
			m.Help = text(f.V)
		case 4<<3 | pbwire.Varint:
			m.Unit = text(f.V)
		}
	}
	if m.Type == 0 && m.Help == "" && m.Unit == "" {
		return nil
	}
	m.Family = family(m.Family, m.Type)
	r.Metadata = append(r.Metadata, m)
	return nil
}

// family is the metric family of a series: those of classic histograms and summaries have names of
// their own.
func family(name string, typ int32) string {
	var suffixes []string
	switch typ {
	case 3:
		suffixes = []string{"_bucket", "_sum", "_count"}
	case 4:
		suffixes = []string{"_bucket", "_gsum", "_gcount"}
	case 5:
		suffixes = []string{"_sum", "_count"}
	}
	for _, s := range suffixes {
		if base, ok := strings.CutSuffix(name, s); ok && base != "" {
			return base
		}
	}
	return name
}
