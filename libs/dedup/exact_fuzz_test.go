package dedup

import (
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

// readAll reads to the end, by steps and seeks, and insists that time goes on and that it ends.
func readAll(t *testing.T, it chunkenc.Iterator, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	last, begun := int64(0), false
	for n := 0; ; n++ {
		require.Less(t, n, 1_000_000, "no end")
		var typ chunkenc.ValueType
		if rnd.IntN(8) == 0 && begun && last < 1<<62 {
			typ = it.Seek(last + 1 + rnd.Int64N(1<<rnd.IntN(40)))
		} else {
			typ = it.Next()
		}
		if typ == chunkenc.ValNone {
			break
		}
		ts, _ := it.At()
		require.Equal(t, ts, it.AtT())
		require.True(t, !begun || ts > last, "%d after %d", ts, last)
		last, begun = ts, true
	}
	require.Equal(t, chunkenc.ValNone, it.Next())
}

// Chunks come from outside: their bytes may be no chunk, and their bounds may be lies.
func FuzzExactMerge(f *testing.F) {
	p := steady(1800, 700)
	list := (&scraper{interval: 15000}).scrape(rand.New(rand.NewPCG(1, 1)), p)
	for i, c := range encode(f, list, 40) {
		f.Add(c.Raw.Data, c.MinTime, c.MaxTime, c.MinTime+7000, c.MaxTime+7000, uint64(i))
		f.Add(c.Raw.Data[:len(c.Raw.Data)/2], c.MinTime, c.MaxTime, c.MinTime-90_000, c.MaxTime-100_000, uint64(i))
	}
	f.Add([]byte{0, 0, 0}, int64(-1<<63), int64(1<<63-1), int64(0), int64(-5), uint64(0))
	good := encode(f, list, 60)
	f.Fuzz(func(t *testing.T, data []byte, mint, maxt, mint2, maxt2 int64, seed uint64) {
		chks := append([]chunks.AggrChunk{
			{MinTime: mint, MaxTime: maxt, Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: data}},
			{MinTime: mint2, MaxTime: maxt2, Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: data}},
		}, good...)
		readAll(t, MergeChunks(Exact, chunks.SortUnique(chks), onlyRaw, Options{}), seed)
	})
}

func TestExactEndsWhateverTheBoundsOfChunksSay(t *testing.T) {
	t.Parallel()
	every(t, 500, func(t *testing.T, rnd *rand.Rand, i int) {
		s := newScene(t, rnd, sceneConfig{hours: 1, jitter: true, skew: true})
		for c := range s.chks {
			for _, bound := range []*int64{&s.chks[c].MinTime, &s.chks[c].MaxTime} {
				switch rnd.IntN(8) {
				case 0:
					*bound += rnd.Int64N(2_000_000) - 1_000_000
				case 1:
					*bound = rnd.Int64() - rnd.Int64()
				}
			}
		}
		readAll(t, MergeChunks(Exact, chunks.SortUnique(s.chks), onlyRaw, Options{}), uint64(i))
	})
}
