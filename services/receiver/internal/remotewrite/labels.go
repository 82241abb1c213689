package remotewrite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/pbwire"
)

// ErrInvalidLabels says that no series can have such labels; sending them again will not help.
var ErrInvalidLabels = errors.New("invalid labels")

// errUnsorted says that labels are fine but for their order.
var errUnsorted = errors.New("labels are not sorted")

const (
	nameTag  = 1<<3 | pbwire.Bytes
	valueTag = 2<<3 | pbwire.Bytes
	keySep   = 0xff
)

// parseLabel decodes {1 name, 2 value}.
func parseLabel(b []byte) (name, value []byte, err error) {
	// As every sender writes it: both fields, in order, shorter than 128 bytes.
	if len(b) >= 4 && b[0] == nameTag && b[1] < 0x80 {
		if at := 2 + int(b[1]); len(b) >= at+2 && b[at] == valueTag && b[at+1] < 0x80 && len(b) == at+2+int(b[at+1]) {
			return b[2:at], b[at+2:], nil
		}
	}
	var f pbwire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return nil, nil, fmt.Errorf("%w: label: %w", ErrMalformed, err)
		}
		switch f.Tag {
		case nameTag:
			name = f.Val
		case valueTag:
			value = f.Val
		}
	}
	return name, value, nil
}

// eachLabel calls f for each label of raw, until it returns an error.
func eachLabel(raw []byte, f func(name, value []byte) error) error {
	var fd pbwire.Field
	for len(raw) > 0 {
		rest, err := fd.Next(raw)
		if err != nil {
			return fmt.Errorf("%w: labels: %w", ErrMalformed, err)
		}
		raw = rest
		name, value, err := parseLabel(fd.Val)
		if err != nil {
			return err
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	return nil
}

// AppendKey checks the labels and appends name 0xff value 0xff of each to key: what routers hash.
// Series whose labels are not in order are not refused, since not all senders sort them: the result then
// has new label bytes for the series, sorted, nil otherwise. The error is [ErrInvalidLabels] or
// [ErrMalformed].
//
// A series has a metric name; label names are not empty and unique; all is UTF-8. A label with an
// empty value is as good as none, it only has its place in the key.
func AppendKey(key, raw []byte) (_, sorted []byte, err error) {
	start := len(key)
	key, err = appendKey(key, raw)
	if errors.Is(err, errUnsorted) {
		if sorted, err = sortLabels(raw); err == nil {
			key, err = appendKey(key[:start], sorted)
		}
	}
	if err != nil {
		return key[:start], nil, err
	}
	return key, sorted, nil
}

const metricName = labels.MetricName

func appendKey(key, raw []byte) ([]byte, error) {
	var last []byte
	first, named := true, false
	// Usually there is nothing but ASCII, lengths included, which is seen at once.
	ascii := isASCII(raw)
	for len(raw) > 0 {
		msg, rest, err := labelField(raw)
		if err != nil {
			return key, err
		}
		raw = rest
		name, value, err := parseLabel(msg)
		if err != nil {
			return key, err
		}
		if !first {
			switch c := bytes.Compare(last, name); {
			case c == 0:
				return key, fmt.Errorf("%w: label name %q is not unique", ErrInvalidLabels, name)
			case c > 0:
				return key, errUnsorted
			}
		}
		if len(name) == 0 {
			return key, fmt.Errorf("%w: a label has no name", ErrInvalidLabels)
		}
		if !named && len(value) > 0 && string(name) == metricName {
			named = true
		}
		first, last = false, name
		from := len(key)
		key = append(append(key, name...), keySep)
		key = append(append(key, value...), keySep)
		if !ascii && !validParts(key[from:], len(name)) {
			return key, invalidUTF8(name, value)
		}
	}
	if !named {
		return key, fmt.Errorf("%w: a series has no metric name", ErrInvalidLabels)
	}
	return key, nil
}

func isASCII(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// labelField takes the first field of raw, which ParseSeries has seen to be a label.
func labelField(raw []byte) (msg, rest []byte, err error) {
	if len(raw) > 1 && raw[0] == tagLabel && raw[1] < 0x80 {
		if end := 2 + int(raw[1]); end <= len(raw) {
			return raw[2:end], raw[end:], nil
		}
	}
	var f pbwire.Field
	if rest, err = f.Next(raw); err != nil {
		return nil, nil, fmt.Errorf("%w: labels: %w", ErrMalformed, err)
	}
	return f.Val, rest, nil
}

// validParts reports whether the name and the value in part, name 0xff value 0xff, are UTF-8.
func validParts(part []byte, name int) bool {
	return utf8.Valid(part[:name]) && utf8.Valid(part[name+1:len(part)-1])
}

func invalidUTF8(name, value []byte) error {
	if !utf8.Valid(name) {
		return fmt.Errorf("%w: label name %q is not UTF-8", ErrInvalidLabels, name)
	}
	return fmt.Errorf("%w: value %q of label %s is not UTF-8", ErrInvalidLabels, value, name)
}

func sortLabels(raw []byte) ([]byte, error) {
	type field struct{ name, bytes []byte }
	var fields []field
	var f pbwire.Field
	for rest := raw; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: labels: %w", ErrMalformed, err)
		}
		name, _, err := parseLabel(f.Val)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field{name, rest[:len(rest)-len(next)]})
		rest = next
	}
	slices.SortStableFunc(fields, func(a, b field) int { return bytes.Compare(a.name, b.name) })
	out := make([]byte, 0, len(raw))
	for _, f := range fields {
		out = append(out, f.bytes...)
	}
	return out, nil
}

// ParseLabels returns the labels of a series, sorted and without empty ones. The error is that of
// [AppendKey].
func ParseLabels(raw []byte) (labels.Labels, error) {
	_, sorted, err := AppendKey(nil, raw)
	if err != nil {
		return labels.EmptyLabels(), err
	}
	if sorted != nil {
		raw = sorted
	}
	return buildLabels(raw), nil
}

// buildLabels builds what AppendKey has found good.
func buildLabels(raw []byte) labels.Labels {
	b := labels.NewScratchBuilder(8)
	// The bytes were walked before.
	_ = eachLabel(raw, func(name, value []byte) error {
		if len(value) > 0 {
			b.Add(string(name), string(value))
		}
		return nil
	})
	return b.Labels()
}

// Value returns the value of a label, nil where the series does not have it.
func Value(raw []byte, label string) (value []byte) {
	_ = eachLabel(raw, func(n, v []byte) error {
		if string(n) == label {
			value = v
		}
		return nil
	})
	return value
}

// Without returns label bytes without one label.
func Without(raw []byte, label string) []byte {
	out := make([]byte, 0, len(raw))
	var f pbwire.Field
	for rest := raw; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return raw
		}
		if name, _, err := parseLabel(f.Val); err != nil || string(name) != label {
			out = append(out, rest[:len(rest)-len(next)]...)
		}
		rest = next
	}
	return out
}

// Describe writes labels for a message, whatever is wrong with them: {a="b", …}, cut where it
// gets long.
func Describe(raw []byte) string {
	const enough = 512
	out := []byte{'{'}
	_ = eachLabel(raw, func(name, value []byte) error {
		if len(out) > 1 {
			out = append(out, ", "...)
		}
		if len(out) > enough {
			out = append(out, "…"...)
			return errUnsorted // any error ends the walk
		}
		out = append(out, name...)
		out = append(out, '=')
		out = strconv.AppendQuote(out, string(value[:min(len(value), enough)]))
		return nil
	})
	return string(append(out, '}'))
}
