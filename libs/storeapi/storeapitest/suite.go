// Package storeapitest is the contract suite of the Store API: one set of checks
// for every server, over real gRPC, with the generated client and none of the
// decoding code under test.
package storeapitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// Run checks the store that setup makes against the contract.
func Run(t *testing.T, setup Setup) {
	t.Run("standard data", func(t *testing.T) {
		data := standardData()
		conn := setup(t, data)
		s := &suite{data: data, store: thanos.NewStoreClient(conn), info: info.NewInfoClient(conn)}
		t.Run("series by matchers", s.matchers)
		t.Run("external label matchers are answered by the store", s.externalMatchers)
		t.Run("bad requests are InvalidArgument", s.badRequests)
		t.Run("replica labels are removed and the order kept", s.replicaLabels)
		t.Run("time ranges select chunks", s.timeRanges)
		t.Run("skip_chunks sends labels only", s.skipChunks)
		t.Run("batches carry the same series", s.batches)
		t.Run("limit truncates", s.limit)
		t.Run("shards partition the series", s.shards)
		t.Run("label names", s.labelNames)
		t.Run("label values", s.labelValues)
		t.Run("info announces the data", s.announces)
		t.Run("requests run side by side", s.concurrent)
		t.Run("a caller may leave at any time", s.leave)
	})
	t.Run("labels that collide", func(t *testing.T) {
		data := collidingData()
		conn := setup(t, data)
		s := &suite{data: data, store: thanos.NewStoreClient(conn), info: info.NewInfoClient(conn)}
		t.Run("external labels win", s.externalWins)
		t.Run("replica labels go wherever they come from", s.innerReplicas)
	})
}

type suite struct {
	data  Data
	store thanos.StoreClient
	info  info.InfoClient
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// result is an answer with the frames it came in.
type result struct {
	series   []*thanos.Series
	warnings []string
	batches  []int
}

func (s *suite) call(ctx context.Context, req *thanos.SeriesRequest) (result, error) {
	var res result
	stream, err := s.store.Series(ctx, req)
	if err != nil {
		return res, err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return res, nil
		}
		if err != nil {
			return res, err
		}
		switch r := resp.GetResult().(type) {
		case *thanos.SeriesResponse_Series:
			res.series = append(res.series, r.Series)
		case *thanos.SeriesResponse_Batch:
			res.batches = append(res.batches, len(r.Batch.GetSeries()))
			res.series = append(res.series, r.Batch.GetSeries()...)
		case *thanos.SeriesResponse_Warning:
			res.warnings = append(res.warnings, r.Warning)
		}
	}
}

func (s *suite) mustCall(t *testing.T, req *thanos.SeriesRequest) result {
	t.Helper()
	res, err := s.call(testContext(t), req)
	require.NoError(t, err)
	require.Empty(t, res.warnings)
	return res
}

func request(ms ...*labels.Matcher) *thanos.SeriesRequest {
	return &thanos.SeriesRequest{MinTime: Start, MaxTime: End, Matchers: storeapi.WireMatchers(ms)}
}

func eq(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func re(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchRegexp, name, value)
}

func all() *labels.Matcher { return re("__name__", ".+") }

// lsetOf keeps the order on the wire, so that unsorted labels show.
func lsetOf(t *testing.T, s *thanos.Series) labels.Labels {
	t.Helper()
	b := labels.NewScratchBuilder(len(s.GetLabels()))
	for i, l := range s.GetLabels() {
		if i > 0 {
			require.Less(t, s.GetLabels()[i-1].GetName(), l.GetName(), "labels of a series are sorted and unique")
		}
		b.Add(l.GetName(), l.GetValue())
	}
	return b.Labels()
}

// collect checks order and joins what belongs to one label set.
func collect(t *testing.T, res result) (lsets []labels.Labels, chks map[string][]*thanos.AggrChunk) {
	t.Helper()
	chks = map[string][]*thanos.AggrChunk{}
	for _, s := range res.series {
		lset := lsetOf(t, s)
		if n := len(lsets); n > 0 {
			c := labels.Compare(lsets[n-1], lset)
			require.LessOrEqual(t, c, 0, "series go back from %s to %s", lsets[n-1], lset)
			if c != 0 {
				lsets = append(lsets, lset)
			}
		} else {
			lsets = append(lsets, lset)
		}
		chks[lset.String()] = append(chks[lset.String()], s.GetChunks()...)
	}
	return lsets, chks
}

