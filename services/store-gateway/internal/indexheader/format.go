package indexheader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/prometheus/prometheus/tsdb/index"
)

const (
	// Filename is the name of the file in the folder of its block.
	Filename = "index-header"

	magic         = 0xBAAAD792
	headerVersion = 1
	headLen       = 4 + 1 + 1 + 8
	footerLen     = 8 + 8 + 4

	indexHeadLen = index.HeaderLen
	tocLen       = 6*8 + 4

	maxFileSize = 64 << 30
)

// ErrCorrupt says that the index, or the header made of it, cannot be right. For a
// header on disk it means: build it anew. For an index in the bucket it means that
// the block is broken.
var ErrCorrupt = errors.New("corrupt index")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bytesOf presents a table of contents to the parser that wants a whole index.
type bytesOf []byte

func (b bytesOf) Len() int                    { return len(b) }
func (b bytesOf) Range(start, end int) []byte { return b[start:end] }

// parseTOC reads the table of contents that ends an index of the given size.
func parseTOC(tail []byte, size int64) (*index.TOC, error) {
	toc, err := index.NewTOCFromByteSlice(bytesOf(tail))
	if err != nil {
		return nil, fmt.Errorf("%w: truncated, or its table of contents is damaged: %w", ErrCorrupt, err)
	}
	end := uint64(size - tocLen)
	if toc.Symbols < indexHeadLen || toc.Series < toc.Symbols || toc.Series > end ||
		toc.PostingsTable < indexHeadLen || toc.PostingsTable > end {
		return nil, fmt.Errorf("%w: table of contents %+v does not fit an index of %d bytes", ErrCorrupt, *toc, size)
	}
	return toc, nil
}

// appendHead appends what comes before the symbols.
func appendHead(b []byte, indexVersion byte, postingsTable uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, magic)
	b = append(b, headerVersion, indexVersion)
	return binary.BigEndian.AppendUint64(b, postingsTable)
}

// appendFooter appends what comes after the postings offset table.
func appendFooter(b []byte, tableStart uint64) []byte {
	n := len(b)
	b = binary.BigEndian.AppendUint64(b, headLen)
	b = binary.BigEndian.AppendUint64(b, tableStart)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[n:], castagnoli))
}
