package frontend

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// hour is a range query over the first hour, on the grid of its steps.
func hour(more ...string) []string {
	return append([]string{"query", "requests_total", "start", "0", "end", "3600", "step", "60"}, more...)
}

func TestAQueryIsSplitAndWhatIsKnownIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached().build()
	ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, []string{"0-1740", "1800-3540", "3600-3600"}, times(h.up.taken()))
	ask(t, h.fe, "query_range", hour()...)
	require.Empty(t, h.up.taken())
	ask(t, h.fe, "query_range", "query", "requests_total", "start", "600", "end", "5400", "step", "60")
	require.Equal(t, []string{"3660-5340", "5400-5400"}, times(h.up.taken()), "of the third part the first step is known")
	ask(t, h.fe, "query_range", "query", "requests_total", "start", "-120", "end", "60", "step", "60")
	require.Equal(t, []string{"-120--60"}, times(h.up.taken()))
}

func TestWhatDecidesOnValuesDecidesOnWhatIsTakenFromTheCache(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached()
	h.cfg.OrgHeaders = []string{"X-Org"}
	h.cfg.KeyHeaders = []string{"X-User"}
	h.build()
	ask(t, h.fe, "query_range", hour()...)
	require.Len(t, h.up.taken(), 3)
	for name, more := range map[string][]string{
		"partial response": {"partial_response", "false"},
		"resolution":       {"max_source_resolution", "5m"},
		"auto resolution":  {"max_source_resolution", "auto"},
		"engine":           {"engine", "thanos"},
		"replica labels":   {"replicaLabels[]", "replica"},
		"lookback":         {"lookback_delta", "1m"},
	} {
		ask(t, h.fe, "query_range", hour(more...)...)
		require.Len(t, h.up.taken(), 3, "%s differs", name)
		ask(t, h.fe, "query_range", hour(more...)...)
		require.Empty(t, h.up.taken(), "%s is the same", name)
	}
	for name, more := range map[string][]string{"no dedup": {"dedup", "false"}, "some stores": {"storeMatch[]", `{__address__="a"}`}} {
		for range 2 {
			ask(t, h.fe, "query_range", hour(more...)...)
			require.Len(t, h.up.taken(), 3, "%s is not cached", name)
		}
	}
	for name, header := range map[string][2]string{
		"tenant": {"THANOS-TENANT", "b"}, "organisation": {"X-Org", "b"}, "forwarded header": {"X-User", "b"},
	} {
		for i, want := range []int{3, 0} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query_range?query=requests_total&start=0&end=3600&step=60", nil)
			r.Header.Set(header[0], header[1])
			h.fe.ServeHTTP(httptest.NewRecorder(), r)
			require.Len(t, h.up.taken(), want, "%s, time %d", name, i)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query_range?query=requests_total&start=0&end=3600&step=60", nil)
	r.Header.Set("Cache-Control", "no-store")
	h.fe.ServeHTTP(httptest.NewRecorder(), r)
	require.Len(t, h.up.taken(), 3, "the client wants no cache")
}

func TestAnIncompleteAnswerIsNeverKept(t *testing.T) {
	t.Parallel()
	for name, mark := range map[string]func(w http.ResponseWriter){
		"said by the header": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
		},
		"said by a warning": func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["no store"]}`)
		},
		"said by an info": func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]},"infos":["no store"]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t).cached()
			h.cfg.VerticalShards = 2
			h.build()
			// Of all parts only one shard of the second is incomplete.
			h.up.fault(func(w http.ResponseWriter, r *http.Request) bool {
				q := r.URL.Query()
				if q.Get("start") != "1800" || strings.Contains(q.Get("shard_info"), `"shard_index":0`) {
					return false
				}
				mark(w)
				return true
			})
			params := hour("query", "sum by (job) (requests_total)")[2:]
			w := ask(t, h.fe, "query_range", params...)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Len(t, h.up.taken(), 6)
			h.up.fault(nil)
			w = ask(t, h.fe, "query_range", params...)
			require.Empty(t, w.Header().Get("Cache-Control"))
			require.Equal(t, []string{"1800-3540", "1800-3540"}, times(h.up.taken()), "only what was incomplete is asked again")
			require.JSONEq(t, ask(t, h.up, "query_range", params...).Body.String(), w.Body.String())
		})
	}
}

func TestRemarksOfTheEngineAreKeptWithTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached().build()
	params := []string{"query", "rate(temperature[5m])", "start", "0", "end", "3600", "step", "60"}
	first := ask(t, h.fe, "query_range", params...)
	require.Contains(t, first.Body.String(), "PromQL info: metric might not be a counter")
	h.up.taken()
	second := ask(t, h.fe, "query_range", params...)
	require.Empty(t, h.up.taken())
	require.JSONEq(t, first.Body.String(), second.Body.String())
}

func TestWhatIsYoungIsAskedEachTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached()
	h.cfg.Range.MaxFreshness = 10 * time.Minute
	h.now = time.Unix(3600, 0)
	h.build()
	ask(t, h.fe, "query_range", hour()...)
	h.up.taken()
	ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, []string{"3060-3540", "3600-3600"}, times(h.up.taken()), "the last that is ten minutes old is at 3000")
	h.now = time.Unix(7200, 0)
	ask(t, h.fe, "query_range", hour()...)
	ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, []string{"3060-3540", "3600-3600"}, times(h.up.taken()))
	for _, expr := range []string{"requests_total offset -1m", "requests_total @ 7000"} {
		for range 2 {
			ask(t, h.fe, "query_range", hour("query", expr)[2:]...)
			require.Len(t, h.up.taken(), 3, expr)
		}
	}
}

func TestFailuresOfTheQuerierAreTriedAgainAndItsRefusalsPassedOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.Range.Tries = 2
	h.build()
	var mu sync.Mutex
	failed := map[string]bool{}
	h.up.fault(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if failed[r.URL.RawQuery] {
			return false
		}
		failed[r.URL.RawQuery] = true
		http.Error(w, "down", http.StatusBadGateway)
		return true
	})
	w := ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, http.StatusOK, w.Code)
	require.Len(t, h.up.taken(), 6)
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "still down")
		return true
	})
	w = ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "still down", w.Body.String())
	require.Equal(t, "text/x", w.Header().Get("Content-Type"))
	h.up.taken()
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprint(w, "this is no answer")
		return true
	})
	w = ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, http.StatusBadGateway, w.Code)
	require.Contains(t, w.Body.String(), "malformed answer")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
}

func TestEachKindOfCallIsTriedAsOftenAsItsOwnSettingSays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.Range.Intervals, h.cfg.Labels.Interval = plan.Intervals{}, 0
	h.cfg.Range.Tries, h.cfg.Instant.Tries, h.cfg.Labels.Tries = 1, 2, 3
	h.build()
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "down", http.StatusBadGateway)
		return true
	})
	for path, tries := range map[string]int{"query_range": 1, "query": 2, "labels": 3, "label/job/values": 3, "series": 3} {
		w := ask(t, h.fe, path, "query", "up", "match[]", "up", "start", "0", "end", "60", "step", "60")
		require.Equal(t, http.StatusBadGateway, w.Code)
		require.Len(t, h.up.taken(), tries, path)
	}
}

func TestNoMorePartsRunAtOnceThanMay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.Range.Parallelism, h.cfg.Labels.Parallelism = 2, 3
	h.build()
	for path, most := range map[string]int{"query_range": 2, "labels": 3} {
		var mu sync.Mutex
		running, seen := 0, 0
		full := make(chan struct{})
		h.up.fault(func(http.ResponseWriter, *http.Request) bool {
			mu.Lock()
			running++
			if seen = max(seen, running); running == most {
				select {
				case <-full:
				default:
					close(full)
				}
			}
			mu.Unlock()
			<-full // so many do run at once
			mu.Lock()
			running--
			mu.Unlock()
			return false
		})
		w := ask(t, h.fe, path, "query", "requests_total", "start", "0", "end", "14400", "step", "60")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, most, seen, path)
	}
}

func TestPartialResponseIsThatOfItsKindOfCall(t *testing.T) {
	t.Parallel()
	for _, ofLabels := range []bool{false, true} {
		h := newHouse(t)
		h.cfg.SetPartial, h.cfg.Defaults.PartialResponse, h.cfg.Labels.PartialResponse = true, !ofLabels, ofLabels
		h.build()
		for path, want := range map[string]bool{"query_range": !ofLabels, "query": !ofLabels, "labels": ofLabels, "series": ofLabels} {
			params := []string{"query", "up", "match[]", "up", "start", "0", "end", "60", "step", "60"}
			ask(t, h.fe, path, params...)
			require.Equal(t, fmt.Sprint(want), h.up.taken()[0].URL.Query().Get("partial_response"), path)
			ask(t, h.fe, path, append(params, "partial_response", fmt.Sprint(!want))...)
			require.Equal(t, fmt.Sprint(!want), h.up.taken()[0].URL.Query().Get("partial_response"), "%s: the request says so", path)
		}
	}
}

func TestAQuerierThatHangsEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t).build()
	h.up.fault(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	for want, ctx := range map[int]func() (context.Context, context.CancelFunc){
		http.StatusGatewayTimeout: func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 20*time.Millisecond)
		},
		statusClosed: func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx, cancel
		},
	} {
		ctx, cancel := ctx()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/query_range?query=requests_total&start=0&end=3600&step=60", nil)
		w := httptest.NewRecorder()
		h.fe.ServeHTTP(w, r)
		cancel()
		require.Equal(t, want, w.Code, "%s", w.Body)
	}
}

func TestBoundsAreKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.Range.MaxLength = time.Hour
	h.cfg.MaxBytes = 4096
	h.deps.Queue = fair.New(1, 1, nil)
	h.cfg.Range.Parallelism = 4
	h.build()
	w := ask(t, h.fe, "query_range", "query", "up", "start", "0", "end", "3601", "step", "60")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "the query time range exceeds the limit (query length: 1h0m1s, limit: 1h0m0s)")
	require.Empty(t, h.up.taken())

	h.cfg.Range.Parallelism = 1
	h.build()
	w = ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Contains(t, w.Body.String(), "more than 4096 bytes")

	// All of four parts at once, where one runs and one waits.
	h.cfg.MaxBytes, h.cfg.Range.Parallelism = 0, 4
	h.build()
	release := make(chan struct{})
	h.up.fault(func(http.ResponseWriter, *http.Request) bool {
		<-release
		return false
	})
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- ask(t, h.fe, "query_range", hour()...) }()
	close(release)
	w = <-done
	if w.Code != http.StatusOK { // the parts may also have come one by one
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), "too many outstanding requests")
	}
}

func TestParametersThatAreWrongAreRefusedBeforeAnythingIsAsked(t *testing.T) {
	t.Parallel()
	h := newHouse(t).build()
	for path, want := range map[string]string{
		"query_range?query=up&start=0":                       "invalid time value for 'end'",
		"query_range?query=up&start=10&end=0&step=1":         "end timestamp must not be before start time",
		"query_range?query=up&start=0&end=10&step=0":         "zero or negative query resolution step",
		"query_range?query=up&start=0&end=10&step=1&dedup=x": "'dedup' parameter",
		"query?query=up&time=x":                              "'time'",
		"series":                                             "no match[] parameter provided",
		"labels?start=x":                                     "'start'",
		"label/job/values?match[]=x{":                        "match[]",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/"+path, nil)
		w := httptest.NewRecorder()
		h.fe.ServeHTTP(w, r)
		require.Equal(t, http.StatusBadRequest, w.Code, path)
		require.Contains(t, w.Body.String(), want)
		require.Empty(t, h.up.taken())
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query?query=up", nil)
	r.Header.Set("THANOS-TENANT", "../x")
	w := httptest.NewRecorder()
	h.fe.ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
}

func TestWhatCannotBePutTogetherGoesAsOneRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached()
	h.cfg.VerticalShards = 2
	h.build()
	for _, more := range [][]string{
		{"analyze", "true"},
		{"stats", "all"},
		{"receipt", "true"},
		{"shard_info", `{"shard_index":0,"total_shards":2,"by":true,"labels":["job"]}`},
	} {
		ask(t, h.fe, "query_range", hour(more...)...)
		got := h.up.taken()
		require.Equal(t, []string{"0-3600"}, times(got), more)
		require.Equal(t, more[1], got[0].URL.Query().Get(more[0]))
	}
	w := ask(t, h.fe, "query_range", hour("query", "sum((")[2:]...)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "unclosed left parenthesis")
}

func TestStartAndEndMeanThoseOfTheWholeQuery(t *testing.T) {
	t.Parallel()
	h := newHouse(t).build()
	h.cfg.Range.Align = true
	h.build()
	ask(t, h.fe, "query_range", "query", "requests_total @ end()", "start", "61", "end", "3601", "step", "60")
	got := h.up.taken()
	require.Equal(t, []string{"1800-3540", "3600-3600", "60-1740"}, times(got))
	for _, r := range got {
		require.Equal(t, "requests_total @ 3600.000", r.URL.Query().Get("query"))
	}
}

func TestTheBeginningThatIsMissingIsAskedInCoarserData(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.Range.Downsampled = true
	h.cfg.Range.Intervals = plan.Intervals{}
	h.build()
	point := func(at int) string {
		return fmt.Sprintf(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[%d,"1"]]}]}}`, at)
	}
	h.up.fault(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Query().Get("max_source_resolution") {
		case "auto":
			fmt.Fprint(w, point(3000))
		case "300":
			fmt.Fprint(w, point(1200))
		case "3600":
			fmt.Fprint(w, point(60))
		}
		return true
	})
	w := ask(t, h.fe, "query_range", hour("max_source_resolution", "auto")...)
	require.Equal(t, []string{"0-1140", "0-2940", "0-3600"}, times(h.up.taken()))
	require.Contains(t, w.Body.String(), `"values":[[60,"1"],[1200,"1"],[3000,"1"]]`)
	ask(t, h.fe, "query_range", hour("max_source_resolution", "0s")...)
	require.Equal(t, []string{"0-3600"}, times(h.up.taken()), "only where the request leaves it open")
}