// decode turns raw chunks into samples within [mint, maxt], sorted by time.
func decode(t *testing.T, chks []*thanos.AggrChunk, mint, maxt int64) (out []Sample) {
	t.Helper()
	for _, c := range chks {
		require.NotNil(t, c.GetRaw(), "raw data answers with raw chunks")
		ch, err := chunkenc.FromData(chunkenc.Encoding(c.GetRaw().GetType()+1), c.GetRaw().GetData())
		require.NoError(t, err)
		it := ch.Iterator(nil)
		first, last := int64(-1), int64(-1)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			s := Sample{}
			switch vt {
			case chunkenc.ValFloat:
				s.T, s.V = it.At()
			case chunkenc.ValHistogram:
				s.T, s.H = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				s.T, s.FH = it.AtFloatHistogram(nil)
			}
			if first < 0 {
				first = s.T
			}
			last = s.T
			if s.T >= mint && s.T <= maxt {
				out = append(out, s)
			}
		}
		require.NoError(t, it.Err())
		require.LessOrEqual(t, c.GetMinTime(), first, "a chunk begins no earlier than it says")
		require.GreaterOrEqual(t, c.GetMaxTime(), last, "a chunk ends no later than it says")
	}
	slices.SortStableFunc(out, func(a, b Sample) int { return int(a.T - b.T) })
	return out
}

// want is what the store should answer: by extended labels, samples in range.
func (s *suite) want(ms []*labels.Matcher, without []string, mint, maxt int64) map[string][]Sample {
	out := map[string][]Sample{}
series:
	for _, in := range s.data.Series {
		lset := s.data.extended(in.Labels, nil)
		for _, m := range ms {
			if !m.Matches(lset.Get(m.Name)) {
				continue series
			}
		}
		key := s.data.extended(in.Labels, without).String()
		for _, smp := range in.Samples {
			if smp.T >= mint && smp.T <= maxt {
				out[key] = append(out[key], smp)
			}
		}
	}
	for _, v := range out {
		slices.SortStableFunc(v, func(a, b Sample) int { return int(a.T - b.T) })
	}
	return out
}

// check compares an answer with what the data say.
func (s *suite) check(t *testing.T, res result, ms []*labels.Matcher, without []string, mint, maxt int64) {
	t.Helper()
	_, chks := collect(t, res)
	got := map[string][]Sample{}
	for key, cs := range chks {
		if smp := decode(t, cs, mint, maxt); len(smp) > 0 {
			got[key] = smp
		}
	}
	ignoreHints := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".CounterResetHint" }, cmp.Ignore())
	byValue := cmp.Transformer("histogram", func(h *histogram.Histogram) any {
		if h == nil {
			return nil
		}
		return *h
	})
	if d := cmp.Diff(s.want(ms, without, mint, maxt), got, ignoreHints, byValue, cmp.AllowUnexported(Sample{})); d != "" {
		t.Errorf("samples for %s without %v (-want +got):\n%s", storeapi.FormatMatchers(ms), without, clip(d))
	}
}

func clip(s string) string {
	if len(s) > 4000 {
		return s[:4000] + "…"
	}
	return s
}

