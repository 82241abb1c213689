package blockread

import (
	"encoding/binary"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
)

// chunkRef is a chunk as the index lists it.
type chunkRef struct {
	mint, maxt int64
	ref        uint64
	// size is the whole chunk's, framing included; 0 when only reading tells.
	size uint32
}

func (c *chunkRef) segment() int  { return int(c.ref >> 32) }
func (c *chunkRef) offset() int64 { return int64(uint32(c.ref)) }

// entryDecoder takes series entries apart. Its label set is the one the store shows:
// external labels set over inner ones, removed labels gone.
type entryDecoder struct {
	symbols *indexheader.Symbols
	ext     []labels.Label // sorted, without the removed
	without []string
	rest    []*labels.Matcher

	inner   []labels.Label
	builder labels.ScratchBuilder
}

// numbers reads varints off a series entry. The first bad one ends it.
type numbers struct {
	b   []byte
	bad bool
}

func (n *numbers) uvarint() uint64 {
	v, k := binary.Uvarint(n.b)
	if k <= 0 {
		n.bad, n.b = true, nil
		return 0
	}
	n.b = n.b[k:]
	return v
}

func (n *numbers) varint() int64 {
	v, k := binary.Varint(n.b)
	if k <= 0 {
		n.bad, n.b = true, nil
		return 0
	}
	n.b = n.b[k:]
	return v
}

// labels decodes the label part and leaves the chunk part in n. ok is false where a
// matcher that is left rejects the series; then there is no label set.
func (d *entryDecoder) labels(n *numbers) (lset labels.Labels, ok bool, err error) {
	d.inner = d.inner[:0]
	count := n.uvarint()
	for range count {
		name, value := uint32(n.uvarint()), uint32(n.uvarint())
		if n.bad {
			return lset, false, fmt.Errorf("%w: labels of a series entry", ErrCorrupt)
		}
		var l labels.Label
		if l.Name, err = d.symbols.Lookup(name); err != nil {
			return lset, false, err
		}
		if l.Value, err = d.symbols.Lookup(value); err != nil {
			return lset, false, err
		}
		d.inner = append(d.inner, l)
	}
	for _, m := range d.rest {
		if !m.Matches(d.innerValue(m.Name)) {
			return lset, false, nil
		}
	}
	return d.extend(), true, nil
}

func (d *entryDecoder) innerValue(name string) string {
	for _, l := range d.inner {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// extend merges external into inner labels; both are sorted. It is what
// storeapi.Extender does, without making the inner label set first.
func (d *entryDecoder) extend() labels.Labels {
	d.builder.Reset()
	ext := d.ext
	for _, l := range d.inner {
		for len(ext) > 0 && ext[0].Name < l.Name {
			d.builder.Add(ext[0].Name, ext[0].Value)
			ext = ext[1:]
		}
		if len(ext) > 0 && ext[0].Name == l.Name || d.removes(l.Name) {
			continue
		}
		d.builder.Add(l.Name, l.Value)
	}
	for _, l := range ext {
		d.builder.Add(l.Name, l.Value)
	}
	return d.builder.Labels()
}

func (d *entryDecoder) removes(name string) bool {
	for _, r := range d.without {
		if r == name {
			return true
		}
	}
	return false
}

// appendChunks decodes the chunk part and appends the chunks that overlap [mint, maxt].
//
// Chunks of a series are written one behind the other, so that each ends where the next
// one begins; only the last one's size stays unknown.
func appendChunks(dst []chunkRef, n *numbers, mint, maxt int64) ([]chunkRef, error) {
	count := n.uvarint()
	if count == 0 {
		if n.bad {
			return dst, fmt.Errorf("%w: chunk count of a series entry", ErrCorrupt)
		}
		return dst, nil
	}
	start := n.varint()
	end := start + int64(n.uvarint())
	ref := int64(n.uvarint())
	for i := uint64(0); ; i++ {
		if n.bad {
			return dst, fmt.Errorf("%w: chunks of a series entry", ErrCorrupt)
		}
		kept := start <= maxt && end >= mint
		if kept {
			dst = append(dst, chunkRef{mint: start, maxt: end, ref: uint64(ref)})
		}
		if i+1 == count {
			return dst, nil
		}
		start = end + int64(n.uvarint())
		end = start + int64(n.uvarint())
		delta := n.varint()
		if kept && delta > 0 && delta < maxChunkBytes {
			dst[len(dst)-1].size = uint32(delta)
		}
		ref += delta
	}
}

// maxChunkBytes bounds what is taken for a chunk. A length beyond it is damage.
const maxChunkBytes = 32 << 20