func TestAllElseGoesPastTheFrontend(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var passed []string
	h.deps.Pass = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { passed = append(passed, r.Method+" "+r.URL.Path) })
	h.build()
	for _, path := range []string{"GET /api/v1/rules", "GET /", "POST /api/v1/query_exemplars", "OPTIONS /api/v1/query", "POST /api/v1/label/a/values", "GET /api/v1/query_explain"} {
		method, target, _ := strings.Cut(path, " ")
		r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
		require.False(t, h.fe.Serves(r))
		h.fe.ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, path, passed[len(passed)-1])
	}
	require.True(t, h.fe.Serves(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/prefix/api/v1/query", nil)))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/query", strings.NewReader(url.Values{"query": {"requests_total"}, "time": {"60"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.fe.ServeHTTP(w, r)
	require.Equal(t, ask(t, h.up, "query", "query", "requests_total", "time", "60").Body.String(), w.Body.String())
}

func TestMetricsHaveTheNamesThatDashboardsRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached()
	reg := prometheus.NewRegistry()
	h.deps.Registerer, h.cfg.VerticalShards = reg, 2
	h.build()
	ask(t, h.fe, "query_range", hour()...)
	ask(t, h.fe, "query", "query", "sum by (job) (requests_total)")
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_frontend_sharding_middleware_queries_total Queries by whether they could be divided by series.
# TYPE thanos_frontend_sharding_middleware_queries_total counter
thanos_frontend_sharding_middleware_queries_total{shardable="false",tripperware="query"} 0
thanos_frontend_sharding_middleware_queries_total{shardable="false",tripperware="query_range"} 1
thanos_frontend_sharding_middleware_queries_total{shardable="true",tripperware="query"} 1
thanos_frontend_sharding_middleware_queries_total{shardable="true",tripperware="query_range"} 0
# HELP thanos_frontend_split_queries_total Parts into which requests were split by time.
# TYPE thanos_frontend_split_queries_total counter
thanos_frontend_split_queries_total{tripperware="labels"} 0
thanos_frontend_split_queries_total{tripperware="query_range"} 3
# HELP thanos_query_frontend_queries_total Requests by the kind of call.
# TYPE thanos_query_frontend_queries_total counter
thanos_query_frontend_queries_total{op="label_names"} 0
thanos_query_frontend_queries_total{op="label_values"} 0
thanos_query_frontend_queries_total{op="query"} 1
thanos_query_frontend_queries_total{op="query_range"} 1
thanos_query_frontend_queries_total{op="series"} 0
`), "thanos_query_frontend_queries_total", "thanos_frontend_split_queries_total", "thanos_frontend_sharding_middleware_queries_total"))
	n, err := testutil.GatherAndCount(reg, "cortex_query_frontend_retries", "cortex_frontend_query_range_duration_seconds", "thanos_frontend_downsampled_extra_queries_total")
	require.NoError(t, err)
	require.Equal(t, 4, n)
}

func TestAggregationsAreAskedShardByShard(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.cfg.VerticalShards = 3
	h.build()
	ask(t, h.fe, "query", "query", "sum by (job) (requests_total)", "time", "60")
	require.Len(t, h.up.taken(), 3)
	ask(t, h.fe, "query", "query", "sum(requests_total)", "time", "60")
	require.Len(t, h.up.taken(), 1)
	ask(t, h.fe, "query_range", hour("query", "sum by (job) (requests_total)")[2:]...)
	require.Len(t, h.up.taken(), 9)
}

func FuzzParametersAreAnsweredOrRefused(f *testing.F) {
	h := newHouse(f).cached()
	h.deps.Parse = func(text string) (parser.Expr, error) { return parser.ParseExpr(text) }
	h.cfg.VerticalShards = 2
	h.build()
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
		return true
	})
	f.Add("query_range", "sum by (job) (rate(x[5m] @ end()))", "0", "1e5", "60", "auto")
	f.Add("query", "topk(1, x)", "", "", "", "")
	f.Add("series", `{a="b"}`, "1", "2", "", "")
	f.Fuzz(func(t *testing.T, path, query, start, end, step, resolution string) {
		form := url.Values{"query": {query}, "match[]": {query}, "start": {start}, "end": {end}, "step": {step}, "max_source_resolution": {resolution}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query?"+form.Encode(), nil)
		r.URL.Path = "/api/v1/" + path
		w := httptest.NewRecorder()
		h.fe.ServeHTTP(w, r)
		require.NotZero(t, w.Code)
		h.up.taken()
	})
}
