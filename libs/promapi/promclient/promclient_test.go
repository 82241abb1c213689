package promclient

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// recordedPrometheus answers from testdata: by path, and by the query where there are several.
func recordedPrometheus(t testing.TB) *Client {
	t.Helper()
	f, err := os.Open("testdata/prometheus.jsonl")
	require.NoError(t, err)
	defer f.Close()
	type answer struct {
		Path, Query, Body string
		Status            int
	}
	answers := map[string]answer{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a answer
		require.NoError(t, json.Unmarshal(lines.Bytes(), &a))
		v, err := url.ParseQuery(a.Query)
		require.NoError(t, err)
		answers[a.Path+" "+v.Get("query")] = a
	}
	require.NoError(t, lines.Err())
	return serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.URL.Path+" "+r.FormValue("query")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(a.Status)
		fmt.Fprint(w, a.Body)
	})
}

func serve(t testing.TB, opts Options, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	return New(u, opts)
}

// always answers every request with the same.
func always(t testing.TB, status int, body string) *Client {
	return serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

func TestTheStateOfAPrometheusServerIsRead(t *testing.T) {
	t.Parallel()
	c, ctx := recordedPrometheus(t), t.Context()

	build, err := c.BuildInfo(ctx)
	require.NoError(t, err)
	require.Equal(t, "go1.26.8", build.GoVersion)

	info, err := c.RuntimeInfo(ctx)
	require.NoError(t, err)
	require.True(t, info.ReloadConfigSuccess)
	require.Equal(t, 2026, info.LastConfigTime.Year())

	ext, err := c.ExternalLabels(ctx)
	require.NoError(t, err)
	require.Equal(t, `{cluster="eu1", replica="a"}`, ext.String())

	flags, err := c.Flags(ctx)
	require.NoError(t, err)
	shortest, longest, err := flags.BlockDurations()
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, shortest)
	require.Equal(t, 36*time.Hour, longest)
	lifecycle, err := flags.Bool("web.enable-lifecycle")
	require.NoError(t, err)
	require.False(t, lifecycle)

	status, err := c.TSDBStatus(ctx, 2)
	require.NoError(t, err)
	require.Positive(t, status.HeadStats.NumSeries)
	require.Len(t, status.SeriesCountByMetricName, 2)

	require.NoError(t, c.Ready(ctx))

	lowest, ok, err := c.LowestTimestamp(ctx)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(1795459088000), lowest)
}

func TestRulesTargetsAndMetadataAreRead(t *testing.T) {
	t.Parallel()
	c, ctx := recordedPrometheus(t), t.Context()

	groups, err := c.Rules(ctx, RulesFilter{})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, "g1", groups[0].Name)
	require.Equal(t, int64(10), groups[0].Limit)
	require.InDelta(t, 1, groups[0].Interval, 0)
	require.Len(t, groups[0].Rules, 3)
	down := groups[0].Rules[0].Alerting
	require.NotNil(t, down)
	require.Equal(t, "TargetDown", down.Name)
	require.InDelta(t, 2, down.Duration, 0)
	require.InDelta(t, 60, down.KeepFiringFor, 0)
	require.Equal(t, labels.FromStrings("summary", "{{ $labels.job }} is down"), down.Annotations)
	require.Len(t, down.Alerts, 1)
	require.Equal(t, "gone", down.Alerts[0].Labels.Get("job"))
	require.Equal(t, 2026, down.Alerts[0].ActiveAt.Year())
	require.Equal(t, "sum by (job) (up)", groups[0].Rules[1].Recording.Query)
	require.Equal(t, "inactive", groups[0].Rules[2].Alerting.State)

	targets, err := c.Targets(ctx, "any")
	require.NoError(t, err)
	require.Len(t, targets.ActiveTargets, 2)
	require.Equal(t, "down", targets.ActiveTargets[0].Health)
	require.Contains(t, targets.ActiveTargets[0].LastError, "connection refused")
	require.Len(t, targets.DroppedTargets, 1)

	meta, err := c.Metadata(ctx, "", 2)
	require.NoError(t, err)
	require.Len(t, meta, 2)
	for name, entries := range meta {
		require.Len(t, entries, 1, name)
		require.NotEmpty(t, entries[0].Help, name)
		require.NotEmpty(t, entries[0].Type, name)
	}
}

