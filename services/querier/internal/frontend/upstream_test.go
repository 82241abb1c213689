package frontend

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/results"
)

func TestMain(m *testing.M) {
	engine.EnableExperimentalFunctions()
	goleak.VerifyTestMain(m)
}

// upstream is a querier: Prometheus' engine over samples in memory, that knows shard_info.
type upstream struct {
	t       testing.TB
	engine  *promql.Engine
	storage storage.Queryable

	mu    sync.Mutex
	calls []*http.Request
	// before, where set, is called for each request; what it returns as done is not answered further.
	before func(w http.ResponseWriter, r *http.Request) (done bool)
}

const samples = `load 30s
	requests_total{job="api", instance="0", code="200"} 0+10x480
	requests_total{job="api", instance="1", code="200"} 0+20x220 0+20x240
	requests_total{job="api", instance="0", code="500"} 2+3x60 _x20 200+5x360
	requests_total{job="app", instance="0", code="200"} 1+50x480
	requests_total{job="app", instance="1", code="404"} 7+1x300
	errors_total{job="api", instance="0"} 0+1x480
	errors_total{job="app", instance="0"} 5+2x480
	temperature{room="north"} 20+0.1x200 40-0.1x200
	temperature{room="south"} _x300 25-0.05x100
	lat_bucket{job="api", le="0.1"} 0+3x480
	lat_bucket{job="api", le="1"} 0+8x480
	lat_bucket{job="api", le="+Inf"} 0+10x480
	lat_bucket{job="app", le="0.1"} 0+1x480
	lat_bucket{job="app", le="1"} 0+2x480
	lat_bucket{job="app", le="+Inf"} 0+7x480
	native{job="api"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}+{{schema:0 sum:5 count:4 buckets:[1 2 1]}}x480
	native{job="app"} {{schema:1 sum:3 count:6 z_bucket:1 z_bucket_w:0.001 buckets:[2 0 3]}}+{{schema:1 sum:1 count:2 buckets:[1 0 1]}}x200
	mixed{job="api"} 1x150 {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x150 3x100
	odd{v="a\"<b>\\c é"} NaN Inf -Inf 1e22 1e-9 _x100 stale 5x200
	{"dotted.name", "label with space"="väl\"ue"} 3+1x480
	ver{v="1"} 1x100 _x380
	ver{v="2"} _x100 1x380
`

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	st := promqltest.LoadedStorage(t, samples)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	eng := promql.NewEngine(promql.EngineOpts{
		Logger: promslog.NewNopLogger(), MaxSamples: math.MaxInt32, Timeout: time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true,
	})
	t.Cleanup(func() { require.NoError(t, eng.Close()) })
	return &upstream{t: t, engine: eng, storage: st}
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.calls = append(u.calls, r)
	before := u.before
	u.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	data, notes, err := u.answer(r)
	if err != nil {
		_ = promapi.RespondError(w, err)
		return
	}
	_ = promapi.Respond(w, data, notes)
}

// taken returns the requests since it was last called.
func (u *upstream) taken() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.calls
	u.calls = nil
	return out
}

func (u *upstream) fault(f func(w http.ResponseWriter, r *http.Request) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.before = f
}

func (u *upstream) answer(r *http.Request) (promapi.Data, promapi.Notes, error) {
	form, err := promapi.ParseForm(r)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/query_range"):
		q, err := form.RangeQuery(promapi.Defaults{Step: time.Second})
		if err != nil {
			return nil, promapi.Notes{}, err
		}
		query, err := u.engine.NewRangeQuery(r.Context(), sharded{u.storage, q.Shard}, nil, q.Query, q.Start, q.End, q.Step)
		return u.exec(r.Context(), query, err, q.Query)
	case strings.HasSuffix(r.URL.Path, "/query"):
		q, err := form.InstantQuery(promapi.Defaults{}, time.Now())
		if err != nil {
			return nil, promapi.Notes{}, err
		}
		query, err := u.engine.NewInstantQuery(r.Context(), sharded{u.storage, q.Shard}, nil, q.Query, q.Time)
		return u.exec(r.Context(), query, err, q.Query)
	}
	q, err := form.LabelsQuery(promapi.Defaults{}, time.Now())
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	querier, err := u.storage.Querier(q.Start.UnixMilli(), q.End.UnixMilli())
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	defer querier.Close()
	if strings.HasSuffix(r.URL.Path, "/labels") {
		names, _, err := querier.LabelNames(r.Context(), nil)
		return promapi.Strings(names), promapi.Notes{}, err
	}
	if strings.HasSuffix(r.URL.Path, "/series") {
		set := querier.Select(r.Context(), true, &storage.SelectHints{Start: q.Start.UnixMilli(), End: q.End.UnixMilli(), Func: "series"}, q.Matchers[0]...)
		var out promapi.LabelSets
		for set.Next() {
			out = append(out, set.At().Labels())
		}
		return out, promapi.Notes{}, set.Err()
	}
	_, name, _ := strings.Cut(r.URL.Path, "/label/")
	values, _, err := querier.LabelValues(r.Context(), strings.TrimSuffix(name, "/values"), nil)
	return promapi.Strings(values), promapi.Notes{}, err
}

