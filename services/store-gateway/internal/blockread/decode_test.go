package blockread

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

// appendEntryChunks is the chunk part of a series entry, as the TSDB writes it.
func appendEntryChunks(b []byte, metas []chunks.Meta) []byte {
	b = binary.AppendUvarint(b, uint64(len(metas)))
	var end, ref int64
	for i, m := range metas {
		if i == 0 {
			b = binary.AppendVarint(b, m.MinTime)
			b = binary.AppendUvarint(b, uint64(m.MaxTime-m.MinTime))
			b = binary.AppendUvarint(b, uint64(m.Ref))
		} else {
			b = binary.AppendUvarint(b, uint64(m.MinTime-end))
			b = binary.AppendUvarint(b, uint64(m.MaxTime-m.MinTime))
			b = binary.AppendVarint(b, int64(m.Ref)-ref)
		}
		end, ref = m.MaxTime, int64(m.Ref)
	}
	return b
}

func TestAppendChunksKeepsWhatOverlaps(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 5))
	for range 500 {
		var metas []chunks.Meta
		at, ref := int64(rng.IntN(2000)-1000), uint64(rng.IntN(3))<<32|8
		for range rng.IntN(12) {
			start := at + rng.Int64N(50)
			end := start + rng.Int64N(100)
			metas = append(metas, chunks.Meta{Ref: chunks.ChunkRef(ref), MinTime: start, MaxTime: end})
			at, ref = end, ref+10+uint64(rng.IntN(500))
			if rng.IntN(5) == 0 {
				ref = ref&^(1<<32-1) + 1<<32 + 8 // the next segment
			}
		}
		mint := int64(rng.IntN(2000) - 1000)
		maxt := mint + rng.Int64N(400)
		got, err := appendChunks(nil, &numbers{b: appendEntryChunks(nil, metas)}, mint, maxt)
		require.NoError(t, err)
		var want []chunkRef
		for i, m := range metas {
			if m.MinTime > maxt || m.MaxTime < mint {
				continue
			}
			c := chunkRef{mint: m.MinTime, maxt: m.MaxTime, ref: uint64(m.Ref)}
			if i+1 < len(metas) && metas[i+1].Ref>>32 == m.Ref>>32 {
				c.size = uint32(metas[i+1].Ref - m.Ref)
			}
			want = append(want, c)
		}
		require.Equal(t, want, got)
	}
}

func TestExtendSetsAndRemovesLabels(t *testing.T) {
	t.Parallel()
	d := entryDecoder{ext: []labels.Label{{Name: "b", Value: "ext"}, {Name: "z", Value: "ext"}}, without: []string{"replica", "b2"}}
	for _, tc := range []struct{ in, want labels.Labels }{
		{labels.EmptyLabels(), labels.FromStrings("b", "ext", "z", "ext")},
		{labels.FromStrings("a", "1", "b", "1", "c", "1"), labels.FromStrings("a", "1", "b", "ext", "c", "1", "z", "ext")},
		{labels.FromStrings("b2", "1", "replica", "1", "zz", "1"), labels.FromStrings("b", "ext", "z", "ext", "zz", "1")},
	} {
		d.inner = d.inner[:0]
		tc.in.Range(func(l labels.Label) { d.inner = append(d.inner, l) })
		require.True(t, labels.Equal(tc.want, d.extend()), "%s", tc.in)
	}
}

func TestChunkAndEntryContentAskForWhatIsMissing(t *testing.T) {
	t.Parallel()
	data := []byte("some chunk data that is long enough to be cut in many places, more than a hundred and twenty-seven bytes of it, so that its length takes two bytes")
	chunk := append(binary.AppendUvarint(nil, uint64(len(data))), 1)
	chunk = append(chunk, data...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.Checksum(chunk[2:], castagnoli))
	entry := append(binary.AppendUvarint(nil, uint64(len(data))), data...)
	entry = binary.BigEndian.AppendUint32(entry, crc32.Checksum(data, castagnoli))

	for n := 2; n < len(chunk); n++ {
		_, got, need := chunkContent(chunk[:n])
		require.Nil(t, got)
		require.Equal(t, len(chunk), need)
	}
	enc, got, need := chunkContent(append(chunk, "what comes after"...))
	require.Equal(t, data, got)
	require.EqualValues(t, 1, enc)
	require.Zero(t, need)

	for n := range len(entry) {
		got, need := entryContent(entry[:n])
		require.Nil(t, got)
		if n >= 2 {
			require.Equal(t, len(entry), need)
		} else {
			require.Greater(t, need, n)
		}
	}
	got, need = entryContent(append(entry, "what comes after"...))
	require.Equal(t, data, got)
	require.Zero(t, need)

	for i := range chunk {
		b := append([]byte(nil), chunk...)
		b[i] ^= 0x21
		_, got, _ := chunkContent(b)
		require.Nil(t, got, "byte %d", i)
	}
	_, got, need = chunkContent(binary.AppendUvarint(nil, math.MaxUint64))
	require.Nil(t, got)
	require.Zero(t, need, "a length that cannot be is damage")
	got, need = entryContent(binary.AppendUvarint(nil, math.MaxUint64))
	require.Nil(t, got)
	require.Zero(t, need)
}

func FuzzEntry(f *testing.F) {
	f.Add(appendEntryChunks([]byte{1, 0, 1}, []chunks.Meta{{Ref: 8, MinTime: 1, MaxTime: 2}, {Ref: 80, MinTime: 5, MaxTime: 9}}))
	f.Add([]byte{2, 0, 1, 2, 3, 0})
	f.Add(binary.AppendUvarint(nil, math.MaxUint64))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := numbers{b: b}
		for range n.uvarint() {
			n.uvarint()
			n.uvarint()
			if n.bad {
				return
			}
		}
		if _, err := appendChunks(nil, &n, math.MinInt64, math.MaxInt64); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Add([]byte("\x03\x01abc\x00\x00\x00\x00"))
	f.Add(binary.AppendUvarint(nil, math.MaxUint64))
	f.Fuzz(func(t *testing.T, b []byte) {
		for what, need := range map[string]int{"chunk": third(chunkContent(b)), "entry": second(entryContent(b))} {
			if need < 0 || need > 0 && need <= len(b) {
				t.Fatalf("%s needs %d bytes, has %d", what, need, len(b))
			}
		}
	})
}

func third[A, B any](_ A, _ B, c int) int { return c }
func second[A any](_ A, b int) int        { return b }
