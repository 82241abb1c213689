// Package blocks generates blocks for benchmarks straight into a FILESYSTEM bucket,
// always the same ones for the same options.
package blocks

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// Spec is one block.
type Spec struct {
	// ID names the block; its time part is free.
	ID ulid.ULID
	// MinTime is the first sample, Unix milliseconds.
	MinTime int64
	// Series, Chunks and Samples are how many series, chunks in each and samples in
	// each chunk there are.
	Series, Chunks, Samples int
	// Metrics is how many names of metrics the series are spread over; 0 is one for all.
	Metrics int
	// Step is the time between samples in milliseconds.
	Step int64
	// External are the external labels.
	External map[string]string
}

// MaxTime is the block's end, exclusive.
func (s Spec) MaxTime() int64 { return s.MinTime + int64(s.Chunks*s.Samples)*s.Step }

// ID makes a block id out of a number.
func ID(n int) ulid.ULID {
	var id ulid.ULID
	_ = id.SetTime(1_700_000_000_000) // a constant that fits
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// MetricName is the name of the n-th metric of a block that has several.
func MetricName(n int) string { return fmt.Sprintf("metric_%03d_total", n) }

// labelSets are the series of a block, sorted: eight labels, as a pod's request
// counter has them.
func labelSets(n, metrics int) []labels.Labels {
	out := make([]labels.Labels, n)
	codes, methods := []string{"200", "404", "500"}, []string{"GET", "POST"}
	for i := range out {
		target, name := i/12, "http_requests_total"
		if metrics > 0 {
			name = MetricName(i % metrics)
		}
		out[i] = labels.FromStrings("__name__", name, "code", codes[i%3], "handler", "/api/v1/h"+strconv.Itoa(i/6%2),
			"instance", fmt.Sprintf("10.%d.%d.%d:8080", target>>16&255, target>>8&255, target&255), "job", "app-"+strconv.Itoa(target%50),
			"method", methods[i/3%2], "namespace", "ns-"+strconv.Itoa(target%10), "pod", fmt.Sprintf("app-%d-%08x", target%50, target*2654435761))
	}
	slices.SortFunc(out, labels.Compare)
	return out
}

// Write writes the block into dir/<ID>, index, chunks and meta.json, and returns how
// many bytes of chunks it has.
func Write(dir string, s Spec) (size int64, err error) {
	sets := labelSets(s.Series, s.Metrics)
	w, err := NewWriter(dir, s.ID, s.MinTime, s.MaxTime(), s.External, Symbols(sets))
	if err != nil {
		return 0, err
	}
	for i, ls := range sets {
		metas, n, err := encode(s, uint64(i))
		if err != nil {
			return 0, err
		}
		size += n
		if err := w.Add(ls, metas...); err != nil {
			return 0, err
		}
	}
	return size, w.Close()
}

// Symbols are the strings in sets, sorted, each once.
func Symbols(sets []labels.Labels) []string {
	symbols := map[string]struct{}{}
	for _, ls := range sets {
		ls.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{} })
	}
	return slices.Sorted(maps.Keys(symbols))
}

// encode makes the chunks of series i: a counter whose steps vary.
func encode(s Spec, i uint64) (metas []chunks.Meta, size int64, err error) {
	r := rand.New(rand.NewPCG(i, 1))
	t, v := s.MinTime, float64(r.IntN(1000))
	for range s.Chunks {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			return nil, 0, err
		}
		first := t
		for range s.Samples {
			app.Append(t, v)
			t += s.Step
			v += float64(r.IntN(8))
		}
		size += int64(len(c.Bytes()))
		metas = append(metas, chunks.Meta{Chunk: c, MinTime: first, MaxTime: t - s.Step})
	}
	return metas, size, nil
}
