// Package verdict says what became of series that were written: which failed, and of what kind
// their failure is, since a sender has to retry some and must not retry others.
//
// A node tells a router in the details of the status of its answer, so that one bad series does not
// fail those that were sent along with it. Peers that do not know the details skip them and see the
// status alone.
package verdict

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/pbwire"
)

// Kind is how a series failed, and so what its sender has to do.
type Kind uint8

// The kinds, the gravest last: a request with several fails with the last of them.
const (
	// OK is no failure.
	OK Kind = iota
	// Invalid is a series that nobody would keep. Do not retry.
	Invalid
	// Conflict is a sample that what is stored has no place for: out of order, too old, a second
	// value for its time. Do not retry.
	Conflict
	// Limit is a series beyond what its tenant may have. Retry later.
	Limit
	// Unavailable is a failure on our side. Retry.
	Unavailable
)

// Kinds is how many there are.
const Kinds = int(Unavailable) + 1

// String is the kind's name in metrics and messages.
func (k Kind) String() string {
	switch k {
	case OK:
		return "ok"
	case Invalid:
		return "invalid"
	case Conflict:
		return "conflict"
	case Limit:
		return "limit"
	}
	return "unavailable"
}

// Failure is one series that was not written whole.
type Failure struct {
	// Series is its place in what was written.
	Series uint32
	Kind   Kind
	// How many of its samples and exemplars were not written.
	Floats, Histograms, Exemplars uint32
	// Reason names the series and what is wrong; only the first few have one.
	Reason string
}

// MaxReasons is how many failures of a write are explained. The rest is counted.
const MaxReasons = 10

// Error is a write of which some series failed. The others are written.
type Error struct {
	Failures []Failure
}

// Worst is the gravest kind among the failures.
func (e *Error) Worst() Kind {
	k := OK
	for _, f := range e.Failures {
		k = max(k, f.Kind)
	}
	return k
}

// Error explains the first failures and counts the others.
func (e *Error) Error() string { return Explain(e.Failures) }

// Explain is a message about failures.
func Explain(fs []Failure) string {
	var b []byte
	told := 0
	for _, f := range fs {
		if f.Reason == "" || told == MaxReasons {
			continue
		}
		if told > 0 {
			b = append(b, "; "...)
		}
		b = append(b, f.Reason...)
		told++
	}
	switch rest := len(fs) - told; {
	case told == 0:
		return fmt.Sprintf("%d series failed", len(fs))
	case rest > 0:
		b = fmt.Appendf(b, "; and %d more series", rest)
	}
	return string(b)
}

// TypeURL names the details of a status that hold failures.
const TypeURL = "type.googleapis.com/promontory.receiver.Failures"

var errDetails = errors.New("malformed failures")

// Details encodes failures: {1 rep Failure{1 series, 2 kind, 3 floats, 4 histograms, 5 exemplars,
// 6 reason}}.
func Details(fs []Failure) *anypb.Any {
	var b, msg []byte
	for _, f := range fs {
		msg = msg[:0]
		for i, v := range [...]uint32{f.Series, uint32(f.Kind), f.Floats, f.Histograms, f.Exemplars} {
			if v != 0 {
				msg = append(msg, byte(i+1)<<3|pbwire.Varint)
				msg = appendVarint(msg, uint64(v))
			}
		}
		if f.Reason != "" {
			msg = append(msg, 6<<3|pbwire.Bytes)
			msg = appendVarint(msg, uint64(len(f.Reason)))
			msg = append(msg, f.Reason...)
		}
		b = append(b, 1<<3|pbwire.Bytes)
		b = appendVarint(b, uint64(len(msg)))
		b = append(b, msg...)
	}
	return &anypb.Any{TypeUrl: TypeURL, Value: b}
}

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// FromDetails decodes what Details made of failures of total series; ok is false when d is something else.
func FromDetails(d *anypb.Any, total int) (fs []Failure, ok bool, err error) {
	if d.GetTypeUrl() != TypeURL {
		return nil, false, nil
	}
	var f pbwire.Field
	for rest := d.GetValue(); len(rest) > 0; {
		if rest, err = f.Next(rest); err != nil {
			return nil, false, fmt.Errorf("%w: %w", errDetails, err)
		}
		if f.Tag != 1<<3|pbwire.Bytes {
			continue
		}
		one, err := parseFailure(f.Val)
		if err != nil {
			return nil, false, err
		}
		if int(one.Series) >= total {
			return nil, false, fmt.Errorf("%w: series %d of %d", errDetails, one.Series, total)
		}
		fs = append(fs, one)
	}
	return fs, true, nil
}

func parseFailure(b []byte) (out Failure, err error) {
	var f pbwire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return out, fmt.Errorf("%w: %w", errDetails, err)
		}
		switch f.Tag {
		case 1<<3 | pbwire.Varint:
			out.Series = uint32(f.V)
		case 2<<3 | pbwire.Varint:
			out.Kind = Kind(min(f.V, uint64(Unavailable)))
		case 3<<3 | pbwire.Varint:
			out.Floats = uint32(f.V)
		case 4<<3 | pbwire.Varint:
			out.Histograms = uint32(f.V)
		case 5<<3 | pbwire.Varint:
			out.Exemplars = uint32(f.V)
		case 6<<3 | pbwire.Bytes:
			out.Reason = string(f.Val)
		}
	}
	return out, nil
}
