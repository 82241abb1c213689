package store

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

var (
	external = labels.FromStrings("cluster", "eu1", "replica", "a")
	all      = &thanos.LabelMatcher{Type: thanos.LabelMatcher_RE, Name: "__name__", Value: ".+"}
)

func named(kv ...string) labels.Labels {
	return labels.FromStrings(append([]string{"__name__", "m"}, kv...)...)
}

func is(name, value string) *thanos.LabelMatcher {
	return &thanos.LabelMatcher{Name: name, Value: value}
}

func request(without ...string) *thanos.SeriesRequest {
	return &thanos.SeriesRequest{MinTime: 0, MaxTime: 1_000_000, Matchers: []*thanos.LabelMatcher{all}, WithoutReplicaLabels: without}
}

// line is a series of an answer: its labels, and the values of its chunks.
type line struct {
	Labels string
	Values []float64
}

// series reads an answer and checks that it is in order.
func (s *setup) series(t testing.TB, req *thanos.SeriesRequest) (out []line, err error) {
	t.Helper()
	stream, err := s.client.Series(t.Context(), req)
	require.NoError(t, err)
	var last labels.Labels
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		for _, in := range append(resp.GetBatch().GetSeries(), resp.GetSeries()) {
			if in == nil {
				continue
			}
			lset := storeapi.Labels(&thanos.LabelSet{Labels: in.GetLabels()})
			if len(out) > 0 {
				require.LessOrEqual(t, labels.Compare(last, lset), 0, "%s after %s", lset, last)
			}
			last = lset
			if len(out) == 0 || out[len(out)-1].Labels != lset.String() {
				out = append(out, line{Labels: lset.String()})
			}
			for _, c := range in.GetChunks() {
				require.Equal(t, thanos.Chunk_XOR, c.GetRaw().GetType())
				ch, err := chunkenc.FromData(chunkenc.EncXOR, c.GetRaw().GetData())
				require.NoError(t, err)
				it := ch.Iterator(nil)
				require.Equal(t, chunkenc.ValFloat, it.Next())
				at, v := it.At()
				require.Equal(t, c.GetMinTime(), at)
				out[len(out)-1].Values = append(out[len(out)-1].Values, v)
			}
		}
	}
}

// want is the answer by brute force.
func want(series []labels.Labels, ext labels.Labels, without []string, parts int) (out []line) {
	type extended struct {
		lset   labels.Labels
		values []float64
	}
	byLabels := map[string]*extended{}
	var order []*extended
	for _, in := range series {
		b := labels.NewBuilder(in)
		ext.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		lset := b.Del(without...).Labels()
		e := byLabels[lset.String()]
		if e == nil {
			e = &extended{lset: lset}
			byLabels[lset.String()] = e
			order = append(order, e)
		}
		for range parts {
			e.values = append(e.values, idOf(in))
		}
	}
	slices.SortFunc(order, func(a, b *extended) int { return labels.Compare(a.lset, b.lset) })
	for _, e := range order {
		slices.Sort(e.values)
		out = append(out, line{e.lset.String(), e.values})
	}
	return out
}

func sortValues(lines []line) []line {
	for _, l := range lines {
		slices.Sort(l.Values)
	}
	return lines
}

