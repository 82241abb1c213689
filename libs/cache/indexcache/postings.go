package indexcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
)

// Formats of postings, told apart by three letters at the front of the value. After them come the references of the series
// in ascending order, each as the uvarint of its distance to the one before (the first: to zero), compressed.
const (
	codecStream = "dss" // by the snappy framing format: what is written
	codecBlock  = "dvs" // as one snappy block: older, still read
)

// The snappy framing format (framing_format.txt of google/snappy).
const (
	chunkCompressed   = 0x00
	chunkUncompressed = 0x01
	chunkStreamID     = 0xff
	firstSkippable    = 0x80
	streamID          = "sNaPpY"
	chunkHeaderLen    = 4 // type, 3 bytes length, little endian
	chunkCRCLen       = 4
	maxChunkContent   = 65536 // uncompressed
	crcMask           = 0xa282ead8
	// maxBlockRatio bounds what a snappy block can unfold to: its densest element makes 64 bytes out of three.
	maxBlockRatio = 22
)

// ErrCorrupt is wrapped by errors about values that are no postings. The value is of no use; fetch the original.
var ErrCorrupt = errors.New("corrupt postings")

// castagnoli is the polynomial of the checksums; the table is cached by the standard library.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// EncodePostings encodes all that is left in p, for StorePostings and StoreExpandedPostings. sizeHint is about how many
// references there are. References must ascend; one that does not, or an error of p, is returned.
func EncodePostings(p index.Postings, sizeHint int) ([]byte, error) {
	e := encoder{out: make([]byte, 0, len(codecStream)+chunkHeaderLen+len(streamID)+chunkHeaderLen+chunkCRCLen+sizeHint*5/4)}
	e.out = append(e.out, codecStream...)
	e.out = append(e.out, chunkStreamID, byte(len(streamID)), 0, 0)
	e.out = append(e.out, streamID...)
	e.block = make([]byte, 0, min(maxChunkContent, sizeHint*2+binary.MaxVarintLen64))

	var last uint64
	for first := true; p.Next(); first = false {
		ref := uint64(p.At())
		if !first && ref <= last {
			return nil, fmt.Errorf("encode postings: reference %d after %d", ref, last)
		}
		if len(e.block)+binary.MaxVarintLen64 > maxChunkContent {
			e.flush()
		}
		e.block = binary.AppendUvarint(e.block, ref-last)
		last = ref
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("encode postings: %w", err)
	}
	e.flush()
	return e.out, nil
}

type encoder struct {
	out, block, compressed []byte
}

// flush writes the block as a chunk, compressed if that gains an eighth.
func (e *encoder) flush() {
	if len(e.block) == 0 {
		return
	}
	if e.compressed == nil {
		e.compressed = make([]byte, s2.MaxEncodedLen(cap(e.block)))
	}
	kind, content := byte(chunkCompressed), s2.EncodeSnappy(e.compressed[:cap(e.compressed)], e.block)
	if len(content) >= len(e.block)-len(e.block)/8 {
		kind, content = chunkUncompressed, e.block
	}
	n := len(content) + chunkCRCLen
	e.out = append(e.out, kind, byte(n), byte(n>>8), byte(n>>16))
	e.out = binary.LittleEndian.AppendUint32(e.out, maskedCRC(e.block))
	e.out = append(e.out, content...)
	e.block = e.block[:0]
}

func maskedCRC(b []byte) uint32 {
	crc := crc32.Checksum(b, castagnoli())
	return (crc>>15 | crc<<17) + crcMask
}

// DecodePostings returns the references in an encoded value, in either format, without unfolding all of it at once: what
// is needed is 64 KiB at most for "dss". The value must stay as it is meanwhile. Errors come from Err and wrap ErrCorrupt.
// The result is for one goroutine.
func DecodePostings(value []byte) index.Postings {
	if len(value) < len(codecStream) {
		return index.ErrPostings(fmt.Errorf("%w: %d bytes", ErrCorrupt, len(value)))
	}
	codec, body := string(value[:len(codecStream)]), value[len(codecStream):]
	switch codec {
	case codecStream:
		return &decoder{src: body}
	case codecBlock:
		n, err := s2.DecodedLen(body)
		if err == nil && n > maxBlockRatio*len(body) {
			err = fmt.Errorf("%d bytes cannot hold %d", len(body), n)
		}
		if err != nil {
			return index.ErrPostings(fmt.Errorf("%w: %w", ErrCorrupt, err))
		}
		block, err := s2.Decode(nil, body)
		if err != nil {
			return index.ErrPostings(fmt.Errorf("%w: %w", ErrCorrupt, err))
		}
		return &decoder{block: block, identified: true}
	}
	return index.ErrPostings(fmt.Errorf("%w: unknown format %q", ErrCorrupt, codec))
}