func (s *suite) matchers(t *testing.T) {
	ne := labels.MustNewMatcher(labels.MatchNotEqual, "code", "200")
	for _, ms := range [][]*labels.Matcher{
		{all()},
		{eq("__name__", "up")},
		{eq("__name__", "http_requests_total"), ne},
		{eq("__name__", "http_requests_total"), re("code", "4..|500"), labels.MustNewMatcher(labels.MatchNotRegexp, "instance", "host-[12]")},
		{eq("__name__", "chain"), eq("a", "")},
		{eq("__name__", "chain"), re("z", "|1")},
		{eq("__name__", "chain"), labels.MustNewMatcher(labels.MatchNotEqual, "a", "")},
		{ne, re("job", ".+")},
		{eq("job", "api"), re("__name__", "latency_native.*")},
		{eq("läbel", "välue \"quoted\"\n")},
		{eq("__name__", "nothing_of_the_kind")},
		{eq("no_such_label", "x")},
		{eq("__name__", "up"), eq("job", "api"), eq("job", "db")},
		{re("__name__", "up|late_gauge"), re("job", "d.*")},
	} {
		t.Run(storeapi.FormatMatchers(ms), func(t *testing.T) {
			s.check(t, s.mustCall(t, request(ms...)), ms, nil, Start, End)
		})
	}
}

func (s *suite) externalMatchers(t *testing.T) {
	for _, ms := range [][]*labels.Matcher{
		{eq("__name__", "up"), eq("cluster", "eu1")},
		{eq("__name__", "up"), eq("cluster", "us1")},
		{eq("__name__", "up"), re("cluster", "eu.*"), labels.MustNewMatcher(labels.MatchNotEqual, "replica", "b")},
		{eq("__name__", "up"), labels.MustNewMatcher(labels.MatchNotEqual, "replica", "a")},
		{eq("__name__", "up"), eq("cluster", "")},
	} {
		t.Run(storeapi.FormatMatchers(ms), func(t *testing.T) {
			s.check(t, s.mustCall(t, request(ms...)), ms, nil, Start, End)
		})
	}
}

