package storeapi

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// capture returns a Writer and the frames that it sends.
func capture(opts WriterOptions) (*Writer, *[][]byte) {
	var frames [][]byte
	w := newWriter(func(f *outFrame) error {
		bufs := f.take()
		frames = append(frames, bufs.Materialize())
		bufs.Free()
		return nil
	}, opts)
	return w, &frames
}

func randomSeries(r *rand.Rand) Series {
	b := labels.NewScratchBuilder(0)
	for _, n := range []string{"__name__", "a", "instance", "job", "zone"} {
		if r.IntN(3) > 0 {
			b.Add(n, string(bytes.Repeat([]byte{byte('a' + r.IntN(26))}, 1+r.IntN(200))))
		}
	}
	s := Series{Labels: b.Labels()}
	for range r.IntN(5) {
		c := chunks.AggrChunk{MinTime: r.Int64N(math.MaxInt64) - r.Int64N(math.MaxInt64), MaxTime: r.Int64N(1 << 42)}
		chunk := func() chunks.Chunk {
			data := make([]byte, 1+r.IntN(300))
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			return chunks.Chunk{Encoding: chunkenc.Encoding(1 + r.IntN(3)), Data: data, Hash: uint64(r.IntN(2)) * r.Uint64()}
		}
		if r.IntN(2) == 0 {
			c.Raw = chunk()
		} else {
			for a := chunks.Count; a <= chunks.Counter; a++ {
				if r.IntN(3) > 0 {
					c.Set(a, chunk())
				}
			}
		}
		s.Chunks = append(s.Chunks, c)
	}
	return s
}

// viaGenerated is s as the generated message.
func viaGenerated(s Series) *thanos.Series {
	wire := func(c chunks.Chunk) *thanos.Chunk {
		if !c.Present() {
			return nil
		}
		return &thanos.Chunk{Type: thanos.Chunk_Encoding(c.Encoding - 1), Data: c.Data, Hash: c.Sum()}
	}
	out := &thanos.Series{Labels: LabelSet(s.Labels).GetLabels()}
	for _, c := range s.Chunks {
		get := func(a chunks.Aggr) *thanos.Chunk { ch, _ := c.Of(a); return wire(ch) }
		out.Chunks = append(out.Chunks, &thanos.AggrChunk{
			MinTime: c.MinTime, MaxTime: c.MaxTime, Raw: get(chunks.Raw), Count: get(chunks.Count),
			Sum: get(chunks.Sum), Min: get(chunks.Min), Max: get(chunks.Max), Counter: get(chunks.Counter),
		})
	}
	return out
}

func TestWriterEncodesWhatTheGeneratedCodeReads(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, batch := range []int64{0, 1, 2, 64} {
		var want []*thanos.Series
		w, frames := capture(WriterOptions{BatchSize: batch})
		for range 200 {
			s := randomSeries(r)
			want = append(want, viaGenerated(s))
			require.NoError(t, w.Series(s.Labels, s.Chunks))
		}
		require.NoError(t, w.Flush())
		var got []*thanos.Series
		for _, f := range *frames {
			var resp thanos.SeriesResponse
			require.NoError(t, proto.Unmarshal(f, &resp))
			require.Empty(t, resp.ProtoReflect().GetUnknown())
			if batch > 1 {
				require.LessOrEqual(t, len(resp.GetBatch().GetSeries()), int(batch))
				got = append(got, resp.GetBatch().GetSeries()...)
			} else {
				got = append(got, resp.GetSeries())
			}
		}
		require.Len(t, got, len(want))
		for i := range want {
			require.True(t, proto.Equal(want[i], got[i]), "series %d: want %v, got %v", i, want[i], got[i])
		}
	}
}