func TestSeriesAreInOrderWhateverTheLabels(t *testing.T) {
	t.Parallel()
	s := newSetup(t, Config{}, storeapi.Limits{})
	rng := rand.New(rand.NewPCG(7, 11))
	names := []string{"a", "b", "c", "d", "e", "f"}
	pick := func(n int) labels.Labels {
		b := labels.NewBuilder(labels.EmptyLabels())
		for range n {
			b.Set(names[rng.IntN(len(names))], fmt.Sprint(rng.IntN(3)))
		}
		return b.Labels()
	}
	streamed := 0
	for i := range 400 {
		ext := pick(1 + rng.IntN(3))
		var without []string
		for range rng.IntN(3) {
			without = append(without, names[rng.IntN(len(names))])
		}
		// Half of the cases have no label of their own that is touched.
		clean := i%2 == 0
		unique := map[string]labels.Labels{}
		for range 1 + rng.IntN(40) {
			b := labels.NewBuilder(pick(rng.IntN(5)))
			b.Set("__name__", fmt.Sprintf("m%d", rng.IntN(2)))
			if clean {
				b.Del(without...)
				ext.Range(func(l labels.Label) { b.Del(l.Name) })
			}
			unique[b.Labels().String()] = b.Labels()
		}
		var series []labels.Labels
		for _, lset := range unique {
			series = append(series, lset)
		}
		parts := 1 + rng.IntN(2)
		s.prom.mu.Lock()
		s.prom.parts = parts
		s.prom.unstreamed = parts == 1 && rng.IntN(4) == 0
		s.prom.mu.Unlock()
		s.hold(ext, series...)
		for _, batch := range []int64{0, 7} {
			req := request(without...)
			req.ResponseBatchSize = batch
			got, err := s.series(t, req)
			require.NoError(t, err)
			if d := cmp.Diff(want(series, ext, without, parts), sortValues(got)); d != "" {
				t.Fatalf("external %s, without %v (-want +got):\n%s", ext, without, d)
			}
		}
		if !slices.Contains(s.asked(), "/api/v1/series") {
			streamed++
		}
	}
	require.Greater(t, streamed, 150, "answers without own external labels stream")
	require.Less(t, streamed, 350, "and others do not")
	require.Zero(t, s.store.held.Load(), "what was held is given back")
}

func TestOnlySeriesThatMatchDecideWhetherAnAnswerIsSorted(t *testing.T) {
	t.Parallel()
	// One byte is too little to hold anything.
	s := newSetup(t, Config{MaxHeldBytes: 1}, storeapi.Limits{})
	s.hold(external, named("job", "a"), labels.FromStrings("__name__", "federated", "replica", "x"))
	req := request()
	req.Matchers = []*thanos.LabelMatcher{is("__name__", "m")}
	got, err := s.series(t, req)
	require.NoError(t, err)
	require.Len(t, got, 1)

	_, err = s.series(t, request())
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "got %v", err)
	require.ErrorContains(t, err, "may hold 1;")
	require.Zero(t, s.store.held.Load())

	// Servers that know no limit are not asked for a sample of series.
	s.source.set(external, "2.40.0", upstream.Unknown)
	_, err = s.series(t, req)
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "got %v", err)
}

func TestALabelThatNobodyForesawFailsTheAnswerAndTheNextIsSorted(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]string{"another value": "own", "the same value": "eu1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, Config{}, storeapi.Limits{})
			series := []labels.Labels{
				named("a", "1", "cluster", own, "o", "1"), named("a", "1", "cluster", own, "y", "1"), named("a", "1", "n", "1"),
			}
			s.hold(external, series...)
			s.prom.hidden = []string{"cluster"}
			_, err := s.series(t, request())
			require.Equal(t, codes.Unavailable, status.Code(err), "got %v", err)
			require.ErrorContains(t, err, s.url)
			got, err := s.series(t, request())
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(want(series, external, nil, 1), got))
			require.Greater(t, s.store.distrusted.Load(), time.Now().UnixNano())
		})
	}
}

func TestSkipChunksAsksForLabelSetsOnly(t *testing.T) {
	t.Parallel()
	s := newSetup(t, Config{}, storeapi.Limits{})
	series := []labels.Labels{named("a", "1"), named("a", "1", "d", "1"), named(), named("replica", "x"), named("replica", "y")}
	s.hold(external, series...)
	for _, without := range [][]string{nil, {"replica"}, {"a", "d"}} {
		req := request(without...)
		req.SkipChunks = true
		got, err := s.series(t, req)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want(series, external, without, 0), got))
	}
	require.NotContains(t, s.asked(), "/api/v1/read")

	// A selector that fits series without labels is no selector to the HTTP API.
	req := request()
	req.SkipChunks, req.Matchers = true, []*thanos.LabelMatcher{is("cluster", "eu1"), is("a", "")}
	got, err := s.series(t, req)
	require.NoError(t, err)
	require.Len(t, got, 1, "m with external labels, three times")
}