func (s *suite) badRequests(t *testing.T) {
	for name, req := range map[string]*thanos.SeriesRequest{
		"no matchers":            request(),
		"only external matchers": request(eq("cluster", "eu1")),
		"regex does not parse": {MinTime: Start, MaxTime: End, Matchers: []*thanos.LabelMatcher{
			{Type: thanos.LabelMatcher_RE, Name: "job", Value: "(unclosed"},
		}},
		"matcher type is unknown": {MinTime: Start, MaxTime: End, Matchers: []*thanos.LabelMatcher{
			{Type: 17, Name: "job", Value: "x"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.call(testContext(t), req)
			require.Equal(t, codes.InvalidArgument, status.Code(err), "got %v", err)
		})
	}
}

func (s *suite) replicaLabels(t *testing.T) {
	for _, without := range [][]string{{"replica"}, {"replica", "cluster"}, {"no_such_label"}, {"replica", "code", "instance"}} {
		t.Run(fmt.Sprint(without), func(t *testing.T) {
			req := request(all())
			req.WithoutReplicaLabels = without
			s.check(t, s.mustCall(t, req), []*labels.Matcher{all()}, without, Start, End)
		})
	}
}

func (s *suite) timeRanges(t *testing.T) {
	for _, r := range [][2]int64{
		{Start, Start}, {Start + 600_000, Start + 1_200_000}, {End - 300_000, End}, {Start - 1000, Start + 1000},
	} {
		req := request(all())
		req.MinTime, req.MaxTime = r[0], r[1]
		s.check(t, s.mustCall(t, req), []*labels.Matcher{all()}, nil, r[0], r[1])
	}
	for _, r := range [][2]int64{{Start - 7_200_000, Start - 1}, {End + 3_600_000, End + 7_200_000}} {
		req := request(all())
		req.MinTime, req.MaxTime = r[0], r[1]
		require.Empty(t, s.mustCall(t, req).series, "nothing lies in %v", r)
	}
}

func (s *suite) skipChunks(t *testing.T) {
	req := request(all())
	req.SkipChunks = true
	res := s.mustCall(t, req)
	lsets, chks := collect(t, res)
	require.Len(t, lsets, len(s.data.Series))
	for key, c := range chks {
		require.Empty(t, c, key)
	}
}

func (s *suite) batches(t *testing.T) {
	req := request(all())
	single := s.mustCall(t, req)
	require.Empty(t, single.batches, "without a batch size there are series messages")
	req.ResponseBatchSize = 5
	batched := s.mustCall(t, req)
	require.NotEmpty(t, batched.batches)
	for _, n := range batched.batches {
		require.LessOrEqual(t, n, 5)
	}
	require.Less(t, len(batched.batches), len(batched.series), "batches hold several series")
	s.check(t, batched, []*labels.Matcher{all()}, nil, Start, End)
}

func (s *suite) limit(t *testing.T) {
	everything, _ := collect(t, s.mustCall(t, request(all())))
	for _, n := range []int{1, 3, len(everything), len(everything) + 5} {
		req := request(all())
		req.Limit = int64(n)
		lsets, _ := collect(t, s.mustCall(t, req))
		require.Len(t, lsets, min(n, len(everything)))
		for i, l := range lsets {
			require.True(t, labels.Equal(l, everything[i]), "the first series in order")
		}
	}
}

func (s *suite) shards(t *testing.T) {
	resp, err := s.info.Info(testContext(t), &info.InfoRequest{})
	require.NoError(t, err)
	require.True(t, resp.GetStore().GetSupportsSharding())
	for _, sh := range []*thanos.ShardInfo{{By: true, Labels: []string{"instance", "code"}}, {Labels: []string{"__name__"}}} {
		seen := map[string]int{}
		for i := range 3 {
			req := request(all())
			req.WithoutReplicaLabels = []string{"replica"}
			req.ShardInfo = &thanos.ShardInfo{ShardIndex: int64(i), TotalShards: 3, By: sh.GetBy(), Labels: sh.GetLabels()}
			lsets, _ := collect(t, s.mustCall(t, req))
			shard := storeapi.NewShard(req.GetShardInfo())
			for _, l := range lsets {
				seen[l.String()]++
				require.True(t, shard.Has(l), "%s does not belong to shard %d", l, i)
			}
		}
		require.Len(t, seen, len(s.data.Series))
		for l, n := range seen {
			require.Equal(t, 1, n, "%s is in one shard", l)
		}
	}
}

func (s *suite) labelNames(t *testing.T) {
	want := func(ms ...*labels.Matcher) []string {
		names := map[string]struct{}{}
	series:
		for _, in := range s.data.Series {
			lset := s.data.extended(in.Labels, nil)
			for _, m := range ms {
				if !m.Matches(lset.Get(m.Name)) {
					continue series
				}
			}
			lset.Range(func(l labels.Label) { names[l.Name] = struct{}{} })
		}
		out := make([]string, 0, len(names))
		for n := range names {
			out = append(out, n)
		}
		slices.Sort(out)
		return out
	}
	get := func(limit int64, without []string, ms ...*labels.Matcher) []string {
		resp, err := s.store.LabelNames(testContext(t), &thanos.LabelNamesRequest{
			Start: Start, End: End, Matchers: storeapi.WireMatchers(ms), Limit: limit, WithoutReplicaLabels: without,
		})
		require.NoError(t, err)
		require.Empty(t, resp.GetWarnings())
		return resp.GetNames()
	}
	require.Equal(t, want(), get(0, nil))
	require.Equal(t, want()[:2], get(2, nil))
	require.Equal(t, want(eq("job", "db")), get(0, nil, eq("job", "db")))
	require.Equal(t, want(eq("job", "db")), get(0, nil, eq("job", "db"), eq("cluster", "eu1")))
	require.Empty(t, get(0, nil, eq("job", "db"), eq("cluster", "us1")))
	require.Empty(t, get(0, nil, eq("job", "no such job")))
	require.NotContains(t, get(0, []string{"replica"}), "replica")
}

func (s *suite) labelValues(t *testing.T) {
	get := func(label string, limit int64, ms ...*labels.Matcher) []string {
		resp, err := s.store.LabelValues(testContext(t), &thanos.LabelValuesRequest{
			Label: label, Start: Start, End: End, Matchers: storeapi.WireMatchers(ms), Limit: limit,
		})
		require.NoError(t, err)
		require.Empty(t, resp.GetWarnings())
		return resp.GetValues()
	}
	require.Equal(t, []string{"api", "db"}, get("job", 0))
	require.Equal(t, []string{"api"}, get("job", 1))
	require.Equal(t, []string{"host-0", "host-1", "host-2", "host-3"}, get("instance", 0))
	require.Equal(t, []string{"host-0", "host-1"}, get("instance", 0, eq("__name__", "up")))
	require.Equal(t, []string{"eu1"}, get("cluster", 0))
	require.Equal(t, []string{"eu1"}, get("cluster", 0, eq("__name__", "up")))
	require.Empty(t, get("cluster", 0, eq("__name__", "no such metric")))
	require.Empty(t, get("job", 0, eq("cluster", "us1")))
	require.Equal(t, []string{"db"}, get("job", 0, eq("__name__", "up"), labels.MustNewMatcher(labels.MatchNotEqual, "instance", "host-0")))
	require.Empty(t, get("no_such_label", 0))
}

func (s *suite) announces(t *testing.T) {
	resp, err := s.info.Info(testContext(t), &info.InfoRequest{})
	require.NoError(t, err)
	st := resp.GetStore()
	require.NotNil(t, st)
	require.LessOrEqual(t, st.GetMinTime(), Start)
	require.GreaterOrEqual(t, st.GetMaxTime(), Start+step*400)
	require.True(t, st.GetSupportsWithoutReplicaLabels())
	require.NotEmpty(t, resp.GetLabelSets())
	for _, ls := range resp.GetLabelSets() {
		require.True(t, labels.Equal(s.data.External, storeapi.Labels(ls)), "announced %s", storeapi.Labels(ls))
	}
	require.NotEmpty(t, resp.GetComponentType())
}

func (s *suite) concurrent(t *testing.T) {
	want := s.want([]*labels.Matcher{all()}, nil, Start, End)
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			req := request(all())
			req.ResponseBatchSize = int64(i)
			res, err := s.call(testContext(t), req)
			if err != nil {
				return err
			}
			seen := map[string]bool{}
			for _, sr := range res.series {
				seen[lsetOf(t, sr).String()] = true
			}
			if len(seen) != len(want) {
				return fmt.Errorf("call %d got %d series, want %d", i, len(seen), len(want))
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
}

func (s *suite) leave(t *testing.T) {
	for range 5 {
		ctx, cancel := context.WithCancel(testContext(t))
		stream, err := s.store.Series(ctx, request(all()))
		require.NoError(t, err)
		_, err = stream.Recv()
		require.NoError(t, err)
		cancel()
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) {
			require.Equal(t, codes.Canceled, status.Code(err), "got %v", err)
		}
	}
	s.check(t, s.mustCall(t, request(eq("__name__", "up"))), []*labels.Matcher{eq("__name__", "up")}, nil, Start, End)
}

func (s *suite) externalWins(t *testing.T) {
	ms := []*labels.Matcher{eq("__name__", "m")}
	for _, batch := range []int64{0, 4} {
		req := request(ms...)
		req.ResponseBatchSize = batch
		res := s.mustCall(t, req)
		s.checkUnordered(t, res, nil)
	}
}

func (s *suite) innerReplicas(t *testing.T) {
	for _, without := range [][]string{{"replica"}, {"prometheus_replica"}, {"replica", "prometheus_replica"}, {"instance", "host"}} {
		req := request(eq("__name__", "m"))
		req.WithoutReplicaLabels = without
		s.checkUnordered(t, s.mustCall(t, req), without)
	}
}

// checkUnordered compares the values of series that fell together: their samples
// share timestamps, so only the set of values tells.
func (s *suite) checkUnordered(t *testing.T, res result, without []string) {
	t.Helper()
	_, chks := collect(t, res)
	got := map[string][]float64{}
	for key, cs := range chks {
		for _, smp := range decode(t, cs, Start, End) {
			got[key] = append(got[key], smp.V)
		}
	}
	want := map[string][]float64{}
	for _, in := range s.data.Series {
		key := s.data.extended(in.Labels, without).String()
		for _, smp := range in.Samples {
			want[key] = append(want[key], smp.V)
		}
	}
	for _, m := range []map[string][]float64{got, want} {
		for k := range m {
			slices.Sort(m[k])
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("values without %v (-want +got):\n%s", without, clip(d))
	}
}
