package rangeread

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/objstore/faults"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// quick retries at once.
func quick() Config {
	return Config{Attempts: 15, Backoff: time.Microsecond, MaxBackoff: time.Microsecond, Concurrency: 4}
}

func bucketWith(t *testing.T, cfg faults.Config, objects map[string][]byte) (*Bucket, *faults.Bucket) {
	t.Helper()
	mem := objstore.NewInMemBucket()
	for name, b := range objects {
		require.NoError(t, mem.Upload(t.Context(), name, bytes.NewReader(b)))
	}
	f, err := faults.Wrap(mem, cfg)
	require.NoError(t, err)
	return New(f, quick()), f
}

func TestCoalesceJoinsUpToTheGapAndTheLength(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ranges         [][2]int64
		maxGap, maxLen int64
		want           []Span
	}{
		"none":             {nil, 10, 100, nil},
		"touching":         {[][2]int64{{0, 5}, {5, 9}}, 1, 100, []Span{{0, 2, 0, 9}}},
		"overlapping":      {[][2]int64{{0, 8}, {5, 7}, {6, 12}}, 1, 100, []Span{{0, 3, 0, 12}}},
		"gap just allowed": {[][2]int64{{0, 5}, {14, 20}}, 10, 100, []Span{{0, 2, 0, 20}}},
		"gap too large":    {[][2]int64{{0, 5}, {15, 20}}, 10, 100, []Span{{0, 1, 0, 5}, {1, 2, 15, 20}}},
		"too long":         {[][2]int64{{0, 60}, {60, 120}}, 10, 100, []Span{{0, 1, 0, 60}, {1, 2, 60, 120}}},
		"one too long":     {[][2]int64{{0, 500}}, 10, 100, []Span{{0, 1, 0, 500}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Coalesce(len(tc.ranges), func(i int) (int64, int64) { return tc.ranges[i][0], tc.ranges[i][1] }, tc.maxGap, tc.maxLen)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestItemsHoldTheBytesOfTheObject(t *testing.T) {
	t.Parallel()
	object := content(1 << 20)
	bkt, _ := bucketWith(t, faults.Config{}, map[string][]byte{"o": object})
	rng := rand.New(rand.NewPCG(3, 4))
	var layout Layout
	var arena Arena
	for round := range 200 {
		bkt.maxGap = []int64{localGap, remoteGap}[round%2]
		var items []Item
		for range 1 + rng.IntN(40) {
			start := rng.Int64N(int64(len(object) - 10))
			items = append(items, Item{Start: start, End: start + 1 + rng.Int64N(20000), Min: 1 + rng.IntN(9)})
		}
		slices.SortFunc(items, func(a, b Item) int { return int(a.Start - b.Start) })
		bkt.Lay(&layout, items)
		require.NoError(t, bkt.ReadItems(t.Context(), "o", items, &layout, &arena))
		for _, it := range items {
			end := min(it.End, int64(len(object)))
			require.GreaterOrEqual(t, len(it.Buf), int(end-it.Start))
			require.True(t, bytes.Equal(it.Buf, object[it.Start:it.Start+int64(len(it.Buf))]))
		}
	}
}

func TestGapsAreNotKept(t *testing.T) {
	t.Parallel()
	bkt, f := bucketWith(t, faults.Config{}, map[string][]byte{"o": content(1 << 20)})
	items := []Item{{Start: 0, End: 100, Min: 1}, {Start: 400_000, End: 400_100, Min: 1}, {Start: 800_000, End: 800_100, Min: 1}}
	var layout Layout
	var arena Arena
	bkt.Lay(&layout, items)
	require.Equal(t, 300, layout.Bytes())
	require.Equal(t, 1, layout.Requests(), "gaps below 512 KiB are worth no request")
	require.NoError(t, bkt.ReadItems(t.Context(), "o", items, &layout, &arena))
	require.Less(t, arena.Cap(), 1000)
	require.EqualValues(t, 1, f.Requests()[faults.GetRange])
}

func TestPassingFailuresAreRetried(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]faults.Rule{
		"half of the reads fail":   {Operations: []string{faults.GetRange}, Share: 0.5, Error: faults.ErrorPlain},
		"bodies break":             {Operations: []string{faults.GetRange}, Share: 0.5, BreakAfter: ptr(int64(10))},
		"bodies end early":         {Operations: []string{faults.GetRange}, Share: 0.5, Truncate: ptr(int64(10))},
		"bodies come bit by bit":   {Operations: []string{faults.GetRange}, ShortReads: 3},
		"only the first ones fail": {Operations: []string{faults.GetRange}, Times: 5, Error: faults.ErrorPlain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := content(5000)
			bkt, _ := bucketWith(t, faults.Config{Seed: 5, Rules: []faults.Rule{rule}}, map[string][]byte{"o": object})
			for range 20 {
				parts := []Part{{Off: 100, Buf: make([]byte, 50), Min: 50}, {Off: 4000, Buf: make([]byte, 1000), Min: 1000}}
				require.NoError(t, bkt.ReadParts(t.Context(), "o", parts))
				require.True(t, bytes.Equal(object[100:150], parts[0].Buf))
				require.True(t, bytes.Equal(object[4000:], parts[1].Buf))
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestLastingFailuresAreToldApart(t *testing.T) {
	t.Parallel()
	objects := map[string][]byte{"o": content(100)}
	read := func(bkt *Bucket, ctx context.Context, name string, off int64, n int) error {
		return bkt.Read(ctx, name, &Part{Off: off, Buf: make([]byte, n), Min: n})
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		bkt, f := bucketWith(t, faults.Config{}, objects)
		err := read(bkt, t.Context(), "p", 0, 1)
		require.ErrorIs(t, err, ErrMissing)
		require.ErrorContains(t, err, "p")
		require.EqualValues(t, 1, f.Requests()[faults.GetRange], "asking again does not help")
	})
	t.Run("truncated", func(t *testing.T) {
		t.Parallel()
		bkt, f := bucketWith(t, faults.Config{}, objects)
		for _, off := range []int64{60, 100, 5000} {
			f.Reset()
			require.ErrorIs(t, read(bkt, t.Context(), "o", off, 50), ErrTruncated, "at %d", off)
			require.EqualValues(t, 1, f.Requests()[faults.GetRange], "asking again does not help")
		}
	})
	t.Run("longer than needed is fine", func(t *testing.T) {
		t.Parallel()
		bkt, _ := bucketWith(t, faults.Config{}, objects)
		p := Part{Off: 90, Buf: make([]byte, 50), Min: 5}
		require.NoError(t, bkt.Read(t.Context(), "o", &p))
		require.Equal(t, objects["o"][90:], p.Buf)
	})
	t.Run("the bucket fails", func(t *testing.T) {
		t.Parallel()
		bkt, f := bucketWith(t, faults.Config{Rules: []faults.Rule{{Operations: []string{faults.GetRange}, Error: faults.ErrorPlain}}}, objects)
		err := read(bkt, t.Context(), "o", 0, 10)
		require.ErrorIs(t, err, faults.ErrInjected)
		require.False(t, errors.Is(err, ErrMissing) || errors.Is(err, ErrTruncated))
		require.EqualValues(t, 15, f.Requests()[faults.GetRange])
	})
	t.Run("access is denied", func(t *testing.T) {
		t.Parallel()
		bkt, f := bucketWith(t, faults.Config{Rules: []faults.Rule{{Operations: []string{faults.GetRange}, Error: faults.ErrorAccessDenied}}}, objects)
		require.ErrorIs(t, read(bkt, t.Context(), "o", 0, 10), faults.ErrInjected)
		require.EqualValues(t, 1, f.Requests()[faults.GetRange])
	})
	t.Run("the caller leaves", func(t *testing.T) {
		t.Parallel()
		bkt, _ := bucketWith(t, faults.Config{Rules: []faults.Rule{{Operations: []string{faults.GetRange}, Error: faults.ErrorPlain}}}, objects)
		bkt.cfg.Backoff, bkt.cfg.MaxBackoff = time.Hour, time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, read(bkt, ctx, "o", 0, 10), context.Canceled)
	})
	t.Run("the deadline is near", func(t *testing.T) {
		t.Parallel()
		bkt, _ := bucketWith(t, faults.Config{Rules: []faults.Rule{{Operations: []string{faults.GetRange}, Error: faults.ErrorPlain}}}, objects)
		bkt.cfg.Backoff, bkt.cfg.MaxBackoff = time.Hour, time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, read(bkt, ctx, "o", 0, 10), faults.ErrInjected, "the failure is told, not the deadline")
	})
}

func TestSmallObjectsAreReadWithPatience(t *testing.T) {
	t.Parallel()
	objects := map[string][]byte{}
	for i := range 20 {
		objects[fmt.Sprintf("dir/%02d", i)] = content(100 + i)
	}
	b, f := bucketWith(t, faults.Config{Seed: 1, Rules: []faults.Rule{
		{Operations: faults.Reads(), Share: 0.4, Error: faults.ErrorPlain},
		{Operations: []string{faults.Get}, Share: 0.3, BreakAfter: ptr(int64(20))},
	}}, objects)
	small := b.SmallObjects(f)
	var names []string
	require.NoError(t, small.Iter(t.Context(), "dir/", func(n string) error {
		names = append(names, n)
		return nil
	}))
	require.Len(t, names, 20, "each once, however often the listing was repeated")
	for _, n := range names {
		ok, err := small.Exists(t.Context(), n)
		require.NoError(t, err)
		require.True(t, ok)
		attrs, err := small.Attributes(t.Context(), n)
		require.NoError(t, err)
		require.EqualValues(t, len(objects[n]), attrs.Size)
		r, err := small.Get(t.Context(), n)
		require.NoError(t, err)
		var got bytes.Buffer
		_, err = got.ReadFrom(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(objects[n], got.Bytes()))
	}
	_, err := small.Get(t.Context(), "nothing")
	require.True(t, f.IsObjNotFoundErr(err), "%v", err)
	stop := errors.New("enough")
	require.ErrorIs(t, small.Iter(t.Context(), "dir/", func(string) error { return stop }), stop)
	require.True(t, slices.IsSortedFunc(names, strings.Compare))
}
