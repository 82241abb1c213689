package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/promontory-io/promontory/libs/pbwire"
)

// Tags of the fields of a TimeSeries of 1.0.
const (
	tagLabel     = 1<<3 | pbwire.Bytes
	tagSample    = 2<<3 | pbwire.Bytes
	tagExemplar  = 3<<3 | pbwire.Bytes
	tagHistogram = 4<<3 | pbwire.Bytes
)

// ErrMalformed says that bytes are not the message they should be.
var ErrMalformed = errors.New("malformed request")

// Series is one series of a request. Both slices alias the request.
type Series struct {
	// Labels are the label fields, one after the other, as they came.
	Labels []byte
	// Body is all other fields.
	Body []byte
	// How many of each Body has.
	Floats, Histograms, Exemplars uint32
}

// Samples is how many samples of either kind the series has.
func (s *Series) Samples() uint32 { return s.Floats + s.Histograms }

// ParseSeries splits a TimeSeries message of 1.0. It looks at fields, not into them. Should labels stand
// behind other fields, which no known sender does, both slices are copies.
func ParseSeries(msg []byte) (Series, error) {
	if s, ok := parseUsual(msg); ok {
		return s, nil
	}
	var s Series
	var f pbwire.Field
	rest := msg
	split := 0 // where labels end
	mixed := false
	for len(rest) > 0 {
		next, err := f.Next(rest)
		if err != nil {
			return s, fmt.Errorf("%w: time series: %w", ErrMalformed, err)
		}
		switch f.Tag {
		case tagLabel:
			if split == len(msg)-len(rest) {
				split = len(msg) - len(next)
			} else {
				mixed = true
			}
		case tagSample:
			s.Floats++
		case tagExemplar:
			s.Exemplars++
		case tagHistogram:
			s.Histograms++
		}
		rest = next
	}
	if mixed {
		unmix(&s, msg)
		return s, nil
	}
	s.Labels, s.Body = msg[:split:split], msg[split:]
	return s, nil
}

// parseUsual splits what senders usually send: labels of less than 128 bytes, then one sample.
func parseUsual(msg []byte) (s Series, ok bool) {
	at := 0
	for at+2 <= len(msg) && msg[at] == tagLabel && msg[at+1] < 0x80 {
		at += 2 + int(msg[at+1])
	}
	if at+2 > len(msg) || msg[at] != tagSample || msg[at+1] >= 0x80 || at+2+int(msg[at+1]) != len(msg) {
		return s, false
	}
	return Series{Labels: msg[:at:at], Body: msg[at:], Floats: 1}, true
}

// unmix gathers labels from between other fields. msg was walked before.
func unmix(s *Series, msg []byte) {
	var f pbwire.Field
	for rest := msg; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return
		}
		field := rest[:len(rest)-len(next)]
		if f.Tag == tagLabel {
			s.Labels = append(s.Labels, field...)
		} else {
			s.Body = append(s.Body, field...)
		}
		rest = next
	}
}

// Visitor gets the content of a series in the order in which it stands.
type Visitor interface {
	// Sample gets a float sample; start is when its counter began, 0 for unknown.
	Sample(t int64, v float64, start int64)
	// Histogram gets a native histogram in memory of its own.
	Histogram(h *writev2.Histogram)
	// Exemplar gets an exemplar in memory of its own.
	Exemplar(e exemplar.Exemplar)
}

// Walk decodes the body. Exemplars come last, wherever they stand. The error is [ErrMalformed];
// what came before it was visited.
func (s *Series) Walk(v Visitor) error {
	// One sample and nothing else, as parseUsual has it.
	if b := s.Body; len(b) > 12 && b[0] == tagSample && b[1] < 0x80 && int(b[1]) == len(b)-2 {
		smp, err := parseSample(b[2:])
		if err != nil {
			return err
		}
		v.Sample(smp.t, smp.v, smp.start)
		return nil
	}
	var f pbwire.Field
	for rest := s.Body; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: time series: %w", ErrMalformed, err)
		}
		rest = next
		switch f.Tag {
		case tagSample:
			smp, err := parseSample(f.Val)
			if err != nil {
				return err
			}
			v.Sample(smp.t, smp.v, smp.start)
		case tagHistogram:
			// 2.0's message has all fields of 1.0 under the same numbers, and the start time.
			h := new(writev2.Histogram)
			if err := h.Unmarshal(f.Val); err != nil {
				return fmt.Errorf("%w: histogram: %w", ErrMalformed, err)
			}
			v.Histogram(h)
		}
	}
	if s.Exemplars == 0 {
		return nil
	}
	return s.walkExemplars(v)
}

func (s *Series) walkExemplars(v Visitor) error {
	var f pbwire.Field
	for rest := s.Body; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: time series: %w", ErrMalformed, err)
		}
		rest = next
		if f.Tag != tagExemplar {
			continue
		}
		e, err := parseExemplar(f.Val)
		if err != nil {
			return err
		}
		v.Exemplar(e)
	}
	return nil
}

type sample struct {
	t, start int64
	v        float64
}

// parseSample decodes {1 value double, 2 timestamp int64, 3 start_timestamp int64}.
func parseSample(b []byte) (s sample, err error) {
	// As every sender writes it: both fields, in order, nothing else.
	if len(b) > 10 && b[0] == 1<<3|pbwire.Fixed64 && b[9] == 2<<3|pbwire.Varint {
		if t, n := binary.Uvarint(b[10:]); n > 0 && n == len(b)-10 {
			return sample{t: int64(t), v: math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))}, nil
		}
	}
	var f pbwire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return s, fmt.Errorf("%w: sample: %w", ErrMalformed, err)
		}
		switch f.Tag {
		case 1<<3 | pbwire.Fixed64:
			s.v = math.Float64frombits(f.V)
		case 2<<3 | pbwire.Varint:
			s.t = int64(f.V)
		case 3<<3 | pbwire.Varint:
			s.start = int64(f.V)
		}
	}
	return s, nil
}

func parseExemplar(b []byte) (e exemplar.Exemplar, err error) {
	var f pbwire.Field
	bld := labels.NewScratchBuilder(2)
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return e, fmt.Errorf("%w: exemplar: %w", ErrMalformed, err)
		}
		switch f.Tag {
		case 1<<3 | pbwire.Bytes:
			name, value, err := parseLabel(f.Val)
			if err != nil {
				return e, err
			}
			bld.Add(string(name), string(value))
		case 2<<3 | pbwire.Fixed64:
			e.Value = math.Float64frombits(f.V)
		case 3<<3 | pbwire.Varint:
			e.Ts = int64(f.V)
			e.HasTs = true
		}
	}
	bld.Sort()
	e.Labels = bld.Labels()
	return e, nil
}