func TestSeriesLabelsAndQueriesAreRead(t *testing.T) {
	t.Parallel()
	c, ctx := recordedPrometheus(t), t.Context()

	series, notes, err := c.Series(ctx, Span{}, 0, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, labels.FromStrings("__name__", "up", "instance", "127.0.0.1:1", "job", "gone"), series[1])

	names, _, err := c.LabelNames(ctx, Span{}, 0)
	require.NoError(t, err)
	require.Contains(t, names, "job")

	values, _, err := c.LabelValues(ctx, "job", Span{}, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"gone", "prometheus"}, values)

	res, err := c.Query(ctx, "up", time.Time{}, nil)
	require.NoError(t, err)
	require.Len(t, res.Value.(model.Vector), 2)
	res, err = c.Query(ctx, "1", time.Time{}, nil)
	require.NoError(t, err)
	require.InDelta(t, 1, float64(res.Value.(*model.Scalar).Value), 0)
	res, err = c.Query(ctx, `"x"`, time.Time{}, nil)
	require.NoError(t, err)
	require.Equal(t, "x", res.Value.(*model.String).Value)
	res, err = c.QueryRange(ctx, "up", time.Unix(1795459088, 0), time.Unix(1795459093, 0), time.Second, nil)
	require.NoError(t, err)
	require.NotEmpty(t, res.Value.(model.Matrix)[0].Values)

	_, err = c.Query(ctx, "sum((", time.Time{}, nil)
	var refused *Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, Invalid, refused.Kind)
	require.Equal(t, "bad_data", refused.Type)
	require.Equal(t, http.StatusBadRequest, refused.StatusCode)
	require.ErrorContains(t, err, "unclosed left parenthesis")
}

func TestExemplarsAreRead(t *testing.T) {
	t.Parallel()
	c := always(t, 200, `{"status":"success","data":[{"seriesLabels":{"__name__":"x"},"exemplars":[`+
		`{"labels":{"traceID":"abc"},"value":"6","timestamp":1600096945.479},{"labels":{},"value":"+Inf","timestamp":-0.001}]}]}`)
	got, err := c.Exemplars(t.Context(), "x", Span{})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, promtypes.Exemplar{Labels: labels.FromStrings("traceID", "abc"), Value: 6, Timestamp: 1600096945479}, got[0].Exemplars[0])
	require.Equal(t, int64(-1), got[0].Exemplars[1].Timestamp)
	back, err := json.Marshal(got)
	require.NoError(t, err)
	require.JSONEq(t, `[{"seriesLabels":{"__name__":"x"},"exemplars":[{"labels":{"traceID":"abc"},"value":"6","timestamp":1600096945.479},`+
		`{"labels":{},"value":"+Inf","timestamp":-0.001}]}]`, string(back))
}

func TestParametersAreSentAsThePrometheusAPIWantsThem(t *testing.T) {
	t.Parallel()
	type sent struct {
		Method, Path string
		Form         url.Values
	}
	span := Span{Start: time.UnixMilli(-1500), End: time.UnixMilli(1795459088475)}
	job := labels.MustNewMatcher(labels.MatchRegexp, "job", `a"b.*`)
	dotted := labels.MustNewMatcher(labels.MatchNotEqual, "x.y", "z")
	for name, tc := range map[string]struct {
		opts Options
		call func(context.Context, *Client) error
		want sent
	}{
		"series": {Options{}, func(ctx context.Context, c *Client) error {
			_, _, err := c.Series(ctx, span, 5, job, dotted)
			return err
		}, sent{
			"POST", "/pre%2Ffix/api/v1/series",
			url.Values{"match[]": {`{job=~"a\"b.*","x.y"!="z"}`}, "start": {"-1.500"}, "end": {"1795459088.475"}, "limit": {"5"}},
		}},
		"series by GET": {Options{QueryByGET: true}, func(ctx context.Context, c *Client) error { _, _, err := c.Series(ctx, Span{}, 0, job); return err }, sent{
			"GET", "/pre%2Ffix/api/v1/series", url.Values{"match[]": {`{job=~"a\"b.*"}`}},
		}},
		"values of an odd label": {Options{}, func(ctx context.Context, c *Client) error {
			_, _, err := c.LabelValues(ctx, "x/y", Span{}, 0)
			return err
		}, sent{
			"GET", "/pre%2Ffix/api/v1/label/U__x_2f_y/values", url.Values{},
		}},
		"query": {Options{}, func(ctx context.Context, c *Client) error {
			_, err := c.Query(ctx, "up", span.End, url.Values{"dedup": {"true"}})
			return err
		}, sent{"POST", "/pre%2Ffix/api/v1/query", url.Values{"query": {"up"}, "time": {"1795459088.475"}, "dedup": {"true"}}}},
		"range": {Options{}, func(ctx context.Context, c *Client) error {
			_, err := c.QueryRange(ctx, "up", span.Start, span.End, 1500*time.Millisecond, nil)
			return err
		}, sent{"POST", "/pre%2Ffix/api/v1/query_range", url.Values{"query": {"up"}, "start": {"-1.500"}, "end": {"1795459088.475"}, "step": {"1.5"}}}},
		"rules": {Options{}, func(ctx context.Context, c *Client) error {
			_, err := c.Rules(ctx, RulesFilter{Type: "alert", Names: []string{"a", "b"}, Groups: []string{"g"}, Files: []string{"f"}, Match: []string{"m"}})
			return err
		}, sent{"GET", "/pre%2Ffix/api/v1/rules", url.Values{"type": {"alert"}, "rule_name[]": {"a", "b"}, "rule_group[]": {"g"}, "file[]": {"f"}, "match[]": {"m"}}}},
		"metadata without limit": {Options{}, func(ctx context.Context, c *Client) error { _, err := c.Metadata(ctx, "up", -1); return err }, sent{
			"GET", "/pre%2Ffix/api/v1/metadata", url.Values{"metric": {"up"}},
		}},
		"reload": {Options{}, func(ctx context.Context, c *Client) error { return c.Reload(ctx) }, sent{"POST", "/pre%2Ffix/-/reload", url.Values{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got sent
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				got = sent{r.Method, r.URL.EscapedPath(), r.Form}
				if r.Header.Get("X-Own") != "1" {
					w.WriteHeader(http.StatusTeapot)
				}
				http.Error(w, "no", http.StatusInternalServerError)
			}))
			defer srv.Close()
			u, err := url.Parse(srv.URL + "/pre%2Ffix/")
			require.NoError(t, err)
			tc.opts.Header = http.Header{"X-Own": {"1"}}
			err = tc.call(t.Context(), New(u, tc.opts))
			require.ErrorContains(t, err, "500 Internal Server Error: no")
			require.Equal(t, tc.want, got)
		})
	}
}

func TestFailuresHaveTheKindOfTheirStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]Kind{
		400: Invalid, 401: Denied, 403: Denied, 404: NotFound, 405: Invalid, 418: Invalid, 422: Execution, 429: Unavailable,
		500: Internal, 501: Internal, 502: Unavailable, 503: Unavailable, 504: Unavailable, 302: Internal,
	} {
		_, err := always(t, status, `{"status":"error","errorType":"t","error":"text"}`).Flags(t.Context())
		var e *Error
		require.ErrorAs(t, err, &e, status)
		require.Equal(t, want, e.Kind, status)
		require.Equal(t, status, e.StatusCode)
		require.Equal(t, "text", e.Message)
	}
	_, err := always(t, 200, `{"status":"error","errorType":"execution","error":"late"}`).Flags(t.Context())
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, Execution, e.Kind)
}

func TestAnswersThatAreNoAPIAnswersAreQuotedBriefly(t *testing.T) {
	t.Parallel()
	_, err := always(t, 502, "<html>\n"+strings.Repeat("x", 1<<20)).Flags(t.Context())
	require.ErrorContains(t, err, "502 Bad Gateway: <html>")
	require.Less(t, len(err.Error()), 200)
	_, err = always(t, 500, "").Flags(t.Context())
	require.ErrorContains(t, err, "empty answer")
	_, err = always(t, 200, "<html>").Flags(t.Context())
	require.ErrorContains(t, err, "unreadable answer: invalid character")
	_, err = always(t, 200, `{"status":"success","data":{"groups":[{"rules":[{"type":"odd"}]}]}}`).Rules(t.Context(), RulesFilter{})
	require.ErrorContains(t, err, `rule has unknown type "odd"`)
	_, err = always(t, 200, `{"status":"success","data":{"resultType":"odd"}}`).Query(t.Context(), "x", time.Time{}, nil)
	require.ErrorContains(t, err, `unknown result type "odd"`)
}

func TestAnUnreachableServerIsUnavailableAndNamedWithoutPassword(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(nil)
	addr := srv.Listener.Addr().String()
	srv.Close()
	c := New(&url.URL{Scheme: "http", Host: addr, User: url.UserPassword("u", "secret")}, Options{})
	_, err := c.BuildInfo(t.Context())
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, Unavailable, e.Kind)
	require.Contains(t, err.Error(), addr+"/api/v1/status/buildinfo: ")
	require.Contains(t, err.Error(), "connection refused")
	require.NotContains(t, err.Error(), "secret")
}

