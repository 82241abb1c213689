package remotewrite

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/promontory-io/promontory/libs/pbwire"
)

func appendVarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func varintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// appendBytes appends a length-delimited field.
func appendBytes[T ~string | ~[]byte](b []byte, tag byte, v T) []byte {
	b = append(b, tag)
	b = appendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// appendLabel appends a label message as a field.
func appendLabel[T ~string | ~[]byte](b []byte, tag byte, name, value T) []byte {
	size := 2 + varintSize(uint64(len(name))) + len(name) + varintSize(uint64(len(value))) + len(value)
	b = append(b, tag)
	b = appendVarint(b, uint64(size))
	b = appendBytes(b, nameTag, name)
	return appendBytes(b, valueTag, value)
}

// AppendLabels appends the label fields of a series.
func AppendLabels(b []byte, lset labels.Labels) []byte {
	lset.Range(func(l labels.Label) { b = appendLabel(b, tagLabel, l.Name, l.Value) })
	return b
}

// AppendSample appends a float sample to the body of a series; start is left out when 0.
func AppendSample(b []byte, t int64, v float64, start int64) []byte {
	size := 10 + varintSize(uint64(t))
	if start != 0 {
		size += 1 + varintSize(uint64(start))
	}
	b = append(b, tagSample, byte(size), 1<<3|pbwire.Fixed64)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	b = append(b, 2<<3|pbwire.Varint)
	b = appendVarint(b, uint64(t))
	if start != 0 {
		b = append(b, 3<<3|pbwire.Varint)
		b = appendVarint(b, uint64(start))
	}
	return b
}

// AppendHistogram appends a native histogram to the body of a series.
func AppendHistogram(b []byte, h *writev2.Histogram) ([]byte, error) {
	msg, err := h.Marshal()
	if err != nil {
		return b, err
	}
	return appendBytes(b, tagHistogram, msg), nil
}

// AppendExemplar appends an exemplar to the body of a series.
func AppendExemplar(b []byte, e exemplar.Exemplar) []byte {
	var msg []byte
	e.Labels.Range(func(l labels.Label) { msg = appendLabel(msg, nameTag, l.Name, l.Value) })
	msg = append(msg, 2<<3|pbwire.Fixed64)
	msg = binary.LittleEndian.AppendUint64(msg, math.Float64bits(e.Value))
	msg = append(msg, 3<<3|pbwire.Varint)
	msg = appendVarint(msg, uint64(e.Ts))
	return appendBytes(b, tagExemplar, msg)
}

// AppendSeries appends the series as field 1 of the message around it.
func AppendSeries(b []byte, s *Series) []byte {
	b = append(b, 1<<3|pbwire.Bytes)
	b = appendVarint(b, uint64(len(s.Labels)+len(s.Body)))
	return append(append(b, s.Labels...), s.Body...)
}
