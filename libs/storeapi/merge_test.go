package storeapi

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

func rawChunk(mint, maxt int64, data string) chunks.AggrChunk {
	return chunks.AggrChunk{MinTime: mint, MaxTime: maxt, Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: []byte(data)}}
}

// failing is a stream that ends with an error.
type failing struct {
	Stream
	err    error
	closed *int
}

func (f *failing) Err() error { return f.err }
func (f *failing) Close()     { *f.closed++; f.Stream.Close() }

func drain(s Stream) (out []Series) {
	for s.Next() {
		out = append(out, *s.At())
	}
	return out
}

func TestMergeEqualsSortingEverything(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(11, 12))
	names := []string{"a", "b", "c"}
	for range 1000 {
		want := map[string][]chunks.AggrChunk{}
		var streams []Stream
		for range r.IntN(9) {
			var in []Series
			for range r.IntN(12) {
				in = append(in, Series{Labels: randomLabels(r, names)})
			}
			slices.SortFunc(in, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
			for i := range in {
				for range r.IntN(4) {
					mint := r.Int64N(10)
					c := rawChunk(mint, mint+r.Int64N(3), string(rune('x'+r.IntN(2))))
					in[i].Chunks = append(in[i].Chunks, c)
				}
				slices.SortFunc(in[i].Chunks, compareChunks)
				key := in[i].Labels.String()
				if _, ok := want[key]; !ok {
					want[key] = nil
				}
				for _, c := range in[i].Chunks {
					if !slices.ContainsFunc(want[key], func(o chunks.AggrChunk) bool { return o.Equal(&c) }) {
						want[key] = append(want[key], c)
					}
				}
			}
			streams = append(streams, NewSliceStream(in, []string{"w"}, nil))
		}
		n := len(streams)
		m := Merge(streams, MergeOptions{})
		got := drain(m)
		require.NoError(t, m.Err())
		require.Len(t, m.Warnings(), n)
		require.Len(t, got, len(want))
		for i, s := range got {
			if i > 0 {
				require.Negative(t, labels.Compare(got[i-1].Labels, s.Labels))
			}
			require.True(t, slices.IsSortedFunc(s.Chunks, compareChunks))
			require.Len(t, s.Chunks, len(want[s.Labels.String()]))
			for _, c := range want[s.Labels.String()] {
				require.True(t, slices.ContainsFunc(s.Chunks, func(o chunks.AggrChunk) bool { return o.Equal(&c) }))
			}
		}
		m.Close()
	}
}

func TestMergeDoesNotTouchTheMemoryOfItsSources(t *testing.T) {
	t.Parallel()
	arena := []chunks.AggrChunk{rawChunk(5, 6, "b"), rawChunk(1, 2, "a"), rawChunk(7, 8, "next series")}
	l1, l2 := labels.FromStrings("a", "1"), labels.FromStrings("a", "2")
	one := NewSliceStream([]Series{{l1, arena[:2]}, {l2, arena[2:]}}, nil, nil)
	two := NewSliceStream([]Series{{l1, []chunks.AggrChunk{rawChunk(3, 4, "c")}}}, nil, nil)
	got := drain(Merge([]Stream{one, two}, MergeOptions{}))
	require.Len(t, got, 2)
	require.Equal(t, []chunks.AggrChunk{rawChunk(1, 2, "a"), rawChunk(3, 4, "c"), rawChunk(5, 6, "b")}, got[0].Chunks)
	require.Equal(t, rawChunk(7, 8, "next series"), got[1].Chunks[0])
	require.Equal(t, rawChunk(5, 6, "b"), arena[0])
}

func TestMergeGoesOnWithoutABrokenStream(t *testing.T) {
	t.Parallel()
	series := func(v ...string) (out []Series) {
		for _, x := range v {
			out = append(out, Series{Labels: labels.FromStrings("a", x)})
		}
		return out
	}
	boom := errors.New("boom")
	for name, broken := range map[string]func(closed *int) Stream{
		"fails at once":   func(c *int) Stream { return &failing{NewSliceStream(nil, nil, nil), boom, c} },
		"fails later":     func(c *int) Stream { return &failing{NewSliceStream(series("2"), nil, nil), boom, c} },
		"is not sorted":   func(c *int) Stream { return &failing{NewSliceStream(series("3", "2"), nil, nil), nil, c} },
		"not sorted, end": func(c *int) Stream { return &failing{NewSliceStream(series("9", "8"), nil, nil), nil, c} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := 0
			m := Merge([]Stream{NewSliceStream(series("1", "4", "5"), nil, nil), broken(&closed)}, MergeOptions{
				OnError: func(i int, err error) (string, error) {
					require.Equal(t, 1, i)
					return "store 1: " + err.Error(), nil
				},
			})
			var got []string
			for _, s := range drain(m) {
				got = append(got, s.Labels.Get("a"))
			}
			require.True(t, slices.IsSorted(got), "%v", got)
			require.Subset(t, got, []string{"1", "4", "5"})
			require.NoError(t, m.Err())
			require.Len(t, m.Warnings(), 1)
			m.Close()
			require.Equal(t, 1, closed)
		})
		t.Run(name+", and the caller wants all", func(t *testing.T) {
			t.Parallel()
			closed := 0
			m := Merge([]Stream{NewSliceStream(series("1", "4", "5"), nil, nil), broken(&closed)}, MergeOptions{})
			drain(m)
			require.Error(t, m.Err())
			m.Close()
		})
	}
}

func TestWithoutLabelsSortsAgain(t *testing.T) {
	t.Parallel()
	in := []Series{
		{Labels: labels.FromStrings("a", "1", "r", "x", "z", "2"), Chunks: []chunks.AggrChunk{rawChunk(1, 2, "p")}},
		{Labels: labels.FromStrings("a", "1", "r", "y", "z", "1"), Chunks: []chunks.AggrChunk{rawChunk(1, 2, "q")}},
		{Labels: labels.FromStrings("a", "1", "r", "y", "z", "2"), Chunks: []chunks.AggrChunk{rawChunk(0, 2, "r")}},
	}
	got := drain(Merge([]Stream{WithoutLabels(NewSliceStream(in, nil, nil), []string{"r"})}, MergeOptions{}))
	require.Len(t, got, 2)
	require.Equal(t, `{a="1", z="1"}`, got[0].Labels.String())
	require.Equal(t, []chunks.AggrChunk{rawChunk(0, 2, "r"), rawChunk(1, 2, "p")}, got[1].Chunks)
}
