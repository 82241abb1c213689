package bucket

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/downsample"
)

func (b *testBucket) downsample(args ...string) (out, notes string, err error) {
	b.tb.Helper()
	return b.run(append([]string{"downsample", "--single-run", "--http-address=127.0.0.1:0", "--data-dir=" + b.tb.TempDir()}, args...)...)
}

// covers names a block by what it covers.
func covers(m *block.Meta) string {
	return fmt.Sprintf("%d-%d@%d", m.MinTime, m.MaxTime, m.Thanos.Downsample.Resolution)
}

func (b *testBucket) content(id ulid.ULID) map[string][]string {
	b.tb.Helper()
	return content(b.tb, filepath.Join(b.dir, id.String()))
}

// long makes a block that spans so much, with a sample every five minutes.
func long(span time.Duration) func(*blocktest.Spec) {
	return func(s *blocktest.Spec) {
		s.MaxTime, s.Interval, s.Level = s.MinTime+span.Milliseconds(), 5*time.Minute, 4
	}
}

// The recorded bucket has the raw blocks and what Thanos' compactor made of them: without the latter, that is to come out.
func TestDownsampleMakesWhatThanosMade(t *testing.T) {
	t.Parallel()
	b := bucketIn(t, blocktest.RecordedAfter(t))
	want := map[string]*block.Meta{}
	samples := map[string]map[string][]string{}
	for id, m := range b.metas() {
		if m.Thanos.Downsample.Resolution > 0 {
			want[covers(m)], samples[covers(m)] = m, b.content(id)
			require.NoError(t, os.RemoveAll(filepath.Join(b.dir, id.String())))
		}
	}
	require.Len(t, want, 3, "two of 5m and one of 1h")
	before := b.files()

	out, notes, err := b.downsample("--dry-run")
	require.NoError(t, err)
	require.Contains(t, out, "would be downsampled to 5m and 1h")
	require.Contains(t, notes, "3 downsampled blocks made of 2 blocks (dry run: nothing was changed)")
	require.Empty(t, cmp.Diff(before, b.files()))

	out, notes, err = b.downsample("--hash-func=SHA256", "--block-files-concurrency=2")
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(out, ": downsampled to"), out)
	require.Contains(t, notes, "3 downsampled blocks made of 2 blocks, 0 failed")
	seen := 0
	for id, m := range b.metas() {
		w := want[covers(m)]
		if m.Thanos.Downsample.Resolution == 0 {
			continue
		}
		seen++
		require.NotNil(t, w, covers(m))
		require.Equal(t, w.Compaction, m.Compaction)
		require.Equal(t, w.Thanos.Labels, m.Thanos.Labels)
		require.Equal(t, block.SourceCompactor, m.Thanos.Source)
		require.Equal(t, w.Stats.NumSeries, m.Stats.NumSeries)
		require.Equal(t, w.Stats.NumChunks, m.Stats.NumChunks)
		require.NotEmpty(t, m.Thanos.Files[0].Hash)
		require.Empty(t, cmp.Diff(samples[covers(m)], b.content(id)), covers(m))
	}
	require.Equal(t, len(want), seen)
	for name, text := range before {
		require.Equal(t, text, b.files()[name], "the sources stay as they are")
	}

	after := b.files()
	_, notes, err = b.downsample()
	require.NoError(t, err)
	require.Contains(t, notes, "0 downsampled blocks made of 0 blocks, 0 failed")
	require.Empty(t, cmp.Diff(after, b.files()))
}

func TestA5mBlockIsDownsampledFurther(t *testing.T) {
	t.Parallel()
	b := bucketIn(t, blocktest.RecordedAfter(t))
	var want map[string][]string
	for id, m := range b.metas() {
		if m.Thanos.Downsample.Resolution == block.Resolution1h {
			want = b.content(id)
			require.NoError(t, os.RemoveAll(filepath.Join(b.dir, id.String())))
		}
	}
	_, notes, err := b.downsample()
	require.NoError(t, err)
	require.Contains(t, notes, "1 downsampled block made of 1 block, 0 failed")
	for id, m := range b.metas() {
		if m.Thanos.Downsample.Resolution == block.Resolution1h {
			require.Empty(t, cmp.Diff(want, b.content(id)))
		}
	}
}

func TestNativeHistogramsAreDownsampledToo(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0, long(41*time.Hour), func(s *blocktest.Spec) { s.Histograms, s.FloatHistograms, s.Interval = 1, 1, time.Minute })
	_, _, err := b.downsample()
	require.NoError(t, err)
	metas := b.metas()
	require.Len(t, metas, 2)
	for id, made := range metas {
		if id == m.ULID {
			continue
		}
		require.Equal(t, block.Resolution5m, made.Thanos.Downsample.Resolution)
		require.EqualValues(t, 5, made.Stats.NumSeries)
		histograms := 0
		for key, samples := range b.content(id) {
			require.Len(t, samples, samplesOf(key), key)
			if strings.Contains(key, "histogram") {
				histograms++
				if strings.HasSuffix(key, "} 0") {
					require.True(t, strings.HasSuffix(samples[0], " 5"), "a window has five samples: %s", samples[0])
				} else {
					require.Contains(t, samples[0], "count:", "%s", key)
				}
			}
		}
		require.Equal(t, 2*3, histograms, "count, sum and counter of each")
	}
}

