package httpapi_test

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"github.com/stretchr/testify/require"
)

// prometheusAPI serves Prometheus' own API over st.
func prometheusAPI(t testing.TB, st storage.SampleAndChunkQueryable) *client {
	t.Helper()
	eng := promql.NewEngine(promql.EngineOpts{
		Logger: promslog.NewNopLogger(), MaxSamples: math.MaxInt32, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, EnablePerStepStats: true,
	})
	t.Cleanup(func() { require.NoError(t, eng.Close()) })
	api := v1.NewAPI(eng, st, nil, nil, nil, nil, nil,
		func() config.Config { return config.DefaultConfig }, nil, v1.GlobalURLOptions{},
		func(f http.HandlerFunc) http.HandlerFunc { return f }, nil, "", false, promslog.NewNopLogger(),
		nil, 0, 0, 0, false, nil, nil, &v1.PrometheusVersion{}, nil, nil, nil, nil, nil,
		false, nil, false, false, false, false, 5*time.Minute, false, false, nil, nil)
	r := route.New().WithPrefix("/api/v1")
	api.Register(r)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return &client{t: t, url: srv.URL, http: srv.Client(), header: http.Header{}}
}

func corpus(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/corpus.promql")
	require.NoError(t, err)
	var out []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

// bothAPIs serves the same samples by Prometheus and by us, where they come over gRPC from one store or, as an HA pair, from two.
func bothAPIs(t testing.TB, pair bool) (theirs, ours *client) {
	t.Helper()
	load, err := os.ReadFile("testdata/corpus.load")
	require.NoError(t, err)
	st := promqltest.LoadedStorage(t, string(load))
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	s := newStack(tsdbPeer(t, st.DB, labels.EmptyLabels()))
	if pair {
		s = newStack(
			tsdbPeer(t, st.DB, labels.FromStrings("replica", "a")),
			tsdbPeer(t, st.DB, labels.FromStrings("replica", "b")),
		)
	}
	return prometheusAPI(t, st), s.serve(t)
}

func TestAnswersAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	theirs, ours := bothAPIs(t, false)
	exprs := corpus(t)
	require.GreaterOrEqual(t, len(exprs), 200)
	for _, expr := range exprs {
		t.Run(expr, func(t *testing.T) {
			for _, q := range []struct {
				path   string
				params []string
			}{
				{"/api/v1/query", []string{"time", "3000"}},
				{"/api/v1/query", []string{"time", "5415.5"}},
				{"/api/v1/query_range", []string{"start", "0", "end", "6000", "step", "60"}},
				{"/api/v1/query_range", []string{"start", "1234.5", "end", "2234.5", "step", "17"}},
			} {
				params := append([]string{"query", expr}, q.params...)
				want := theirs.get(q.path, params...)
				got := ours.get(q.path, append(params, "engine", "prometheus")...)
				requireEqualAnswers(t, expr, want, got)
				got = ours.get(q.path, append(params, "engine", "thanos")...)
				requireSameValues(t, expr, want, got)
			}
		})
	}
}

// naming is how an error begins that says which parameter it is about. There Thanos and Prometheus differ, and we go with Thanos.
var naming = regexp.MustCompile(`^(?:invalid parameter "[^"]+": |'[^']+' parameter: |invalid time value for '[^']+': |error parsing lookback delta duration: )+`)

// essence is an error without that.
func essence(text string) string { return naming.ReplaceAllString(text, "") }

// requireEqualAnswers requires the same error or the same result, and the same remarks.
func requireEqualAnswers(t testing.TB, expr string, want, got *reply) {
	t.Helper()
	requireSameValues(t, expr, want, got)
	require.Equal(t, essence(want.Error), essence(got.Error))
	notes := append(slices.Clone(want.Warnings), want.Infos...)
	slices.Sort(notes)
	slices.Sort(got.Warnings)
	require.Equal(t, notes, append([]string(nil), got.Warnings...))
}

// requireSameValues requires the same kind of answer and, if it is a result, the same series and values. The order of series
// counts only where the query gives one, and the last digits, which depend on that order, do not.
func requireSameValues(t testing.TB, expr string, want, got *reply) {
	t.Helper()
	require.Equal(t, want.Code, got.Code, "%s\n%s", want.Body, got.Body)
	require.Equal(t, want.ErrorType, got.ErrorType)
	if want.Status != "success" {
		return
	}
	a, b := decoded(t, want), decoded(t, got)
	if strings.HasPrefix(expr, "limitk") {
		// Which series it takes is up to the order in which they come from storage.
		require.Equal(t, len(a.([]any)) > 0, len(b.([]any)) > 0)
		return
	}
	if !strings.Contains(expr, "sort") {
		order(a)
		order(b)
	}
	if !equal(a, b) {
		t.Errorf("answer differs (-Prometheus +ours):\n%s", cmp.Diff(a, b, cmpopts.EquateApprox(1e-9, 1e-15), cmpopts.EquateNaNs()))
	}
}

// equal compares decoded JSON, numbers to nine digits. It says the same as cmp, and is fast enough for millions of numbers.
func equal(a, b any) bool {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	case float64:
		b, ok := b.(float64)
		return ok && (a == b || math.IsNaN(a) && math.IsNaN(b) ||
			math.Abs(a-b) <= max(1e-15, 1e-9*min(math.Abs(a), math.Abs(b))) && !math.IsInf(a-b, 0))
	default:
		return a == b
	}
}

// decoded is a result with its numbers as numbers.
func decoded(t testing.TB, r *reply) any {
	t.Helper()
	var d struct {
		ResultType string `json:"resultType"`
		Result     any    `json:"result"`
	}
	require.NoError(t, json.Unmarshal(r.Data, &d))
	if d.ResultType == "string" {
		return d.Result
	}
	return numbers(d.Result)
}

