package indexcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
)

// lists are postings of all sizes that matter: within a chunk, at its edge, across many.
func lists() map[string][]storage.SeriesRef {
	rng := rand.New(rand.NewPCG(1, 2))
	ascending := func(n int, step func() uint64) []storage.SeriesRef {
		refs := make([]storage.SeriesRef, n)
		var ref uint64
		for i := range refs {
			ref += step()
			refs[i] = storage.SeriesRef(ref)
		}
		return refs
	}
	return map[string][]storage.SeriesRef{
		"empty":          {},
		"zero":           {0},
		"one":            {42},
		"extremes":       {0, 1, math.MaxUint64 - 1, math.MaxUint64},
		"dense":          ascending(200_000, func() uint64 { return 1 }),
		"a block's":      ascending(100_000, func() uint64 { return 1 + rng.Uint64N(40) }),
		"incompressible": ascending(100_000, func() uint64 { return 1 + rng.Uint64N(1<<40) }),
	}
}

func decode(value []byte) ([]storage.SeriesRef, error) {
	refs := []storage.SeriesRef{}
	p := DecodePostings(value)
	for p.Next() {
		refs = append(refs, p.At())
	}
	return refs, p.Err()
}

func deltas(refs []storage.SeriesRef) []byte {
	var out []byte
	var last storage.SeriesRef
	for _, ref := range refs {
		out = binary.AppendUvarint(out, uint64(ref-last))
		last = ref
	}
	return out
}

func TestPostingsSurviveTheRoundTrip(t *testing.T) {
	t.Parallel()
	for name, refs := range lists() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, hint := range []int{0, len(refs)} {
				value, err := EncodePostings(index.NewListPostings(refs), hint)
				require.NoError(t, err)
				require.Equal(t, "dss", string(value[:3]))
				got, err := decode(value)
				require.NoError(t, err)
				require.Equal(t, refs, got)

				// The reference implementation of the format reads what we write …
				plain, err := io.ReadAll(snappy.NewReader(bytes.NewReader(value[3:])))
				require.NoError(t, err)
				require.True(t, bytes.Equal(deltas(refs), plain))
			}
			// … and we read what it writes, in both formats, with chunks cut at any place.
			for _, cut := range []int{0, 1, 1000} {
				var stream bytes.Buffer
				w := snappy.NewBufferedWriter(&stream)
				if cut > 0 {
					//nolint:staticcheck // the writer without buffer makes a chunk of each Write
					w = snappy.NewWriter(&stream)
				}
				rest := deltas(refs)
				if cut == 1 {
					rest = rest[:min(len(rest), 3000)]
				}
				want := append([]byte(nil), rest...)
				for len(rest) > 0 {
					n := len(rest)
					if cut > 0 {
						n = min(n, cut)
					}
					_, err := w.Write(rest[:n])
					require.NoError(t, err)
					rest = rest[n:]
				}
				if cut == 0 {
					require.NoError(t, w.Close())
				}
				got, err := decode(append([]byte("dss"), stream.Bytes()...))
				if cut == 1 && len(want) == 3000 {
					require.Contains(t, []error{nil, ErrCorrupt}, errors.Unwrap(err)) // may end amid a number
				} else {
					require.NoError(t, err)
				}
				require.True(t, bytes.HasPrefix(want, deltas(got)))
			}
			got, err := decode(append([]byte("dvs"), snappy.Encode(nil, deltas(refs))...))
			require.NoError(t, err)
			require.Equal(t, refs, got)
		})
	}
}

func TestSeekFindsTheSameAsAList(t *testing.T) {
	t.Parallel()
	for _, refs := range lists() {
		value, err := EncodePostings(index.NewListPostings(refs), len(refs))
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(3, 4))
		got, at := DecodePostings(value), -1 // at is where got stands in refs
		for range 200 {
			var ok bool
			if rng.IntN(2) == 0 || len(refs) == 0 {
				at++
				ok = got.Next()
			} else {
				to := refs[rng.IntN(len(refs))] + storage.SeriesRef(rng.IntN(3)) - 1 // may wrap around: good too
				at = max(at, 0)
				for at < len(refs) && refs[at] < to {
					at++
				}
				ok = got.Seek(to)
			}
			at = min(at, len(refs))
			require.Equal(t, at < len(refs), ok)
			if ok {
				require.Equal(t, refs[at], got.At())
			}
		}
		require.NoError(t, got.Err())
	}
}

