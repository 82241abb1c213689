package gather_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer serves all APIs with fixed answers.
type peer struct {
	thanos.UnimplementedRulesServer
	thanos.UnimplementedTargetsServer
	thanos.UnimplementedMetadataServer
	thanos.UnimplementedExemplarsServer
	thanos.UnimplementedStatusServer

	groups    []*thanos.RuleGroup
	targets   *thanos.TargetDiscovery
	metadata  map[string]*thanos.MetricMetadataEntry
	exemplars []*thanos.ExemplarData
	stats     map[string]*thanos.TSDBStatisticsEntry
	warning   string
	err       error
	hang      bool

	mu      sync.Mutex // guards queries
	queries []string   // that exemplars were asked by
}

func (p *peer) trouble(done <-chan struct{}) error {
	if p.hang {
		<-done
	}
	return p.err
}

func (p *peer) Rules(_ *thanos.RulesRequest, s grpc.ServerStreamingServer[thanos.RulesResponse]) error {
	if p.warning != "" {
		if err := s.Send(&thanos.RulesResponse{Result: &thanos.RulesResponse_Warning{Warning: p.warning}}); err != nil {
			return err
		}
	}
	for _, g := range p.groups {
		if err := s.Send(&thanos.RulesResponse{Result: &thanos.RulesResponse_Group{Group: g}}); err != nil {
			return err
		}
	}
	return p.trouble(s.Context().Done())
}

func (p *peer) Targets(_ *thanos.TargetsRequest, s grpc.ServerStreamingServer[thanos.TargetsResponse]) error {
	return s.Send(&thanos.TargetsResponse{Result: &thanos.TargetsResponse_Targets{Targets: p.targets}})
}

func (p *peer) MetricMetadata(_ *thanos.MetricMetadataRequest, s grpc.ServerStreamingServer[thanos.MetricMetadataResponse]) error {
	return s.Send(&thanos.MetricMetadataResponse{Result: &thanos.MetricMetadataResponse_Metadata{Metadata: &thanos.MetricMetadata{Metadata: p.metadata}}})
}

func (p *peer) Exemplars(r *thanos.ExemplarsRequest, s grpc.ServerStreamingServer[thanos.ExemplarsResponse]) error {
	p.mu.Lock()
	p.queries = append(p.queries, r.GetQuery())
	p.mu.Unlock()
	for _, d := range p.exemplars {
		if err := s.Send(&thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Data{Data: d}}); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) TSDBStatistics(_ *thanos.TSDBStatisticsRequest, s grpc.ServerStreamingServer[thanos.TSDBStatisticsResponse]) error {
	return s.Send(&thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Statistics{Statistics: &thanos.TSDBStatistics{Statistics: p.stats}}})
}

func (p *peer) endpoint(t *testing.T, component string, sets ...labels.Labels) endpoints.Endpoint {
	t.Helper()
	addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){func(r grpc.ServiceRegistrar) {
		thanos.RegisterRulesServer(r, p)
		thanos.RegisterTargetsServer(r, p)
		thanos.RegisterMetadataServer(r, p)
		thanos.RegisterExemplarsServer(r, p)
		thanos.RegisterStatusServer(r, p)
	}}})
	return endpoints.Endpoint{
		Addr: addr, Conn: fakepeer.Dial(t, addr), ComponentType: component, LabelSets: sets,
		Rules: true, Targets: true, Metadata: true, Status: true, Exemplars: &endpoints.TimeRange{MinTime: 100, MaxTime: 200},
	}
}

func gatherer(eps ...endpoints.Endpoint) *gather.Gatherer {
	return gather.New(endpoints.Static(eps), gather.Config{
		ReplicaLabels: []string{"replica"}, SelectorLabels: labels.FromStrings("region", "eu"), ResponseTimeout: 300 * time.Millisecond,
	}, zap.NewNop())
}

func set(ss ...string) *thanos.LabelSet { return storeapi.LabelSet(labels.FromStrings(ss...)) }

func lset(ss ...string) labels.Labels { return labels.FromStrings(ss...) }

func at(sec int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: sec} }