// decoder walks through encoded postings.
type decoder struct {
	src        []byte // chunks not yet looked at
	identified bool   // whether the stream has begun as it must
	buf        []byte // holds unfolded chunks
	block      []byte // what is left of the unfolded chunk
	ref        uint64
	started    bool // ref is a reference
	ended      bool
	err        error
}

var _ index.Postings = (*decoder)(nil)

func (d *decoder) At() storage.SeriesRef { return storage.SeriesRef(d.ref) }

func (d *decoder) Err() error { return d.err }

func (d *decoder) Seek(ref storage.SeriesRef) bool {
	if d.started && !d.ended && d.err == nil && d.ref >= uint64(ref) {
		return true
	}
	for d.Next() {
		if d.ref >= uint64(ref) {
			return true
		}
	}
	return false
}

func (d *decoder) Next() bool {
	if d.err != nil {
		return false
	}
	delta, n := binary.Uvarint(d.block)
	if n > 0 {
		d.block = d.block[n:]
	} else if n < 0 {
		return d.fail("a number of more than 64 bits")
	} else {
		var ok bool
		if delta, ok = d.across(); !ok {
			return false
		}
	}
	if d.started && delta == 0 {
		return d.fail("a reference twice")
	}
	if d.ref+delta < d.ref {
		return d.fail("a reference of more than 64 bits")
	}
	d.started = true
	d.ref += delta
	return true
}

// across reads a number that lies in two chunks or more, or finds the end.
func (d *decoder) across() (uint64, bool) {
	var number [binary.MaxVarintLen64]byte
	for n := 0; n < len(number); {
		if len(d.block) == 0 {
			if len(d.src) == 0 {
				if n > 0 {
					return 0, d.fail("the end amid a number")
				}
				d.ended = true
				return 0, false
			}
			if !d.unfold() {
				return 0, false
			}
			continue
		}
		number[n] = d.block[0]
		d.block = d.block[1:]
		n++
		if number[n-1] < 0x80 {
			value, used := binary.Uvarint(number[:n])
			if used <= 0 {
				return 0, d.fail("a number of more than 64 bits")
			}
			return value, true
		}
	}
	return 0, d.fail("a number of more than 64 bits")
}

// unfold takes the next chunk of the stream, which may hold nothing.
func (d *decoder) unfold() bool {
	if len(d.src) < chunkHeaderLen {
		return d.fail("the end amid a chunk")
	}
	kind := d.src[0]
	n := int(d.src[1]) | int(d.src[2])<<8 | int(d.src[3])<<16
	if n > len(d.src)-chunkHeaderLen {
		return d.fail("the end amid a chunk")
	}
	content := d.src[chunkHeaderLen : chunkHeaderLen+n]
	d.src = d.src[chunkHeaderLen+n:]
	switch {
	case kind == chunkStreamID:
		if string(content) != streamID {
			return d.fail("not a snappy stream")
		}
		d.identified = true
		return true
	case !d.identified:
		return d.fail("not a snappy stream")
	case kind >= firstSkippable:
		return true
	case kind != chunkCompressed && kind != chunkUncompressed:
		return d.fail("an unknown chunk")
	case n < chunkCRCLen:
		return d.fail("a chunk without checksum")
	}
	want := binary.LittleEndian.Uint32(content)
	block := content[chunkCRCLen:]
	if kind == chunkCompressed {
		size, err := s2.DecodedLen(block)
		if err != nil || size > maxChunkContent {
			return d.fail("a chunk of a wrong size")
		}
		if cap(d.buf) < size {
			d.buf = make([]byte, size)
		}
		if block, err = s2.Decode(d.buf[:size], block); err != nil {
			return d.fail(err.Error())
		}
	} else if len(block) > maxChunkContent {
		return d.fail("a chunk of a wrong size")
	}
	if maskedCRC(block) != want {
		return d.fail("a wrong checksum")
	}
	d.block = block
	return true
}

func (d *decoder) fail(what string) bool {
	d.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	d.src, d.block = nil, nil
	return false
}
