package downsample

import (
	"bytes"
	"math"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

func xorPart(b ...byte) chunks.Chunk { return chunks.Chunk{Encoding: chunkenc.EncXOR, Data: b} }

func TestAggregateChunkBytes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		aggr [chunks.NumAggr]chunks.Chunk
		want []byte
	}{
		"only a counter": {
			[5]chunks.Chunk{4: xorPart(0xaa, 0xbb, 0xcc)},
			[]byte{0, 0, 0, 0, 3, 1, 0xaa, 0xbb, 0xcc},
		},
		"all five": {
			[5]chunks.Chunk{xorPart(1), {Encoding: chunkenc.EncFloatHistogram, Data: []byte{2}}, xorPart(3), xorPart(4), {Encoding: chunkenc.EncHistogram, Data: []byte{5, 6}}},
			[]byte{1, 1, 1, 1, 3, 2, 1, 1, 3, 1, 1, 4, 2, 2, 5, 6},
		},
		"length of two bytes": {
			[5]chunks.Chunk{4: xorPart(bytes.Repeat([]byte{7}, 300)...)},
			append([]byte{0, 0, 0, 0, 0xac, 0x02, 1}, bytes.Repeat([]byte{7}, 300)...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := AppendAggr([]byte{0xee}, &tc.aggr)
			require.NoError(t, err)
			require.Equal(t, append([]byte{0xee}, tc.want...), got)
			back, err := DecodeAggr(tc.want)
			require.NoError(t, err)
			require.Equal(t, tc.aggr, back)
		})
	}
}

func TestEncodingDemandsACounterAndKnownEncodings(t *testing.T) {
	t.Parallel()
	_, err := AppendAggr(nil, &[5]chunks.Chunk{0: xorPart(1)})
	require.ErrorContains(t, err, "counter")
	_, err = AppendAggr(nil, &[5]chunks.Chunk{1: {Encoding: 9, Data: []byte{1}}, 4: xorPart(1)})
	require.ErrorContains(t, err, "sum has encoding 9")
	_, err = NewChunk(&chunks.AggrChunk{Raw: xorPart(1)})
	require.ErrorContains(t, err, "no aggregates")
}

func TestDecodingToleratesAnAbsentLastPart(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{{1, 1, 9, 0, 0, 0, 0}, {1, 1, 9, 0, 0, 0}} {
		got, err := DecodeAggr(b)
		require.NoError(t, err)
		require.Equal(t, [5]chunks.Chunk{0: xorPart(9)}, got)
	}
}

func TestDecodingRefusesBytesThatAreNoAggregateChunk(t *testing.T) {
	t.Parallel()
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	for name, b := range map[string][]byte{
		"nothing":               {},
		"ends before max":       {0, 0, 0},
		"length without end":    {0x80},
		"length over 64 bits":   append(bytes.Repeat([]byte{0xff}, 10), 1),
		"length near 2^64":      append(huge, 1, 2),
		"longer than the data":  {5, 1, 1, 2},
		"no encoding byte":      {1},
		"encoding unknown":      {1, 7, 1, 0, 0, 0, 0},
		"encoding of aggregate": {1, 0xff, 1, 0, 0, 0, 0},
		"bytes left over":       {0, 0, 0, 0, 1, 1, 9, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := DecodeAggr(b)
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

func FuzzDecodeAggr(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 3, 1, 0xaa, 0xbb, 0xcc})
	f.Add([]byte{1, 1, 1, 1, 3, 2, 1, 1, 3, 1, 1, 4, 2, 2, 5, 6})
	f.Add([]byte{1, 1, 9, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		aggr, err := DecodeAggr(b)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		total := 0
		for _, c := range aggr {
			total += len(c.Data)
		}
		require.LessOrEqual(t, total, len(b))
		if !aggr[4].Present() {
			return
		}
		enc, err := AppendAggr(nil, &aggr)
		require.NoError(t, err)
		again, err := DecodeAggr(enc)
		require.NoError(t, err)
		require.Equal(t, aggr, again)
	})
}

// Whatever floats a chunk claims to hold, reading it ends, in order, without panic.
func FuzzReadXORChunks(f *testing.F) {
	good := chunkOf(f, [2]float64{1, 2}, [2]float64{3, 4}, [2]float64{9, 1}).Data
	f.Add(good, good, uint8(0))
	f.Add(good[:4], []byte{}, uint8(5))
	f.Add([]byte{0xff, 0xff, 1, 2, 3}, good, uint8(2))
	f.Fuzz(func(t *testing.T, a, b []byte, aggr uint8) {
		chks := []chunks.AggrChunk{
			{MinTime: 0, MaxTime: math.MaxInt64, Raw: xorPart(a...)},
			{MinTime: 5, MaxTime: math.MaxInt64, Raw: xorPart(b...)},
		}
		chks[1].Set(chunks.Sum, xorPart(a...))
		chks[1].Set(chunks.Count, xorPart(b...))
		sets := [][]chunks.Aggr{{chunks.Raw}, {chunks.Sum}, {chunks.Count, chunks.Sum}, {chunks.Counter}}
		it := NewIterator(chks, sets[int(aggr)%len(sets)])
		for n := 0; it.Next() != chunkenc.ValNone; n++ {
			require.LessOrEqual(t, n, 2*math.MaxUint16)
			_, _ = it.At()
		}
		_ = it.Err()
		require.Equal(t, chunkenc.ValNone, it.Next())
	})
}

func TestPoolKnowsAggregateChunksAndThoseOfTheTSDB(t *testing.T) {
	t.Parallel()
	p := NewPool()
	in := chunks.AggrChunk{}
	in.Set(chunks.Count, chunkOf(t, [2]float64{1, 1}, [2]float64{2, 1}))
	in.Set(chunks.Counter, chunkOf(t, [2]float64{1, 1}))
	enc, err := NewChunk(&in)
	require.NoError(t, err)
	c, err := p.Get(Encoding, enc.Bytes())
	require.NoError(t, err)
	require.Equal(t, Encoding, c.Encoding())
	require.Equal(t, 2, c.NumSamples())
	it := c.Iterator(nil)
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Error(t, it.Err())
	_, err = c.Appender()
	require.Error(t, err)
	require.NoError(t, p.Put(c))

	c, err = p.Get(chunkenc.EncXOR, chunkOf(t, [2]float64{1, 1}).Data)
	require.NoError(t, err)
	require.Equal(t, 1, c.NumSamples())
	require.NoError(t, p.Put(c))
	_, err = p.Get(7, nil)
	require.Error(t, err)
}

// chunkOf encodes floats at times, in milliseconds.
func chunkOf(t testing.TB, samples ...[2]float64) chunks.Chunk {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, s := range samples {
		app.Append(int64(s[0]), s[1])
	}
	return chunks.Chunk{Encoding: chunkenc.EncXOR, Data: c.Bytes()}
}
