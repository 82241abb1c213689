package hapair

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
)

func TestHistoryHasTheShapeOfAnHAPair(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "bucket")
	require.NoError(t, Generate(dir, Spec{Targets: 2, Days: 1}))
	metas, err := filepath.Glob(filepath.Join(dir, "*", block.MetaFilename))
	require.NoError(t, err)
	require.Len(t, metas, 24)
	series := map[string]int{}
	for i, path := range metas {
		m, err := block.ReadMetaDir(filepath.Dir(path))
		require.NoError(t, err)
		require.EqualValues(t, 2*SeriesPerTarget, m.Stats.NumSeries)
		want := perBlock
		if m.Thanos.Labels["replica"] == []string{"r0", "r1"}[i/2%2] {
			want -= gapSamples
		}
		require.EqualValues(t, 2*SeriesPerTarget*want, m.Stats.NumSamples, "block %d of %s", i, m.Thanos.Labels["replica"])
		read(t, filepath.Dir(path), m, series)
	}
	for name, n := range map[string]int{
		"up": 1, "http_requests_total": 12, "http_request_duration_seconds_bucket": 36, "node_cpu_seconds_total": 16,
		"process_resident_memory_bytes": 1, "go_goroutines": 1,
	} {
		require.Equal(t, n*2*len(metas), series[name], name)
	}
}

// read counts the series of a block by name, and checks that buckets are cumulative.
func read(t *testing.T, dir string, m *block.Meta, count map[string]int) {
	t.Helper()
	b, err := tsdb.OpenBlock(nil, dir, nil, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	q, err := tsdb.NewBlockQuerier(b, m.MinTime, m.MaxTime)
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	last := map[string]float64{} // of each bucket
	set := q.Select(t.Context(), true, &storage.SelectHints{Start: m.MinTime, End: m.MaxTime}, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		s := set.At()
		count[s.Labels().Get("__name__")]++
		it := s.Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			_, v := it.At()
			last[s.Labels().String()] = v
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	for name, v := range last {
		if _, rest, ok := strings.Cut(name, `le="0.005"`); ok {
			first, _, _ := strings.Cut(name, `le="0.005"`)
			require.LessOrEqual(t, v, last[first+`le="+Inf"`+rest], name)
		}
	}
}
