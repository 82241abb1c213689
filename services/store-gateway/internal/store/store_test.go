package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

func raw(mint, maxt int64, data string) chunks.AggrChunk {
	return chunks.AggrChunk{MinTime: mint, MaxTime: maxt, Raw: chunks.Chunk{Encoding: 1, Data: []byte(data)}}
}

func TestOrderedSortsAndDropsRepeatedChunks(t *testing.T) {
	t.Parallel()
	got := ordered([]chunks.AggrChunk{
		raw(5, 9, "b"), raw(1, 4, "a"), raw(5, 9, "c"), raw(5, 9, "b"), raw(1, 3, "a"), raw(1, 4, "a"), raw(5, 9, "c"),
	})
	require.Equal(t, []chunks.AggrChunk{raw(1, 3, "a"), raw(1, 4, "a"), raw(5, 9, "b"), raw(5, 9, "c")}, got)
}

func TestTroublesDecideByKindAndStrategy(t *testing.T) {
	t.Parallel()
	broken := fmt.Errorf("block X: %w", blockread.ErrCorrupt)
	missing := fmt.Errorf("block X: %w", rangeread.ErrMissing)
	bucket := errors.New("block X: connection refused")
	limit := fmt.Errorf("block X: %w", storeapi.Limitf("too much"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx      context.Context
		err      error
		strategy thanos.PartialResponseStrategy
		warned   bool
		kind     error
	}{
		"no trouble":                {t.Context(), nil, thanos.PartialResponseStrategy_ABORT, false, nil},
		"broken, may be left out":   {t.Context(), broken, thanos.PartialResponseStrategy_WARN, true, nil},
		"gone, may be left out":     {t.Context(), missing, thanos.PartialResponseStrategy_WARN, true, nil},
		"broken, all or nothing":    {t.Context(), broken, thanos.PartialResponseStrategy_ABORT, false, storeapi.ErrAborted},
		"bucket, may be left out":   {t.Context(), bucket, thanos.PartialResponseStrategy_WARN, true, nil},
		"bucket, all or nothing":    {t.Context(), bucket, thanos.PartialResponseStrategy_ABORT, false, storeapi.ErrAborted},
		"limits hold with warnings": {t.Context(), limit, thanos.PartialResponseStrategy_WARN, false, storeapi.ErrLimit},
		"the caller has left":       {cancelled, broken, thanos.PartialResponseStrategy_WARN, false, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var warnings []string
			tr := troubles{strategy: tc.strategy, metrics: newMetrics(nil), warn: func(s string) error {
				warnings = append(warnings, s)
				return nil
			}}
			err := tr.read(tc.ctx, tc.err, "its data are missing")
			if tc.kind == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, tc.kind)
				require.ErrorContains(t, err, "block X")
			}
			require.Equal(t, tc.warned, len(warnings) == 1)
			if tc.warned {
				require.Contains(t, warnings[0], "block X")
				require.Contains(t, warnings[0], "its data are missing")
			}
		})
	}
}

func TestABucketThatGivesNoBlockEndsTheAnswer(t *testing.T) {
	t.Parallel()
	warnings := 0
	tr := troubles{strategy: thanos.PartialResponseStrategy_WARN, metrics: newMetrics(nil), warn: func(string) error {
		warnings++
		return nil
	}}
	for i := range maxFailed {
		require.NoError(t, tr.read(t.Context(), fmt.Errorf("block %d: connection refused", i), "its data are missing"))
		require.NoError(t, tr.read(t.Context(), fmt.Errorf("block %d: %w", i, blockread.ErrCorrupt), "its data are missing"), "broken blocks are no sign of it")
	}
	require.ErrorIs(t, tr.read(t.Context(), errors.New("block X: connection refused"), "its data are missing"), storeapi.ErrAborted)
	require.Equal(t, 2*maxFailed, warnings)
}

func TestAsideTouchesByLabelsTimesAndResolution(t *testing.T) {
	t.Parallel()
	a := Aside{ID: "X", Known: true, External: labels.FromStrings("cluster", "eu1"), MinTime: 100, MaxTime: 200, Resolution: 5}
	eq := func(n, v string) []*labels.Matcher {
		return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, n, v)}
	}
	require.True(t, a.touches(eq("job", "x"), nil, 150, 160, 5))
	require.True(t, a.touches(eq("cluster", "eu1"), nil, 0, 100, 60))
	require.False(t, a.touches(eq("cluster", "us1"), nil, 150, 160, 5))
	require.False(t, a.touches(nil, nil, 200, 300, 5), "the end is exclusive")
	require.False(t, a.touches(nil, nil, 0, 99, 5))
	require.False(t, a.touches(nil, nil, 150, 160, 0), "too coarse for the request")
	require.False(t, a.touches(nil, eq(blockIDLabel, "Y"), 150, 160, 5))
	require.True(t, a.touches(nil, eq(blockIDLabel, "X"), 150, 160, 5))
	a.Known = false
	require.True(t, a.touches(eq("cluster", "us1"), nil, 500, 600, 0), "nobody can tell")
}

func TestSizesIsAHistogram(t *testing.T) {
	t.Parallel()
	s := newSizes("sizes", "Help.", []float64{2, 4})
	for _, data := range []string{"a", "ab", "abc", "abcdef"} {
		b := s.batch("x")
		c := raw(0, 1, data)
		b.add(&c)
		b.flush()
	}
	require.NoError(t, testutil.CollectAndCompare(s, strings.NewReader(`
# HELP sizes Help.
# TYPE sizes histogram
sizes_bucket{tenant="x",le="2"} 2
sizes_bucket{tenant="x",le="4"} 3
sizes_bucket{tenant="x",le="+Inf"} 4
sizes_sum{tenant="x"} 12
sizes_count{tenant="x"} 4
`)))
}

func TestBatchesShareARequestsMemory(t *testing.T) {
	t.Parallel()
	r := &seriesRequest{s: &Store{cfg: Config{RequestBytes: 64 << 20}}}
	for blocks, want := range map[int]int64{0: maxBatchBytes, 1: maxBatchBytes, 64: 512 << 10, 10000: minBatchBytes} {
		require.Equal(t, want, r.batchBytes(blocks), "%d blocks", blocks)
	}
}
