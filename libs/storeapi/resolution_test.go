package storeapi

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

func TestAChunkShowsItsSamplesAndItsResolution(t *testing.T) {
	t.Parallel()
	xor := func(n int) chunks.Chunk {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for i := range n {
			app.Append(int64(i), 1)
		}
		return chunks.Chunk{Encoding: chunkenc.EncXOR, Data: c.Bytes()}
	}
	aggregated := func(window time.Duration, n int, aggr chunks.Aggr) chunks.AggrChunk {
		out := chunks.AggrChunk{MaxTime: int64(n-1) * window.Milliseconds()}
		if aggr == chunks.Counter {
			n++ // the mark at its end
		}
		out.Set(aggr, xor(n))
		return out
	}
	raw := chunks.AggrChunk{MaxTime: time.Hour.Milliseconds(), Raw: xor(120)}
	short := chunks.AggrChunk{Raw: chunks.Chunk{Data: []byte{1}}}
	for name, tc := range map[string]struct {
		chunk   chunks.AggrChunk
		samples int64
		want    string
	}{
		"raw":           {raw, 120, "raw"},
		"5m":            {aggregated(5*time.Minute, 140, chunks.Sum), 140, "5m"},
		"5m counter":    {aggregated(5*time.Minute, 140, chunks.Counter), 140, "5m"},
		"1h":            {aggregated(time.Hour, 24, chunks.Max), 24, "1h"},
		"1h counter":    {aggregated(time.Hour, 24, chunks.Counter), 24, "1h"},
		"one window":    {aggregated(time.Hour, 1, chunks.Min), 1, "5m"},
		"labels only":   {chunks.AggrChunk{}, 0, "raw"},
		"no whole head": {short, 0, "raw"},
	} {
		samples, r := Measure(&tc.chunk)
		require.Equal(t, tc.samples, samples, name)
		require.Equal(t, tc.want, r.String(), name)
	}
}