func TestMatchersOnExternalLabelsAreAnsweredHere(t *testing.T) {
	t.Parallel()
	s := newSetup(t, Config{}, storeapi.Limits{})
	s.hold(external, named("job", "a"))
	req := request()
	req.Matchers = []*thanos.LabelMatcher{all, is("cluster", "us1")}
	got, err := s.series(t, req)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Empty(t, s.asked(), "Prometheus is left alone")

	req.Matchers = []*thanos.LabelMatcher{all, is("cluster", "eu1"), {Type: thanos.LabelMatcher_NEQ, Name: "replica", Value: "b"}}
	got, err = s.series(t, req)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Len(t, s.prom.reads[0].GetMatchers(), 1)

	req.Matchers = []*thanos.LabelMatcher{is("cluster", "eu1")}
	_, err = s.series(t, req)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestTimesAreClippedToWhatIsServed(t *testing.T) {
	t.Parallel()
	s := newSetup(t, Config{}, storeapi.Limits{})
	s.hold(external, named("job", "a"))
	s.source.set(external, "3.5.0", 5000)
	for _, tc := range []struct{ mint, maxt, wantMin, wantMax int64 }{
		{0, 9000, 5000, 9000},
		{7000, 9000, 7000, 9000},
		{math.MinInt64, math.MaxInt64, 5000, maxTime},
	} {
		s.hold(external, named("job", "a"))
		s.source.set(external, "3.5.0", 5000)
		_, err := s.series(t, &thanos.SeriesRequest{MinTime: tc.mint, MaxTime: tc.maxt, Matchers: []*thanos.LabelMatcher{all}})
		require.NoError(t, err)
		require.Equal(t, tc.wantMin, s.prom.reads[0].GetStartTimestampMs())
		require.Equal(t, tc.wantMax, s.prom.reads[0].GetEndTimestampMs())
	}
	s.hold(external, named("job", "a"))
	s.source.set(external, "3.5.0", 5000)
	got, err := s.series(t, &thanos.SeriesRequest{MinTime: 0, MaxTime: 4999, Matchers: []*thanos.LabelMatcher{all}})
	require.NoError(t, err)
	require.Empty(t, got)
	names, err := s.client.LabelNames(t.Context(), &thanos.LabelNamesRequest{Start: 0, End: 4999})
	require.NoError(t, err)
	require.Empty(t, names.GetNames())
	require.Empty(t, s.asked())
}

func TestLabelsComeFromPrometheusAndTheExternalOnes(t *testing.T) {
	t.Parallel()
	series := []labels.Labels{named("job", "a", "x", "1"), named("job", "b"), labels.FromStrings("__name__", "n", "job", "c", "replica", "own")}
	for _, version := range []string{"3.5.0", "2.23.1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, Config{}, storeapi.Limits{})
			s.hold(external, series...)
			s.prom.old = version == "2.23.1"
			s.source.set(external, version, upstream.Unknown)
			names := func(without []string, ms ...*thanos.LabelMatcher) []string {
				resp, err := s.client.LabelNames(t.Context(), &thanos.LabelNamesRequest{End: 1000, Matchers: ms, WithoutReplicaLabels: without})
				require.NoError(t, err)
				require.Empty(t, resp.GetWarnings())
				return resp.GetNames()
			}
			values := func(label string, ms ...*thanos.LabelMatcher) []string {
				resp, err := s.client.LabelValues(t.Context(), &thanos.LabelValuesRequest{Label: label, End: 1000, Matchers: ms})
				require.NoError(t, err)
				return resp.GetValues()
			}
			require.Equal(t, []string{"__name__", "cluster", "job", "replica", "x"}, names(nil))
			require.Equal(t, []string{"__name__", "cluster", "job"}, names([]string{"replica", "x"}))
			require.Equal(t, []string{"__name__", "cluster", "job", "replica"}, names(nil, is("job", "b")))
			require.Equal(t, []string{"__name__", "cluster", "job", "replica"}, names(nil, is("cluster", "eu1"), is("__name__", "n")))
			require.Empty(t, names(nil, is("job", "z")))
			require.Empty(t, names(nil, is("cluster", "us1")))
			require.Equal(t, []string{"a", "b", "c"}, values("job"))
			require.Equal(t, []string{"a"}, values("job", is("x", "1")))
			require.Equal(t, []string{"a"}, values("replica"))
			require.Equal(t, []string{"a"}, values("replica", is("job", "a")))
			require.Empty(t, values("replica", is("job", "z")))
			_, err := s.client.LabelValues(t.Context(), &thanos.LabelValuesRequest{End: 1000})
			require.Equal(t, codes.InvalidArgument, status.Code(err))
		})
	}
}