func TestDecoderReadsWhatTheGeneratedCodeWrites(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	var d Decoder
	for range 100 {
		var in []Series
		batch := &thanos.SeriesBatch{}
		for range r.IntN(20) {
			s := randomSeries(r)
			hashChunks(s.Chunks)
			in = append(in, s)
			batch.Series = append(batch.Series, viaGenerated(s))
		}
		data, err := proto.Marshal(&thanos.SeriesResponse{Result: &thanos.SeriesResponse_Batch{Batch: batch}})
		require.NoError(t, err)
		fr, err := d.Decode(data)
		require.NoError(t, err)
		require.Len(t, fr.Series, len(in))
		for i := range in {
			require.True(t, labels.Equal(in[i].Labels, fr.Series[i].Labels))
			if diff := cmp.Diff(in[i].Chunks, fr.Series[i].Chunks, cmp.Transformer("nil", func(c []chunks.AggrChunk) []chunks.AggrChunk {
				if len(c) == 0 {
					return nil
				}
				return c
			})); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

func TestWriterSplitsASeriesWithMuchData(t *testing.T) {
	t.Parallel()
	lset := labels.FromStrings("__name__", "big")
	var chks []chunks.AggrChunk
	for i := range 9 {
		chks = append(chks, chunks.AggrChunk{
			MinTime: int64(i), MaxTime: int64(i),
			Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: bytes.Repeat([]byte{byte(i)}, 400<<10)},
		})
	}
	chks[4].Raw.Data = bytes.Repeat([]byte{9}, 3<<20) // larger than a message by itself
	for _, batch := range []int64{0, 64} {
		w, frames := capture(WriterOptions{BatchSize: batch, Limit: 1})
		require.NoError(t, w.Series(lset, chks))
		require.NoError(t, w.Flush())
		var got []chunks.AggrChunk
		var d Decoder
		for _, f := range *frames {
			fr, err := d.Decode(f)
			require.NoError(t, err)
			for _, s := range fr.Series {
				require.True(t, labels.Equal(lset, s.Labels))
				size := 0
				for i := range s.Chunks {
					size += dataSize(&s.Chunks[i])
				}
				require.True(t, size <= maxSeriesBytes || len(s.Chunks) == 1, "%d bytes in one message", size)
				got = append(got, s.Chunks...)
			}
		}
		require.Equal(t, chks, got)
		require.Greater(t, len(*frames), 4)
		require.EqualValues(t, 1, w.Stats().Series)
	}
}

func TestWriterObservesLimits(t *testing.T) {
	t.Parallel()
	one := []chunks.AggrChunk{{Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: []byte{1}}}}
	series := func(w *Writer, n int) error {
		for i := range n {
			if err := w.Series(labels.FromStrings("i", string(rune('a'+i))), one); err != nil {
				return err
			}
		}
		return nil
	}
	w, frames := capture(WriterOptions{Limit: 3})
	require.NoError(t, series(w, 10))
	require.Len(t, *frames, 3)
	require.True(t, w.Full())

	w, _ = capture(WriterOptions{Limits: Limits{Series: 5}})
	require.NoError(t, series(w, 5))
	err := w.Series(labels.FromStrings("z", "z"), one)
	require.ErrorIs(t, err, ErrLimit)
	require.ErrorContains(t, err, "5 series")

	w, _ = capture(WriterOptions{Limits: Limits{Samples: 240}})
	require.NoError(t, series(w, 2))
	require.ErrorIs(t, w.Series(labels.FromStrings("z", "z"), one), ErrLimit)
}

func TestWarningsAndHintsKeepTheirPlaceBehindSeries(t *testing.T) {
	t.Parallel()
	hints, err := anypb.New(&thanos.Label{Name: "a", Value: "b"})
	require.NoError(t, err)
	w, frames := capture(WriterOptions{BatchSize: 64})
	require.NoError(t, w.Series(labels.FromStrings("a", "1"), nil))
	require.NoError(t, w.Warning("store x is away"))
	require.NoError(t, w.Hints(hints))
	require.Len(t, *frames, 3)
	var d Decoder
	fr, err := d.Decode((*frames)[0])
	require.NoError(t, err)
	require.Len(t, fr.Series, 1)
	fr, err = d.Decode((*frames)[1])
	require.NoError(t, err)
	require.Equal(t, "store x is away", fr.Warning)
	fr, err = d.Decode((*frames)[2])
	require.NoError(t, err)
	require.True(t, proto.Equal(hints, fr.Hints))
}

func TestDecoderSortsAndRefusesLabels(t *testing.T) {
	t.Parallel()
	encode := func(kv ...string) []byte {
		s := &thanos.Series{}
		for i := 0; i < len(kv); i += 2 {
			s.Labels = append(s.Labels, &thanos.Label{Name: kv[i], Value: kv[i+1]})
		}
		b, err := proto.Marshal(&thanos.SeriesResponse{Result: &thanos.SeriesResponse_Series{Series: s}})
		require.NoError(t, err)
		return b
	}
	var d Decoder
	fr, err := d.Decode(encode("b", "2", "a", "1", "empty", ""))
	require.NoError(t, err)
	require.Equal(t, labels.FromStrings("a", "1", "b", "2"), fr.Series[0].Labels)
	_, err = d.Decode(encode("a", "1", "a", "2"))
	require.ErrorContains(t, err, `label "a" occurs twice`)
}

func TestDecoderRefusesUnknownChunkEncodings(t *testing.T) {
	t.Parallel()
	b, err := proto.Marshal(&thanos.SeriesResponse{Result: &thanos.SeriesResponse_Series{Series: &thanos.Series{
		Chunks: []*thanos.AggrChunk{{Raw: &thanos.Chunk{Type: 7, Data: []byte{1}}}},
	}}})
	require.NoError(t, err)
	var d Decoder
	_, err = d.Decode(b)
	require.ErrorContains(t, err, "unknown chunk encoding 7")
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, batch := range []int64{0, 8} {
		w, frames := capture(WriterOptions{BatchSize: batch})
		for range 4 {
			s := randomSeries(r)
			_ = w.Series(s.Labels, s.Chunks)
		}
		_ = w.Warning("w")
		for _, fr := range *frames {
			f.Add(fr)
		}
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Decoder
		fr, err := d.Decode(bytes.Clone(data))
		if err != nil {
			return
		}
		for _, s := range fr.Series {
			prev := ""
			s.Labels.Range(func(l labels.Label) {
				if l.Name <= prev && prev != "" {
					t.Fatalf("labels out of order in %s", s.Labels)
				}
				prev = l.Name
			})
			for i := range s.Chunks {
				_ = dataSize(&s.Chunks[i])
			}
		}
	})
}
