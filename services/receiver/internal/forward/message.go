package forward

import (
	"encoding/binary"
	"fmt"
	"sync"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec to fall back on
	"google.golang.org/grpc/mem"

	"github.com/promontory-io/promontory/libs/pbwire"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// Fields of WriteRequest and of TimeSeriesTenantTuple. Metadata is an addition of ours, which peers that do
// not know it skip: repeated {1 tenant, 2 rep MetricMetadata}.
const (
	tagSeries   = 1<<3 | pbwire.Bytes
	tagTenant   = 2<<3 | pbwire.Bytes
	tagReplica  = 3<<3 | pbwire.Varint
	tagTuple    = 4<<3 | pbwire.Bytes
	tagMetadata = 1000<<3 | pbwire.Bytes
)

// TenantSeries is what one tenant wrote.
type TenantSeries struct {
	Tenant   string
	Series   []remotewrite.Series
	Metadata []remotewrite.Metadata
	// Pick names the series that are meant; nil is all of them.
	Pick []uint32
}

func (t *TenantSeries) count() int {
	if t.Pick != nil {
		return len(t.Pick)
	}
	return len(t.Series)
}

func (t *TenantSeries) at(i int) *remotewrite.Series {
	if t.Pick != nil {
		return &t.Series[t.Pick[i]]
	}
	return &t.Series[i]
}

// seriesBytes is the size of the series as fields.
func (t *TenantSeries) seriesBytes() (n int) {
	for i := range t.count() {
		s := t.at(i)
		size := len(s.Labels) + len(s.Body)
		n += 1 + varintSize(uint64(size)) + size
	}
	return n
}

func varintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// outgoing is a WriteRequest that is written straight from series.
type outgoing struct {
	parts   []TenantSeries
	replica int64
	// tuples writes field 4, which holds several tenants and which old releases do not know; else there
	// is one part, in fields 1 and 2, which all releases read.
	tuples bool
	// shared, where it is set, is the encoded form that this message has in common with others.
	shared *shared
}

func (o *outgoing) size() (n int) {
	for i := range o.parts {
		p := &o.parts[i]
		n += p.seriesBytes() + len(p.Tenant) + 16
		for _, m := range p.Metadata {
			n += len(m.Family) + len(m.Help) + len(m.Unit) + 32
		}
	}
	return n + 16
}

func (o *outgoing) appendTo(b []byte) []byte {
	for i := range o.parts {
		p := &o.parts[i]
		if o.tuples {
			b = append(b, tagTuple)
			b = binary.AppendUvarint(b, uint64(p.seriesBytes()+1+varintSize(uint64(len(p.Tenant)))+len(p.Tenant)))
		}
		for j := range p.count() {
			b = remotewrite.AppendSeries(b, p.at(j))
		}
		b = appendString(b, tagTenant, p.Tenant)
		if len(p.Metadata) > 0 {
			b = appendMetadata(b, p)
		}
	}
	if o.replica != 0 {
		b = append(b, tagReplica)
		b = binary.AppendUvarint(b, uint64(o.replica))
	}
	return b
}

func appendString(b []byte, tag byte, s string) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendMetadata(b []byte, p *TenantSeries) []byte {
	msg := appendString(nil, 1<<3|pbwire.Bytes, p.Tenant)
	for _, m := range p.Metadata {
		msg = appendString(msg, 2<<3|pbwire.Bytes, string(remotewrite.AppendMetadata(nil, m)))
	}
	b = binary.AppendUvarint(b, tagMetadata)
	b = binary.AppendUvarint(b, uint64(len(msg)))
	return append(b, msg...)
}

// Message is a WriteRequest as it came. It aliases memory of its own until Free.
type Message struct {
	Parts []TenantSeries
	// Replica is the 1-based number of the copy that this is, 0 for a write that was not replicated.
	Replica int64

	buf *messageBuffer
}

// messageBuffer is the memory of a message: its bytes, and the series of its first tenant.
type messageBuffer struct {
	data   []byte
	series []remotewrite.Series
}

var messageBuffers = sync.Pool{New: func() any { return new(messageBuffer) }}

// maxKept is the largest buffer that is kept for the next message.
const maxKept = 8 << 20

// UnmarshalVT makes Message one of the messages that the servers' codec decodes.
func (m *Message) UnmarshalVT(data []byte) error {
	m.buf = messageBuffers.Get().(*messageBuffer)
	m.buf.data = append(m.buf.data[:0], data...)
	return m.parse(m.buf.data)
}

// SizeVT and MarshalToSizedBufferVT belong to what the codec asks for; a Message is only received.
func (*Message) SizeVT() int { return 0 }

// MarshalToSizedBufferVT refuses, see SizeVT.
func (*Message) MarshalToSizedBufferVT([]byte) (int, error) {
	return 0, fmt.Errorf("%T is never sent", (*Message)(nil))
}

// Free gives the memory back. Nothing of the message may be in use.
func (m *Message) Free() {
	if m.buf != nil && cap(m.buf.data) <= maxKept {
		messageBuffers.Put(m.buf)
	}
	*m = Message{}
}

// parse reads both forms. Field 4 counts where it is there, as with every other peer.
func (m *Message) parse(data []byte) error {
	var f pbwire.Field
	var single TenantSeries
	var metadata []TenantSeries
	if m.buf != nil {
		single.Series = m.buf.series[:0]
		defer func() { m.buf.series = single.Series }()
	}
	for rest := data; len(rest) > 0; {
		next, err := f.Next(rest)
		if err != nil {
			return fmt.Errorf("%w: write request: %w", remotewrite.ErrMalformed, err)
		}
		rest = next
		switch f.Tag {
		case tagSeries:
			if err := single.add(f.Val); err != nil {
				return err
			}
		case tagTenant:
			single.Tenant = string(f.Val)
		case tagReplica:
			m.Replica = int64(f.V)
		case tagTuple:
			p, err := parseTuple(f.Val)
			if err != nil {
				return err
			}
			m.Parts = append(m.Parts, p)
		case tagMetadata:
			p, err := parseTenantMetadata(f.Val)
			if err != nil {
				return err
			}
			metadata = append(metadata, p)
		}
	}
	if len(m.Parts) == 0 && len(single.Series) > 0 {
		m.Parts = append(m.Parts, single)
	}
	m.Parts = append(m.Parts, metadata...)
	return nil
}

func (t *TenantSeries) add(msg []byte) error {
	s, err := remotewrite.ParseSeries(msg)
	if err != nil {
		return err
	}
	t.Series = append(t.Series, s)
	return nil
}

func parseTuple(b []byte) (p TenantSeries, err error) {
	var f pbwire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return p, fmt.Errorf("%w: tenant's series: %w", remotewrite.ErrMalformed, err)
		}
		switch f.Tag {
		case tagSeries:
			if err := p.add(f.Val); err != nil {
				return p, err
			}
		case tagTenant:
			p.Tenant = string(f.Val)
		}
	}
	return p, nil
}