func numbers(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			if k != "metric" {
				v[k] = numbers(v[k])
			}
		}
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return f
		}
	}
	return v
}

// order sorts a list of series by their labels.
func order(v any) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return
	}
	if _, ok := list[0].(map[string]any); !ok {
		return
	}
	slices.SortStableFunc(list, func(a, b any) int {
		x, _ := json.Marshal(a.(map[string]any)["metric"])
		y, _ := json.Marshal(b.(map[string]any)["metric"])
		return strings.Compare(string(x), string(y))
	})
}

func TestMetadataAnswersAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	theirs, ours := bothAPIs(t, false)
	for _, path := range []string{
		"/api/v1/labels",
		"/api/v1/labels?match[]=temperature",
		"/api/v1/labels?match[]=temperature&match[]=native",
		"/api/v1/labels?start=0&end=10",
		"/api/v1/labels?limit=2",
		"/api/v1/labels?limit=1000",
		"/api/v1/labels?limit=-1",
		"/api/v1/labels?limit=x",
		"/api/v1/labels?match[]={}",
		"/api/v1/labels?match[]=nothing",
		"/api/v1/labels?match[]=bad{",
		"/api/v1/labels?start=x",
		"/api/v1/label/job/values",
		"/api/v1/label/job/values?match[]=temperature",
		"/api/v1/label/__name__/values?match[]={job=\"api\"}&match[]=one",
		"/api/v1/label/__name__/values?limit=3",
		"/api/v1/label/label%20with%20space/values",
		"/api/v1/label/U__label_20_with_20_space/values",
		"/api/v1/label/nothing/values",
		"/api/v1/series?match[]=temperature",
		"/api/v1/series?match[]=temperature&match[]={room=\"north\"}&match[]=one",
		"/api/v1/series?match[]={__name__=~\".%2B\"}",
		"/api/v1/series?match[]=temperature&limit=1",
		"/api/v1/series?match[]=temperature&limit=3",
		"/api/v1/series?match[]=temperature&start=100000&end=200000",
		"/api/v1/series?match[]=nothing",
		"/api/v1/series",
		"/api/v1/series?match[]={job=~\".*\"}",
		"/api/v1/series?match[]=temperature{",
		"/api/v1/series?match[]=temperature&end=x",
	} {
		t.Run(path, func(t *testing.T) {
			want, got := theirs.get(path), ours.get(path)
			require.Equal(t, want.Code, got.Code, "%s\n%s", want.Body, got.Body)
			require.Equal(t, want.ErrorType, got.ErrorType)
			require.Equal(t, essence(want.Error), essence(got.Error))
			require.Equal(t, want.Warnings, got.Warnings)
			if want.Status == "success" {
				var a, b []any
				require.NoError(t, json.Unmarshal(want.Data, &a))
				require.NoError(t, json.Unmarshal(got.Data, &b))
				if strings.Contains(path, "limit=") {
					// Which ones are left is up to the order in which they come from storage.
					require.Len(t, b, len(a))
					return
				}
				require.ElementsMatch(t, a, b)
			}
		})
	}
}

func TestBadQueriesAreRefusedAsByPrometheus(t *testing.T) {
	t.Parallel()
	theirs, ours := bothAPIs(t, false)
	for _, path := range []string{
		"/api/v1/query?query=",
		"/api/v1/query?query=sum((",
		"/api/v1/query?query=up[5m",
		"/api/v1/query?query=rate(up)",
		"/api/v1/query?query=nope(up)",
		"/api/v1/query?query={}",
		"/api/v1/query?query={job=~\"[\"}",
		"/api/v1/query?query=up&time=x",
		"/api/v1/query?query=up&lookback_delta=x",
		"/api/v1/query?query=up&timeout=x",
		"/api/v1/query?query=temperature%2Bon(floor)one*on(floor)temperature",
		"/api/v1/query?query=label_replace(temperature,\"x\",\"$1\",\"room\",\"(\")",
		"/api/v1/query?query=label_replace(temperature,\"room\",\"x\",\"room\",\".*\")",
		"/api/v1/query?query=temperature%20%2B%20on(floor)%20temperature",
		"/api/v1/query_range?query=up",
		"/api/v1/query_range?query=up&start=0",
		"/api/v1/query_range?query=up&start=0&end=x&step=1",
		"/api/v1/query_range?query=up&start=10&end=0&step=1",
		"/api/v1/query_range?query=up&start=0&end=10&step=0",
		"/api/v1/query_range?query=up&start=0&end=10&step=-1",
		"/api/v1/query_range?query=up&start=0&end=1e6&step=1",
		"/api/v1/query_range?query=up[5m]&start=0&end=10&step=1",
		"/api/v1/query_range?query=\"x\"&start=0&end=10&step=1",
		"/api/v1/query_range?query=sum((&start=0&end=10&step=1",
	} {
		t.Run(path, func(t *testing.T) {
			want, got := theirs.get(path), ours.get(path)
			require.Equal(t, want.Code, got.Code, "%s\n%s", want.Body, got.Body)
			require.Equal(t, want.ErrorType, got.ErrorType)
			require.Equal(t, essence(want.Error), essence(got.Error))
		})
	}
}

func TestAPairOfEqualReplicasAnswersAsOne(t *testing.T) {
	t.Parallel()
	theirs, ours := bothAPIs(t, true)
	for _, expr := range corpus(t) {
		t.Run(expr, func(t *testing.T) {
			params := []string{"query", expr, "start", "0", "end", "6000", "step", "120"}
			requireEqualAnswers(t, expr, theirs.get("/api/v1/query_range", params...), ours.get("/api/v1/query_range", params...))
		})
	}
}
