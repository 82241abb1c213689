package promapi

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string that is safe inside HTML: <, >, & and the two Unicode line
// separators are escaped and invalid UTF-8 becomes U+FFFD. Texts and plain string lists are written so.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			b = appendEscapedByte(append(b, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			b = append(append(b, s[start:i]...), `\u202`...)
			b = append(b, hexDigits[r&0xf])
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// AppendLabelString appends s as a JSON string the way label names and values are written: only
// what JSON demands is escaped, everything else is passed on as it is.
func AppendLabelString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = appendEscapedByte(append(b, s[start:i]...), c)
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscapedByte(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}

// AppendFloat appends a sample value: a quoted decimal, in exponent form below 1e-6 and from 1e21 on.
func AppendFloat(b []byte, f float64) []byte {
	b = append(b, '"')
	if i := int64(f); float64(i) == f && i > -1e15 && i < 1e15 && (i != 0 || !math.Signbit(f)) {
		// Most counters are whole numbers, which have a much cheaper way to text with the same result.
		b = strconv.AppendInt(b, i, 10)
		return append(b, '"')
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	return append(b, '"')
}

// AppendTimestamp appends Unix milliseconds as seconds, with exactly three decimals unless they are all zero.
func AppendTimestamp(b []byte, ms int64) []byte {
	u := uint64(ms)
	if ms < 0 {
		b = append(b, '-')
		u = -u // well defined also for the smallest int64
	}
	b = strconv.AppendUint(b, u/1000, 10)
	if frac := u % 1000; frac != 0 {
		b = append(b, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
	}
	return b
}

// AppendLabels appends a label set as a JSON object in the order of the set.
func AppendLabels(b []byte, ls labels.Labels) []byte {
	b = append(b, '{')
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = AppendLabelString(b, l.Name)
		b = append(b, ':')
		b = AppendLabelString(b, l.Value)
	})
	return append(b, '}')
}

// AppendHistogram appends a native histogram: count, sum and, if any is not empty, the buckets, each as
// [boundary rule, lower, upper, count]. The rule is 0 for (lower, upper], 1 for [lower, upper),
// 2 for both ends open and 3 for both closed.
func AppendHistogram(b []byte, h *histogram.FloatHistogram) []byte {
	b = append(b, `{"count":`...)
	b = AppendFloat(b, h.Count)
	b = append(b, `,"sum":`...)
	b = AppendFloat(b, h.Sum)

	found := false
	for it := h.AllBucketIterator(); it.Next(); {
		bucket := it.At()
		if bucket.Count == 0 {
			continue
		}
		if found {
			b = append(b, ",["...)
		} else {
			b = append(b, `,"buckets":[[`...)
			found = true
		}
		rule := byte('2')
		switch {
		case bucket.LowerInclusive && bucket.UpperInclusive:
			rule = '3'
		case bucket.LowerInclusive:
			rule = '1'
		case bucket.UpperInclusive:
			rule = '0'
		}
		b = append(b, rule, ',')
		b = AppendFloat(b, bucket.Lower)
		b = append(b, ',')
		b = AppendFloat(b, bucket.Upper)
		b = append(b, ',')
		b = AppendFloat(b, bucket.Count)
		b = append(b, ']')
	}
	if found {
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendScalar appends [seconds, "value"] of a scalar, whose timestamp and value Prometheus writes by
// encoding/json and so without padding and without exponents.
func appendScalar(b []byte, ms int64, v float64) []byte {
	b = append(b, '[')
	b = strconv.AppendFloat(b, float64(ms)/1000, 'f', -1, 64)
	b = append(b, ',', '"')
	b = strconv.AppendFloat(b, v, 'f', -1, 64)
	return append(b, '"', ']')
}

// appendStringValue appends [seconds, "text"] of a PromQL string.
func appendStringValue(b []byte, ms int64, v string) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return b, err
	}
	b = append(b, '[')
	b = strconv.AppendFloat(b, float64(ms)/1000, 'f', -1, 64)
	b = append(b, ',')
	b = append(b, text...)
	return append(b, ']'), nil
}

func appendPoint(b []byte, ms int64, f float64) []byte {
	b = AppendTimestamp(append(b, '['), ms)
	b = AppendFloat(append(b, ','), f)
	return append(b, ']')
}

func appendHistogramPoint(b []byte, ms int64, h *histogram.FloatHistogram) []byte {
	b = AppendTimestamp(append(b, '['), ms)
	b = AppendHistogram(append(b, ','), h)
	return append(b, ']')
}
