// Package xorchunk encodes and decodes the chunks of float samples that most of a block is
// made of, whole chunks at a time: several times as fast as sample by sample.
//
// Format: Prometheus TSDB, tsdb/docs/format/chunks.md, XOR chunk data; after Gorilla
// (Pelkonen et al., VLDB 2015).
package xorchunk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCutOff says that a chunk claims more samples than it has.
var ErrCutOff = errors.New("XOR chunk is cut off")

// Point is a float sample: a time in Unix milliseconds, and a value.
type Point struct {
	T int64
	V float64
}

// padding is how many bytes can be loaded behind the end of a chunk.
const padding = 16

// Reader decodes whole XOR chunks. It keeps a copy with room behind it, so that eight
// bytes can be loaded anywhere. The zero value is ready. Not safe for concurrent use.
type Reader struct {
	buf []byte
}

// peek returns the bits from pos on, at the top; at least 57 of them are there.
func (r *Reader) peek(pos uint) uint64 {
	return binary.BigEndian.Uint64(r.buf[pos>>3:]) << (pos & 7)
}

// bits returns n bits from pos on, n at most 64.
func (r *Reader) bits(pos, n uint) uint64 {
	if n <= 57 {
		return r.peek(pos) >> (64 - n)
	}
	hi := r.peek(pos) >> 32
	return hi<<(n-32) | r.peek(pos+32)>>(96-n)
}

// Append appends the samples of the chunk whose payload is data to dst, those that are newer
// than the last of dst. It returns an error where data are no such chunk, which wraps
// ErrCutOff where they end too early; what was read until then is in the result.
func (r *Reader) Append(dst []Point, data []byte) ([]Point, error) {
	if len(data) < 2 {
		return dst, ErrCutOff
	}
	n := int(binary.BigEndian.Uint16(data))
	if n == 0 {
		return dst, nil
	}
	last := int64(math.MinInt64)
	if len(dst) > 0 {
		last = dst[len(dst)-1].T
	}
	r.buf = append(append(r.buf[:0], data...), make([]byte, padding)...)
	end := uint(len(data)) * 8
	t, k := binary.Varint(data[2:])
	if k <= 0 {
		return dst, ErrCutOff
	}
	pos := uint(2+k) * 8
	if pos+64 > end {
		return dst, ErrCutOff
	}
	v := r.bits(pos, 64)
	pos += 64
	if t > last {
		dst = append(dst, Point{t, math.Float64frombits(v)})
		last = t
	}
	var delta, leading, size, trailing uint64
	size = 64
	buf := r.buf
	for i := 1; i < n; i++ {
		if i == 1 {
			// Values follow without a gap, so the varint is on a byte.
			d, k := binary.Uvarint(data[pos/8:])
			if k <= 0 {
				return dst, ErrCutOff
			}
			delta = d
			pos += uint(k) * 8
		} else {
			// Most samples come at the same distance as the one before, and are the same or
			// change in the same bits: one load has it all.
			if at := pos >> 3; pos < end && at+8 <= uint(len(buf)) {
				w := binary.BigEndian.Uint64(buf[at:]) << (pos & 7)
				if w>>62 == 0 {
					t += int64(delta)
					pos += 2
					if pos > end {
						return dst, ErrCutOff
					}
					if t > last {
						dst = append(dst, Point{t, math.Float64frombits(v)})
						last = t
					}
					continue
				}
				if w>>61 == 0b010 && size <= 54 && pos+3+uint(size) <= end {
					v ^= w << 3 >> (64 - size) << trailing
					t += int64(delta)
					pos += 3 + uint(size)
					if t > last {
						dst = append(dst, Point{t, math.Float64frombits(v)})
						last = t
					}
					continue
				}
			}
			var dod int64
			dod, pos = r.time(pos)
			delta += uint64(dod)
		}
		t += int64(delta)
		if pos >= end {
			return dst, ErrCutOff
		}
		w := r.peek(pos)
		switch {
		case w>>63 == 0:
			pos++
		case w>>62 == 0b10:
			pos += 2
			if pos+uint(size) > end {
				return dst, ErrCutOff
			}
			v ^= r.bits(pos, uint(size)) << trailing
			pos += uint(size)
		default:
			leading = w << 2 >> 59
			size = w << 7 >> 58
			if size == 0 {
				size = 64
			}
			if leading+size > 64 {
				return dst, fmt.Errorf("XOR chunk has a value of %d bits behind %d zeroes", size, leading)
			}
			trailing = 64 - leading - size
			pos += 13
			if pos+uint(size) > end {
				return dst, ErrCutOff
			}
			v ^= r.bits(pos, uint(size)) << trailing
			pos += uint(size)
		}
		if pos > end {
			return dst, ErrCutOff
		}
		if t > last {
			dst = append(dst, Point{t, math.Float64frombits(v)})
			last = t
		}
	}
	return dst, nil
}

// time reads the change of the distance between samples at pos. Where there is nothing to
// read any more it finds zeroes, and pos tells.
func (r *Reader) time(pos uint) (int64, uint) {
	if pos>>3+8 > uint(len(r.buf)) {
		return 0, pos + 1
	}
	w := r.peek(pos)
	var n, prefix uint
	switch {
	case w>>63 == 0:
		return 0, pos + 1
	case w>>62 == 0b10:
		n, prefix = 14, 2
	case w>>61 == 0b110:
		n, prefix = 17, 3
	case w>>60 == 0b1110:
		n, prefix = 20, 4
	default:
		if pos>>3+padding > uint(len(r.buf)) {
			return 0, uint(len(r.buf)) * 8
		}
		return int64(r.bits(pos+4, 64)), pos + 68
	}
	u := w << prefix >> (64 - n)
	if u > 1<<(n-1) {
		u -= 1 << n
	}
	return int64(u), pos + prefix + n
}