// samplesOf is how many samples an aggregate of 41 hours has: one a window; a counter has one more at the beginning of each
// chunk, and that of floats one more at its end.
func samplesOf(key string) int {
	const windows = 41 * 12
	chunks := windows/141 + 1
	switch {
	case !strings.HasSuffix(key, "} 4"):
		return windows
	case strings.Contains(key, "histogram"):
		return windows + chunks
	}
	return windows + 2*chunks
}

func TestDownsampleKeepsFromTheOthersWhatFails(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	for n, name := range []string{"good", "marked", "deleted", "broken"} {
		b.add(int64(100*n), own(name), long(41*time.Hour))
	}
	b.add(500, own("short"))
	by := map[string]*block.Meta{}
	for _, m := range b.metas() {
		by[m.Thanos.Labels["seeded"]] = m
	}
	_, err := block.MarkNoDownsample(t.Context(), nil, b, by["marked"].ULID, block.ReasonManual, "a test", time.Now())
	require.NoError(t, err)
	b.markAt(by["deleted"], 0)
	spoil(t, b.path(by["broken"].ULID, block.IndexFilename), func(c []byte) []byte { return c[:len(c)/2] })

	_, notes, err := b.downsample("--downsample.concurrency=3")
	require.ErrorContains(t, err, "downsample block "+by["broken"].ULID.String())
	require.Contains(t, notes, "1 downsampled block made of 1 block, 1 failed")
	var made []string
	for _, m := range b.metas() {
		if m.Thanos.Downsample.Resolution > 0 {
			made = append(made, m.Thanos.Labels["seeded"])
		}
	}
	require.Equal(t, []string{"good"}, made)
}

func TestWhatTombstonesDeleteIsNotDownsampled(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	m := b.add(0, long(41*time.Hour))
	var first storage.SeriesRef
	dir := filepath.Join(b.dir, m.ULID.String())
	old, err := openLocal(dir)
	require.NoError(t, err)
	require.NoError(t, eachSeries(t.Context(), old.index, func(s indexed) error {
		if first == 0 {
			first = s.ref
		}
		return nil
	}))
	require.NoError(t, old.Close())
	stones := tombstones.NewMemTombstones()
	stones.AddInterval(first, tombstones.Interval{Mint: m.MinTime, Maxt: m.MaxTime})
	_, err = tombstones.WriteFile(promslog.NewNopLogger(), dir, stones)
	require.NoError(t, err)
	m.Stats.NumTombstones = 1
	require.NoError(t, block.WriteMetaDir(dir, m))

	_, _, err = b.downsample()
	require.NoError(t, err)
	for _, made := range b.metas() {
		if made.Thanos.Downsample.Resolution > 0 {
			require.EqualValues(t, 2, made.Stats.NumSeries)
		}
	}
}

func TestWhatIsToBeDownsampledIsDecidedFromTheBlocks(t *testing.T) {
	t.Parallel()
	metas := map[ulid.ULID]*block.Meta{}
	add := func(n uint64, span, resolution int64, sources ...uint64) {
		m := &block.Meta{}
		m.ULID, m.Thanos.Downsample.Resolution, m.MaxTime = blocktest.ID(time.Unix(1000, 0), n), resolution, span
		for _, s := range sources {
			m.Compaction.Sources = append(m.Compaction.Sources, blocktest.ID(time.Unix(1000, 0), s))
		}
		metas[m.ULID] = m
	}
	add(1, downsample.MinSpan5m-1, 0, 1)
	add(2, downsample.MinSpan5m, 0, 2)
	add(3, downsample.MinSpan1h, 0, 3, 30)
	add(4, downsample.MinSpan1h, 0, 4)
	add(5, downsample.MinSpan1h, block.Resolution5m, 4)
	add(6, downsample.MinSpan1h, 0, 6)
	kept := map[ulid.ULID]*block.NoDownsampleMark{blocktest.ID(time.Unix(1000, 0), 6): {}}
	var got []string
	for _, j := range downsamplings(metas, kept) {
		got = append(got, fmt.Sprint(slices.IndexFunc(byID(metas), func(m *block.Meta) bool { return m == j.meta })+1, " ", resolutionNames(j.targets)))
	}
	require.Equal(t, []string{"2 5m", "3 5m and 1h", "5 1h"}, got)
}

func TestDownsampleRefusesSettingsThatCannotWork(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	for flag, want := range map[string]string{
		"--downsample.concurrency=0":  "--downsample.concurrency",
		"--block-files-concurrency=0": "--block-files-concurrency",
		"--wait-interval=0s":          "--wait-interval",
		"--data-dir=":                 "--data-dir",
		"--hash-func=MD5":             "--hash-func",
	} {
		_, _, err := b.downsample(flag)
		require.ErrorContains(t, err, want)
	}
	_, _, err := b.run("downsample", "--dry-run", "--http-address=127.0.0.1:0")
	require.ErrorContains(t, err, "--dry-run: needs --single-run")
}