func TestEncodingRefusesWhatDoesNotAscend(t *testing.T) {
	t.Parallel()
	for _, refs := range [][]storage.SeriesRef{{5, 5}, {5, 4}, {0, 0}} {
		_, err := EncodePostings(index.NewListPostings(refs), 2)
		require.Error(t, err)
	}
	errBroken := errors.New("broken")
	_, err := EncodePostings(index.ErrPostings(errBroken), 0)
	require.ErrorIs(t, err, errBroken)
}

func TestCorruptPostingsAreReportedNotReturned(t *testing.T) {
	t.Parallel()
	stream := func(plain []byte) []byte {
		var b bytes.Buffer
		w := snappy.NewBufferedWriter(&b)
		_, err := w.Write(plain)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return append([]byte("dss"), b.Bytes()...)
	}
	good := stream(deltas([]storage.SeriesRef{1, 2, 300}))
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	tooLong := bytes.Repeat([]byte{0x80}, 10)
	for name, value := range map[string][]byte{
		"nothing":               nil,
		"two letters":           []byte("ds"),
		"unknown format":        []byte("xyz"),
		"no stream":             []byte("dss\x00\x01\x00\x00x"),
		"wrong stream":          []byte("dss\xff\x06\x00\x00sNaPpX"),
		"cut chunk":             good[:len(good)-1],
		"cut header":            append(append([]byte(nil), good...), 0),
		"flipped bit":           flipped,
		"unknown chunk":         append(append([]byte(nil), good...), 2, 0, 0, 0),
		"no checksum":           append(append([]byte(nil), good...), 0, 1, 0, 0, 0),
		"cut number":            stream([]byte{1, 0x80}),
		"number too long":       stream(append(tooLong, 2)),
		"number too large":      stream(append(bytes.Repeat([]byte{0xff}, 9), 2)),
		"number across too":     append(stream(bytes.Repeat([]byte{0x80}, 9)), stream([]byte{0x80, 1})[3:]...),
		"a reference twice":     stream([]byte{1, 0}),
		"more than 64 bits":     stream(append([]byte{5}, bytes.Repeat([]byte{0xff}, 9)[:9]...)),
		"overflow":              stream(append([]byte{5}, append(bytes.Repeat([]byte{0xff}, 9), 1)...)),
		"block of nothing":      []byte("dvs"),
		"block that promises":   append([]byte("dvs"), binary.AppendUvarint(nil, 1<<31)...),
		"block of nonsense":     []byte("dvs\x05\xff\xff\xff"),
		"chunk that promises":   []byte("dss\xff\x06\x00\x00sNaPpY\x00\x09\x00\x00abcd\xff\xff\xff\xff\x0f"),
		"oversized plain chunk": append([]byte("dss\xff\x06\x00\x00sNaPpY\x01\x05\x00\x01abcd"), make([]byte, 65537)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decode(value)
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
	refs, err := decode(append(append([]byte(nil), good...), 0x99, 2, 0, 0, 'h', 'i'))
	require.NoError(t, err, "chunks that may be skipped are")
	require.Equal(t, []storage.SeriesRef{1, 2, 300}, refs)
	refs, err = decode([]byte("dss"))
	require.NoError(t, err)
	require.Empty(t, refs)
}

func FuzzDecodePostings(f *testing.F) {
	for _, refs := range [][]storage.SeriesRef{{}, {0}, {1, 2, 300, 1 << 40}, {math.MaxUint64}} {
		value, err := EncodePostings(index.NewListPostings(refs), 0)
		require.NoError(f, err)
		f.Add(value)
		f.Add(append([]byte("dvs"), snappy.Encode(nil, deltas(refs))...))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		refs, err := decode(value)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		// What can be read can be written, and then reads the same.
		again, err := EncodePostings(index.NewListPostings(refs), len(refs))
		require.NoError(t, err)
		got, err := decode(again)
		require.NoError(t, err)
		require.Equal(t, refs, got)
	})
}

func BenchmarkPostings(b *testing.B) {
	refs := lists()["a block's"]
	value, err := EncodePostings(index.NewListPostings(refs), len(refs))
	require.NoError(b, err)
	b.Run(fmt.Sprintf("encode/refs=%d/bytes=%d", len(refs), len(value)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := EncodePostings(index.NewListPostings(refs), len(refs)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(refs)), "ns/ref")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := DecodePostings(value)
			n := 0
			for p.Next() {
				n++
			}
			if n != len(refs) || p.Err() != nil {
				b.Fatal(n, p.Err())
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(refs)), "ns/ref")
	})
}