func alert(name string, state thanos.AlertState, evaluated int64, ss ...string) *thanos.Rule {
	return &thanos.Rule{Result: &thanos.Rule_Alert{Alert: &thanos.Alert{
		Name: name, Query: "up == 0", State: state, Labels: set(ss...), LastEvaluation: at(evaluated),
	}}}
}

func recording(name string, evaluated int64, ss ...string) *thanos.Rule {
	return &thanos.Rule{Result: &thanos.Rule_Recording{Recording: &thanos.RecordingRule{
		Name: name, Query: "sum(up)", Labels: set(ss...), LastEvaluation: at(evaluated),
	}}}
}

func TestRulesOfReplicasCollapse(t *testing.T) {
	t.Parallel()
	a := &peer{groups: []*thanos.RuleGroup{
		{Name: "g", File: "z.yml", Rules: []*thanos.Rule{recording("r", 5, "replica", "a")}},
		{Name: "g", File: "a.yml", Rules: []*thanos.Rule{
			recording("r", 5, "replica", "a"), alert("A", thanos.AlertState_PENDING, 9, "replica", "a", "x", "1"), alert("B", thanos.AlertState_FIRING, 5, "replica", "a"),
		}},
	}}
	b := &peer{groups: []*thanos.RuleGroup{
		{Name: "g", File: "a.yml", Rules: []*thanos.Rule{
			recording("r", 6, "replica", "b"), alert("A", thanos.AlertState_FIRING, 5, "replica", "b", "x", "1"), alert("B", thanos.AlertState_FIRING, 7, "replica", "b"),
			alert("A", thanos.AlertState_INACTIVE, 5, "replica", "b", "x", "2"),
		}},
		{Name: "empty", File: "a.yml"},
	}}
	got, warnings, err := gatherer(a.endpoint(t, "sidecar"), b.endpoint(t, "sidecar")).Rules(t.Context(), &thanos.RulesRequest{})
	require.NoError(t, err)
	require.Empty(t, warnings)
	var names []string
	for _, g := range got.GetGroups() {
		names = append(names, g.GetFile()+";"+g.GetName())
	}
	require.Equal(t, []string{"a.yml;empty", "a.yml;g", "z.yml;g"}, names)
	rules := got.GetGroups()[1].GetRules()
	require.Len(t, rules, 4)
	require.Equal(t, thanos.AlertState_FIRING, rules[0].GetAlert().GetState(), "the higher state stays")
	require.True(t, set("x", "1").EqualVT(rules[0].GetAlert().GetLabels()))
	require.Equal(t, thanos.AlertState_INACTIVE, rules[1].GetAlert().GetState())
	require.EqualValues(t, 7, rules[2].GetAlert().GetLastEvaluation().GetSeconds(), "then the later one")
	require.EqualValues(t, 6, rules[3].GetRecording().GetLastEvaluation().GetSeconds())
}

func TestPeersThatFailAreNamed(t *testing.T) {
	t.Parallel()
	good := (&peer{groups: []*thanos.RuleGroup{{Name: "g", File: "f"}}}).endpoint(t, "sidecar", lset("c", "good"))
	lost := (&peer{}).endpoint(t, "sidecar", lset("c", "lost"))
	lost.Err = errors.New("gone fishing")
	for name, tc := range map[string]struct {
		bad  endpoints.Endpoint
		want string
	}{
		"fails": {(&peer{err: errors.New("disk on fire")}).endpoint(t, "rule", lset("c", "bad")), "disk on fire"},
		"hangs": {(&peer{hang: true}).endpoint(t, "rule", lset("c", "bad")), "no answer within the response timeout of 300ms"},
		"warns": {(&peer{warning: "half of it"}).endpoint(t, "rule"), "half of it"},
		"lost":  {lost, "gone fishing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatherer(tc.bad, good)
			got, warnings, err := g.Rules(t.Context(), &thanos.RulesRequest{})
			require.NoError(t, err)
			require.Len(t, got.GetGroups(), 1)
			require.Len(t, warnings, 1)
			require.Contains(t, warnings[0], tc.want)
			if name != "warns" {
				require.Contains(t, warnings[0], tc.bad.Addr)
			}
			_, _, err = g.Rules(t.Context(), &thanos.RulesRequest{PartialResponseStrategy: thanos.PartialResponseStrategy_ABORT})
			require.ErrorIs(t, err, storeapi.ErrAborted)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, tc.bad.Addr)
		})
	}
}

