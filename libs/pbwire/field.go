// Package pbwire walks protobuf messages field by field without building them:
// for messages that pass through, or of which only parts are wanted as slices of
// the bytes they came in.
package pbwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Tags of length-delimited, varint and fixed-size fields are Number<<3 | type.
const (
	Varint  = 0
	Fixed64 = 1
	Bytes   = 2
	Fixed32 = 5
)

// ErrTruncated says that a message ends in the middle of a field.
var ErrTruncated = errors.New("message ends early")

// Field is one field of a message.
type Field struct {
	// Tag is the field number << 3 | wire type.
	Tag uint64
	// Val is the content of a length-delimited field. It aliases the message and
	// has no spare capacity.
	Val []byte
	// V is the value of a varint or fixed-size field.
	V uint64
}

// Next reads the field at the start of data and returns what follows it. It
// returns ErrTruncated, or an error that names the wire type nobody knows.
func (f *Field) Next(data []byte) (rest []byte, err error) {
	tag, n := Uvarint(data)
	if n <= 0 || tag>>3 == 0 {
		return nil, ErrTruncated
	}
	data = data[n:]
	f.Tag, f.Val, f.V = tag, nil, 0
	switch tag & 7 {
	case 2:
		size, n := Uvarint(data)
		if n <= 0 || size > uint64(len(data)-n) {
			return nil, ErrTruncated
		}
		end := n + int(size)
		f.Val = data[n:end:end]
		return data[end:], nil
	case 0:
		if f.V, n = Uvarint(data); n <= 0 {
			return nil, ErrTruncated
		}
		return data[n:], nil
	case 1:
		if len(data) < 8 {
			return nil, ErrTruncated
		}
		f.V = binary.LittleEndian.Uint64(data)
		return data[8:], nil
	case 5:
		if len(data) < 4 {
			return nil, ErrTruncated
		}
		f.V = uint64(binary.LittleEndian.Uint32(data))
		return data[4:], nil
	}
	return nil, fmt.Errorf("wire type %d of field %d is unknown", tag&7, tag>>3)
}

// Uvarint is binary.Uvarint with a short cut for one byte.
func Uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}