func (u *upstream) exec(ctx context.Context, q promql.Query, err error, text string) (promapi.Data, promapi.Notes, error) {
	if err != nil {
		return nil, promapi.Notes{}, promapi.NewError(promapi.ErrorBadData, err)
	}
	u.t.Cleanup(q.Close)
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, promapi.Notes{}, res.Err
	}
	return &promapi.QueryData{Result: res.Value}, promapi.NotesFrom(res.Warnings, text).Flat(), nil
}

// sharded hands out the series of one shard.
type sharded struct {
	storage.Queryable

	shard *promapi.ShardInfo
}

func (s sharded) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(mint, maxt)
	if err != nil || s.shard == nil {
		return q, err
	}
	return shardQuerier{q, storeapi.NewShard(&thanos.ShardInfo{
		ShardIndex: s.shard.ShardIndex, TotalShards: s.shard.TotalShards, By: s.shard.By, Labels: s.shard.Labels,
	})}, nil
}

type shardQuerier struct {
	storage.Querier

	shard *storeapi.Shard
}

func (q shardQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := q.Querier.Select(ctx, sorted, hints, ms...)
	return &shardSet{SeriesSet: set, shard: q.shard}
}

type shardSet struct {
	storage.SeriesSet

	shard *storeapi.Shard
}

func (s *shardSet) Next() bool {
	for s.SeriesSet.Next() {
		if s.shard.Has(s.At().Labels()) {
			return true
		}
	}
	return false
}

func (s *shardSet) Warnings() annotations.Annotations { return s.SeriesSet.Warnings() }

// house is a frontend before an upstream.
type house struct {
	t    testing.TB
	up   *upstream
	cfg  Config
	deps Deps
	now  time.Time
	fe   *Frontend
}

// newHouse returns a frontend that splits by half an hour and does nothing else; change it, then call build.
func newHouse(t testing.TB) *house {
	t.Helper()
	u := newUpstream(t)
	h := &house{t: t, up: u, now: time.Unix(1e6, 0)}
	h.cfg = Config{
		Range:    RangeConfig{Intervals: plan.Intervals{Static: 30 * time.Minute}, Tries: 1, Parallelism: 4, MaxFreshness: time.Minute},
		Instant:  InstantConfig{Tries: 1},
		Labels:   LabelsConfig{Interval: 30 * time.Minute, Tries: 1, Parallelism: 4, MaxFreshness: time.Minute},
		Defaults: promapi.Defaults{PartialResponse: true, Step: time.Second},
		Tenancy:  tenancy.DefaultSource(),
	}
	h.deps = Deps{
		Caller: downstream.NewLocal(u), Pass: u, Parse: engine.Parse, Queue: fair.New(0, 0, nil),
		Logger: zap.NewNop(), Now: func() time.Time { return h.now },
	}
	return h
}

func (h *house) build() *house {
	h.fe = New(h.cfg, h.deps)
	return h
}

func (h *house) cached() *house {
	h.deps.RangeCache = memoryCache(h.t)
	h.deps.LabelsCache = memoryCache(h.t)
	return h
}

func memoryCache(t testing.TB) *results.Cache {
	c := results.New("test", cache.NewMemory(64<<20, 16<<20), results.Config{}, zap.NewNop(), nil)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// ask sends a request to a handler.
func ask(t testing.TB, h http.Handler, path string, pairs ...string) *httptest.ResponseRecorder {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/"+path+"?"+form.Encode(), nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func times(requests []*http.Request) (out []string) {
	for _, r := range requests {
		out = append(out, r.URL.Query().Get("start")+"-"+r.URL.Query().Get("end"))
	}
	slices.Sort(out)
	return out
}

// sameVector requires equal answers but for the order of the series.
func sameVector(t testing.TB, want, got []byte) {
	t.Helper()
	a, b := decodeAnswer(t, want), decodeAnswer(t, got)
	list, ok := a["data"].(map[string]any)
	if !ok {
		require.Equal(t, a, b)
		return
	}
	other := b["data"].(map[string]any)
	if _, ok := list["result"].([]any); ok && list["resultType"] == "vector" {
		require.ElementsMatch(t, list["result"], other["result"])
		return
	}
	require.Equal(t, a, b)
}

func decodeAnswer(t testing.TB, body []byte) (out map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(body, &out), "%s", body)
	return out
}