func TestTheEndOfTheRequestIsNoWarning(t *testing.T) {
	t.Parallel()
	e := (&peer{hang: true}).endpoint(t, "rule")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := gatherer(e).Rules(ctx, &thanos.RulesRequest{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, e.Addr)
}

func TestTargetsOfReplicasCollapse(t *testing.T) {
	t.Parallel()
	mk := func(replica string, scraped int64) *thanos.TargetDiscovery {
		return &thanos.TargetDiscovery{
			ActiveTargets: []*thanos.ActiveTarget{{
				DiscoveredLabels: set("__address__", "x", "replica", replica), Labels: set("instance", "x", "replica", replica),
				ScrapeUrl: "http://x", LastScrape: at(scraped),
			}},
			DroppedTargets: []*thanos.DroppedTarget{{DiscoveredLabels: set("d", "1", "replica", replica)}},
		}
	}
	got, _, err := gatherer((&peer{targets: mk("a", 5)}).endpoint(t, "sidecar"), (&peer{targets: mk("b", 7)}).endpoint(t, "sidecar")).
		Targets(t.Context(), &thanos.TargetsRequest{})
	require.NoError(t, err)
	require.Len(t, got.GetActiveTargets(), 1)
	require.EqualValues(t, 7, got.GetActiveTargets()[0].GetLastScrape().GetSeconds())
	require.True(t, set("instance", "x").EqualVT(got.GetActiveTargets()[0].GetLabels()))
	require.Len(t, got.GetDroppedTargets(), 1)
}

func TestMetadataIsJoinedAndCut(t *testing.T) {
	t.Parallel()
	entry := func(helps ...string) *thanos.MetricMetadataEntry {
		e := &thanos.MetricMetadataEntry{}
		for _, h := range helps {
			e.Metas = append(e.Metas, &thanos.Meta{Type: "gauge", Help: h})
		}
		return e
	}
	g := gatherer(
		(&peer{metadata: map[string]*thanos.MetricMetadataEntry{"a": entry("1"), "b": entry("1")}}).endpoint(t, "sidecar"),
		(&peer{metadata: map[string]*thanos.MetricMetadataEntry{"a": entry("1", "2"), "c": entry("1")}}).endpoint(t, "sidecar"))
	for limit, want := range map[int32]map[string]int{-1: {"a": 2, "b": 1, "c": 1}, 0: {}, 1: nil, 2: nil} {
		got, _, err := g.MetricMetadata(t.Context(), &thanos.MetricMetadataRequest{Limit: limit})
		require.NoError(t, err)
		counts := map[string]int{}
		for name, metas := range got {
			counts[name] = len(metas)
		}
		if want == nil {
			require.Len(t, counts, int(limit))
			continue
		}
		require.Equal(t, want, counts)
	}
}

func TestStatisticsAreSummedByTenant(t *testing.T) {
	t.Parallel()
	entry := func(n uint64, mint, maxt int64) *thanos.TSDBStatisticsEntry {
		return &thanos.TSDBStatisticsEntry{
			HeadStatistics:             &thanos.HeadStatistics{NumSeries: n, NumLabelPairs: 2, ChunkCount: 3, MinTime: mint, MaxTime: maxt},
			SeriesCountByMetricName:    []*thanos.Statistic{{Name: "up", Value: n}, {Name: "x", Value: 1}},
			LabelValueCountByLabelName: []*thanos.Statistic{{Name: "job", Value: n}},
		}
	}
	a := (&peer{stats: map[string]*thanos.TSDBStatisticsEntry{"": entry(5, 10, 20), "t": entry(1, 1, 2)}}).endpoint(t, "sidecar", lset("c", "1"))
	b := (&peer{stats: map[string]*thanos.TSDBStatisticsEntry{"": entry(7, 5, 15)}}).endpoint(t, "sidecar", lset("c", "2"))
	g := gatherer(a, b)
	got, _, err := g.TSDBStatistics(t.Context(), &thanos.TSDBStatisticsRequest{Limit: 1})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.True(t, (&thanos.TSDBStatisticsEntry{
		HeadStatistics:             &thanos.HeadStatistics{NumSeries: 12, NumLabelPairs: 4, ChunkCount: 6, MinTime: 5, MaxTime: 20},
		SeriesCountByMetricName:    []*thanos.Statistic{{Name: "up", Value: 12}},
		LabelValueCountByLabelName: []*thanos.Statistic{{Name: "job", Value: 7}},
	}).EqualVT(got[""]), "got %v", got[""])
	got, _, err = g.TSDBStatistics(t.Context(), &thanos.TSDBStatisticsRequest{Matchers: []*thanos.LabelMatcher{{Name: "c", Value: "2"}}})
	require.NoError(t, err)
	require.EqualValues(t, 7, got[""].GetHeadStatistics().GetNumSeries())
	_, _, err = g.TSDBStatistics(t.Context(), &thanos.TSDBStatisticsRequest{Matchers: []*thanos.LabelMatcher{{Type: 9, Name: "c"}}})
	require.ErrorIs(t, err, storeapi.ErrInvalid)
}

func TestExemplarsAreAskedForBySelectorsWithoutExternalLabels(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		query       string
		component   string
		sets        []labels.Labels
		start, end  int64
		want        []string // queries that reach the peer
		wantInvalid bool
	}{
		"selectors only":        {query: `sum(rate(a{x="1"}[5m])) / b`, want: []string{`{x="1", __name__="a"}+{__name__="b"}`}},
		"external label":        {query: `a{c="1", d!="2"}`, sets: []labels.Labels{lset("c", "1")}, want: []string{`{d!="2", __name__="a"}`}},
		"rejected":              {query: `a{c="2"}`, sets: []labels.Labels{lset("c", "1")}},
		"one of two":            {query: `a{c="2"} + b{c="1"}`, sets: []labels.Labels{lset("c", "1")}, want: []string{`{__name__="b"}`}},
		"a querier":             {query: `a{c="1"}`, component: "query", sets: []labels.Labels{lset("c", "1")}, want: []string{`{c="1", __name__="a"}`}},
		"own label":             {query: `a{region="eu"}`, want: []string{`{__name__="a"}`}},
		"own label rejected":    {query: `a{region="us"}`},
		"twice the same":        {query: `a + a`, want: []string{`{__name__="a"}`}},
		"out of range":          {query: `a`, start: 201, end: 300},
		"external labels alone": {query: `{c="1"}`, sets: []labels.Labels{lset("c", "1")}, wantInvalid: true},
		"no PromQL":             {query: `a{`, wantInvalid: true},
		"ends before it starts": {query: `a`, start: 5, end: 4, wantInvalid: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &peer{}
			component := tc.component
			if component == "" {
				component = "sidecar"
			}
			if tc.end == 0 {
				tc.start, tc.end = 150, 160
			}
			_, _, err := gatherer(p.endpoint(t, component, tc.sets...)).Exemplars(t.Context(), &thanos.ExemplarsRequest{Query: tc.query, Start: tc.start, End: tc.end})
			if tc.wantInvalid {
				require.ErrorIs(t, err, storeapi.ErrInvalid)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, p.queries)
		})
	}
}

func TestExemplarsOfReplicasCollapse(t *testing.T) {
	t.Parallel()
	mk := func(replica string, ts ...int64) *peer {
		d := &thanos.ExemplarData{SeriesLabels: set("__name__", "a", "replica", replica)}
		for _, at := range ts {
			d.Exemplars = append(d.Exemplars, &thanos.Exemplar{Labels: set("trace", "1"), Value: 1, Ts: at})
		}
		return &peer{exemplars: []*thanos.ExemplarData{d}}
	}
	got, _, err := gatherer(mk("a", 3, 1).endpoint(t, "sidecar"), mk("b", 2, 3).endpoint(t, "sidecar")).
		Exemplars(t.Context(), &thanos.ExemplarsRequest{Query: "a", Start: 150, End: 160})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.True(t, set("__name__", "a").EqualVT(got[0].GetSeriesLabels()))
	var ts []int64
	for _, x := range got[0].GetExemplars() {
		ts = append(ts, x.GetTs())
	}
	require.Equal(t, []int64{1, 2, 3}, ts)
}