func TestTheEndOfTheContextIsReturnedAsItIs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t, Options{}, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := c.BuildInfo(ctx)
	require.ErrorIs(t, err, context.Canceled)
	var e *Error
	require.False(t, errors.As(err, &e))

	ctx, cancel = context.WithCancel(t.Context())
	c = serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"status":`)
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	})
	_, err = c.BuildInfo(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAnswersAreNotReadBeyondTheBound(t *testing.T) {
	t.Parallel()
	body := `{"status":"success","data":["` + strings.Repeat("x", 100_000) + `"]}`
	handler := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, body)
		_ = z.Close()
	}
	_, _, err := serve(t, Options{MaxBodyBytes: int64(len(body)) - 1}, handler).LabelNames(t.Context(), Span{}, 0)
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, "more than 100031 bytes")
	names, _, err := serve(t, Options{MaxBodyBytes: int64(len(body))}, handler).LabelNames(t.Context(), Span{}, 0)
	require.NoError(t, err)
	require.Len(t, names[0], 100_000)
}

func TestServersWithoutPOSTAreAskedAgainByGET(t *testing.T) {
	t.Parallel()
	c := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		fmt.Fprintf(w, `{"status":"success","data":[%q],"warnings":["w"],"infos":["i"]}`, r.FormValue("match[]"))
	})
	names, notes, err := c.LabelNames(t.Context(), Span{}, 0, labels.MustNewMatcher(labels.MatchEqual, "a", "b"))
	require.NoError(t, err)
	require.Equal(t, []string{`{a="b"}`}, names)
	require.Equal(t, []string{"w", "i"}, notes)
}

func TestOneGaugeIsReadFromTheMetricsPage(t *testing.T) {
	t.Parallel()
	long := `x{a="` + strings.Repeat("y", 100_000) + `\nprometheus_tsdb_lowest_timestamp_seconds 4"} 1` + "\n"
	for name, tc := range map[string]struct {
		page    string
		want    int64
		known   bool
		wantErr string
	}{
		"plain":              {"# HELP a b\nprometheus_tsdb_lowest_timestamp_seconds 1.795459088e+09\n", 1795459088000, true, ""},
		"after a long line":  {long + "prometheus_tsdb_lowest_timestamp_seconds 5", 5000, true, ""},
		"with a timestamp":   {"prometheus_tsdb_lowest_timestamp_seconds 5 1000\n", 5000, true, ""},
		"only a longer name": {"prometheus_tsdb_lowest_timestamp_seconds_total 5\n", 0, false, "metric is not exposed"},
		"only in a comment":  {"# TYPE prometheus_tsdb_lowest_timestamp_seconds gauge\n", 0, false, "metric is not exposed"},
		"empty TSDB":         {"prometheus_tsdb_lowest_timestamp_seconds 9.223372036854776e+15\n", 0, false, ""},
		"not a number":       {"prometheus_tsdb_lowest_timestamp_seconds NaN\n", 0, false, ""},
		"malformed":          {"prometheus_tsdb_lowest_timestamp_seconds 1 2 3\n", 0, false, "malformed line"},
		"malformed value":    {"prometheus_tsdb_lowest_timestamp_seconds x\n", 0, false, "invalid syntax"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, known, err := always(t, 200, tc.page).LowestTimestamp(t.Context())
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				require.ErrorContains(t, err, "/metrics")
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.known, known)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestAConfigurationWithoutExternalLabelsGivesNone(t *testing.T) {
	t.Parallel()
	ls, err := always(t, 200, `{"status":"success","data":{"yaml":"global:\n  scrape_interval: 1s\n"}}`).ExternalLabels(t.Context())
	require.NoError(t, err)
	require.True(t, ls.IsEmpty())
	_, err = always(t, 200, `{"status":"success","data":{"yaml":"global: [1"}}`).ExternalLabels(t.Context())
	require.ErrorContains(t, err, "parse configuration of http://")
	_, err = Flags{"a": "x"}.Duration("a")
	require.ErrorContains(t, err, "flag --a: ")
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2"]}]}}`))
	f.Add([]byte(`{"status":"success","data":{"groups":[{"rules":[{"type":"alerting","alerts":[{"labels":{}}]}]}]}}`))
	f.Add([]byte(`{"status":"success","data":[{"seriesLabels":{},"exemplars":[{"value":"1","timestamp":1}]}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var q response[queryValue]
		_ = json.Unmarshal(b, &q)
		var r response[promtypes.RuleGroups]
		_ = json.Unmarshal(b, &r)
		var x response[[]promtypes.SeriesExemplars]
		_ = json.Unmarshal(b, &x)
		_, _ = scanGauge(strings.NewReader(string(b)), "a")
	})
}
