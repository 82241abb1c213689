package requests

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func newBucket(t *testing.T) (*Counter, *prometheus.Registry, objstore.InstrumentedBucket) {
	t.Helper()
	mem := objstore.NewInMemBucket()
	require.NoError(t, mem.Upload(t.Context(), "dir/o", strings.NewReader("content")))
	reg := prometheus.NewPedanticRegistry()
	c := NewCounter(reg)
	return c, reg, c.Bucket(objstore.WithNoopInstr(mem))
}

// askAll uses each reading method once.
func askAll(ctx context.Context, t *testing.T, bkt objstore.BucketReader) {
	t.Helper()
	require.NoError(t, bkt.Iter(ctx, "", func(string) error { return nil }))
	require.NoError(t, bkt.IterWithAttributes(ctx, "", func(objstore.IterObjectAttributes) error { return nil }))
	for _, get := range []func() error{
		func() error {
			r, err := bkt.Get(ctx, "dir/o")
			if err != nil {
				return err
			}
			return r.Close()
		},
		func() error {
			r, err := bkt.GetRange(ctx, "dir/o", 1, 2)
			if err != nil {
				return err
			}
			return r.Close()
		},
		func() error { _, err := bkt.Exists(ctx, "dir/o"); return err },
		func() error { _, err := bkt.Attributes(ctx, "dir/o"); return err },
	} {
		require.NoError(t, get())
	}
}

func (c *Counter) of(cause Cause) (n float64) {
	for _, op := range operations() {
		n += testutil.ToFloat64(c.total.WithLabelValues(string(cause), op))
	}
	return n
}

func TestEachRequestIsCountedForWhomItWasMade(t *testing.T) {
	t.Parallel()
	c, reg, bkt := newBucket(t)
	ctx, done := c.For(t.Context(), Sync)
	askAll(ctx, t, bkt)
	inner, innerDone := c.For(ctx, IndexHeader)
	askAll(inner, t, bkt.ReaderWithExpectedErrs(bkt.IsObjNotFoundErr))
	askAll(inner, t, bkt.WithExpectedErrs(bkt.IsObjNotFoundErr))
	innerDone()
	done()
	askAll(t.Context(), t, bkt)
	require.InDelta(t, 6, c.of(Sync), 0)
	require.InDelta(t, 12, c.of(IndexHeader), 0)
	require.InDelta(t, 6, c.of(Other), 0)
	require.Zero(t, c.of(Series))
	require.InDelta(t, 2, testutil.ToFloat64(c.total.WithLabelValues("sync", objstore.OpIter)), 0)

	families, err := reg.Gather()
	require.NoError(t, err)
	sums := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "promontory_store_gateway_bucket_requests" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetHistogram().GetSampleCount() > 0 {
				sums[m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	require.Equal(t, map[string]float64{"sync": 6, "index_header": 12}, sums)
}

func TestRequestsThatFailAreCountedToo(t *testing.T) {
	t.Parallel()
	c, _, bkt := newBucket(t)
	ctx, done := c.For(t.Context(), Series)
	defer done()
	_, err := bkt.Get(ctx, "nothing")
	require.True(t, bkt.IsObjNotFoundErr(err))
	require.InDelta(t, 1, c.of(Series), 0)
}

type fakeStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a fake
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func TestCallsOfTheStoreAPIAreTasksAndOthersAreNot(t *testing.T) {
	t.Parallel()
	for method, cause := range map[string]Cause{
		thanos.Store_LabelNames_FullMethodName: LabelNames, thanos.Store_LabelValues_FullMethodName: LabelValues,
		thanos.Store_Series_FullMethodName: Series, "/thanos.info.Info/Info": Other,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c, _, bkt := newBucket(t)
			if cause != Series {
				_, err := c.UnaryInterceptor()(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
					askAll(ctx, t, bkt)
					return nil, nil
				})
				require.NoError(t, err)
			}
			if cause == Series || cause == Other {
				require.NoError(t, c.StreamInterceptor()(nil, &fakeStream{ctx: t.Context()}, &grpc.StreamServerInfo{FullMethod: method}, func(_ any, ss grpc.ServerStream) error {
					askAll(ss.Context(), t, bkt)
					return nil
				}))
			}
			want := 6.0
			if cause == Other {
				want = 12 // asked in both ways
			}
			require.InDelta(t, want, c.of(cause), 0)
		})
	}
}

func TestNoCounterCountsNothing(t *testing.T) {
	t.Parallel()
	var c *Counter
	_, _, bkt := newBucket(t)
	require.Equal(t, bkt, c.Bucket(bkt))
	ctx, done := c.For(t.Context(), Sync)
	require.Equal(t, t.Context(), ctx)
	done()
	ctx, done = NewCounter(nil).For(t.Context(), Sync)
	askAll(ctx, t, NewCounter(nil).Bucket(bkt))
	done()
}
