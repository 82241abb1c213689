package merge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// errCutOff says that a chunk claims more samples than it has.
var errCutOff = errors.New("XOR chunk is cut off")

// point is a float sample.
type point struct {
	t int64
	v float64
}

// xorPadding is how many bytes can be loaded behind the end of a chunk.
const xorPadding = 16

// xorReader decodes whole XOR chunks. It keeps a copy with room behind it, so that eight
// bytes can be loaded anywhere.
type xorReader struct {
	buf []byte
}

// peek returns the bits from pos on, at the top; at least 57 of them are there.
func (r *xorReader) peek(pos uint) uint64 {
	return binary.BigEndian.Uint64(r.buf[pos>>3:]) << (pos & 7)
}

// bits returns n bits from pos on, n at most 64.
func (r *xorReader) bits(pos, n uint) uint64 {
	if n <= 57 {
		return r.peek(pos) >> (64 - n)
	}
	hi := r.peek(pos) >> 32
	return hi<<(n-32) | r.peek(pos+32)>>(96-n)
}

// read appends the samples of data that are newer than the last of dst.
func (r *xorReader) read(data []byte, dst []point) ([]point, error) {
	if len(data) < 2 {
		return dst, errCutOff
	}
	n := int(binary.BigEndian.Uint16(data))
	if n == 0 {
		return dst, nil
	}
	last := int64(math.MinInt64)
	if len(dst) > 0 {
		last = dst[len(dst)-1].t
	}
	r.buf = append(append(r.buf[:0], data...), make([]byte, xorPadding)...)
	end := uint(len(data)) * 8
	t, k := binary.Varint(data[2:])
	if k <= 0 {
		return dst, errCutOff
	}
	pos := uint(2+k) * 8
	if pos+64 > end {
		return dst, errCutOff
	}
	v := r.bits(pos, 64)
	pos += 64
	if t > last {
		dst = append(dst, point{t, math.Float64frombits(v)})
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
				return dst, errCutOff
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
						return dst, errCutOff
					}
					if t > last {
						dst = append(dst, point{t, math.Float64frombits(v)})
						last = t
					}
					continue
				}
				if w>>61 == 0b010 && size <= 54 && pos+3+uint(size) <= end {
					v ^= w << 3 >> (64 - size) << trailing
					t += int64(delta)
					pos += 3 + uint(size)
					if t > last {
						dst = append(dst, point{t, math.Float64frombits(v)})
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
			return dst, errCutOff
		}
		w := r.peek(pos)
		switch {
		case w>>63 == 0:
			pos++
		case w>>62 == 0b10:
			pos += 2
			if pos+uint(size) > end {
				return dst, errCutOff
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
				return dst, errCutOff
			}
			v ^= r.bits(pos, uint(size)) << trailing
			pos += uint(size)
		}
		if pos > end {
			return dst, errCutOff
		}
		if t > last {
			dst = append(dst, point{t, math.Float64frombits(v)})
			last = t
		}
	}
	return dst, nil
}

// time reads the change of the distance between samples at pos. Where there is nothing to
// read any more it finds zeroes, and pos tells.
func (r *xorReader) time(pos uint) (int64, uint) {
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
		if pos>>3+xorPadding > uint(len(r.buf)) {
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

// pointIterator iterates over decoded samples.
type pointIterator struct {
	points []point
	i      int // of the current sample, -1 before the first
	err    error
}

var _ chunkenc.Iterator = (*pointIterator)(nil)

func (p *pointIterator) at() chunkenc.ValueType {
	if p.i < len(p.points) {
		return chunkenc.ValFloat
	}
	return chunkenc.ValNone
}

// Next implements chunkenc.Iterator.
func (p *pointIterator) Next() chunkenc.ValueType {
	if p.i < len(p.points) {
		p.i++
	}
	return p.at()
}

// Seek implements chunkenc.Iterator. It is asked for samples nearby.
func (p *pointIterator) Seek(t int64) chunkenc.ValueType {
	if p.i < 0 {
		p.i = 0
	}
	for p.i < len(p.points) && p.points[p.i].t < t {
		p.i++
	}
	return p.at()
}

func (p *pointIterator) current() point {
	if len(p.points) == 0 {
		return point{t: math.MinInt64}
	}
	return p.points[min(max(p.i, 0), len(p.points)-1)]
}

// At implements chunkenc.Iterator.
func (p *pointIterator) At() (int64, float64) { c := p.current(); return c.t, c.v }

// AtT implements chunkenc.Iterator.
func (p *pointIterator) AtT() int64 { return p.current().t }

// AtHistogram implements chunkenc.Iterator; it is never announced.
func (p *pointIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return p.AtT(), nil
}

// AtFloatHistogram implements chunkenc.Iterator; it is never announced.
func (p *pointIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return p.AtT(), nil
}

// Err implements chunkenc.Iterator.
func (p *pointIterator) Err() error { return p.err }