func parseTenantMetadata(b []byte) (p TenantSeries, err error) {
	var f pbwire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return p, fmt.Errorf("%w: metadata: %w", remotewrite.ErrMalformed, err)
		}
		switch f.Tag {
		case 1<<3 | pbwire.Bytes:
			p.Tenant = string(f.Val)
		case 2<<3 | pbwire.Bytes:
			m, err := remotewrite.ParseMetadata(f.Val)
			if err != nil {
				return p, err
			}
			p.Metadata = append(p.Metadata, m)
		}
	}
	return p, nil
}

// codec sends outgoing messages; answers, which are empty, go to gRPC's own.
type codec struct {
	fallback encoding.CodecV2
}

func newCodec() codec { return codec{fallback: encoding.GetCodecV2("proto")} }

// Name is proto, so that the content type is that of every other peer.
func (codec) Name() string { return "proto" }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	o, ok := v.(*outgoing)
	if !ok {
		return c.fallback.Marshal(v)
	}
	buf := outgoingBuffers.Get(o.size())
	*buf = o.appendTo((*buf)[:0])
	return mem.BufferSlice{mem.NewBuffer(buf, outgoingBuffers)}, nil
}

// outgoingBuffers is where messages are written. gRPC's own pool clears the whole of a buffer each time, which is
// a megabyte for a message of some hundred kilobytes.
var outgoingBuffers mem.BufferPool = new(bufferPool) //nolint:gochecknoglobals // memory for reuse

type bufferPool struct{ pool sync.Pool }

// Get implements mem.BufferPool; what is in the buffer is written over.
func (p *bufferPool) Get(n int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, n+n/4)
	return &b
}

// Put implements mem.BufferPool.
func (p *bufferPool) Put(b *[]byte) {
	if cap(*b) <= maxKept {
		p.pool.Put(b)
	}
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error { return c.fallback.Unmarshal(data, v) }