func TestFailuresOfPrometheusKeepTheirKindAndNameIt(t *testing.T) {
	t.Parallel()
	s := newSetup(t, Config{}, storeapi.Limits{})
	s.hold(external, named("job", "a"))
	for httpCode, code := range map[int]codes.Code{
		http.StatusBadRequest: codes.InvalidArgument, http.StatusNotFound: codes.NotFound, http.StatusUnprocessableEntity: codes.Internal,
		http.StatusServiceUnavailable: codes.Unavailable, http.StatusInternalServerError: codes.Internal,
	} {
		s.prom.mu.Lock()
		s.prom.fail = httpCode
		s.prom.mu.Unlock()
		check := func(err error) {
			t.Helper()
			require.Equal(t, code, status.Code(err), "%d became %v", httpCode, err)
			require.ErrorContains(t, err, s.url)
			require.ErrorContains(t, err, "told to fail")
		}
		_, err := s.series(t, request())
		check(err)
		skip := request()
		skip.SkipChunks = true
		_, err = s.series(t, skip)
		check(err)
		_, err = s.client.LabelNames(t.Context(), &thanos.LabelNamesRequest{End: 1000})
		check(err)
		_, err = s.client.LabelValues(t.Context(), &thanos.LabelValuesRequest{End: 1000, Label: "job"})
		check(err)
	}
}

func TestNothingIsServedBeforePrometheusHasAnswered(t *testing.T) {
	t.Parallel()
	s := newSetup(t, Config{}, storeapi.Limits{})
	_, err := s.series(t, request())
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, s.url)
	_, err = s.client.LabelNames(t.Context(), &thanos.LabelNamesRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
}

func TestLimitsAreObserved(t *testing.T) {
	t.Parallel()
	var series []labels.Labels
	for i := range 50 {
		series = append(series, named("i", fmt.Sprintf("%02d", i)))
	}
	t.Run("of the request", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, Config{}, storeapi.Limits{})
		s.hold(external, series...)
		for _, skip := range []bool{true, false} {
			req := request()
			req.Limit, req.SkipChunks = 3, skip
			got, err := s.series(t, req)
			require.NoError(t, err)
			require.Len(t, got, 3)
			require.Contains(t, got[2].Labels, `i="02"`)
		}
	})
	for name, limits := range map[string]storeapi.Limits{"of series": {Series: 49}, "of samples": {Samples: 49 * 120}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, Config{}, limits)
			s.hold(external, series...)
			_, err := s.series(t, request())
			require.Equal(t, codes.ResourceExhausted, status.Code(err), "got %v", err)
			s.hold(external, series[:49]...)
			_, err = s.series(t, request())
			require.NoError(t, err)
		})
	}
}
