package promapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// recorded is one line of testdata/http.jsonl.
type recorded struct {
	Method      string  `json:"method"`
	Path        string  `json:"path"`
	BodySent    string  `json:"body_sent"`
	Status      int     `json:"status"`
	ContentType string  `json:"content_type"`
	Cache       *string `json:"cache_control"`
	Body        string  `json:"body"`
}

func readRecorded(t testing.TB) []recorded {
	t.Helper()
	f, err := os.Open("testdata/http.jsonl")
	require.NoError(t, err)
	defer f.Close()
	var out []recorded
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		out = append(out, r)
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, out)
	return out
}

func (r recorded) request(t testing.TB) *http.Request {
	t.Helper()
	req := httptest.NewRequest(r.Method, r.Path, strings.NewReader(r.BodySent))
	if r.BodySent != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req
}

// parse runs the parameter reader that belongs to the path.
func parse(path string, f Form) error {
	var err error
	def := Defaults{Engine: EnginePrometheus, PartialResponse: true, Step: time.Second}
	switch {
	case strings.HasSuffix(path, "/query"), strings.HasSuffix(path, "/query_explain"):
		_, err = f.InstantQuery(def, time.Now())
	case strings.HasSuffix(path, "/query_range"):
		_, err = f.RangeQuery(def)
	case strings.HasSuffix(path, "/series"):
		_, err = f.SeriesQuery(def, time.Now())
	case strings.HasSuffix(path, "/labels"), strings.HasSuffix(path, "/values"):
		_, err = f.LabelsQuery(def, time.Now())
	case strings.HasSuffix(path, "/rules"), strings.HasSuffix(path, "/alerts"):
		_, err = f.RulesQuery(true)
	case strings.HasSuffix(path, "/targets"):
		_, err = f.TargetState()
	case strings.HasSuffix(path, "/metadata"):
		_, err = f.MetricMetadataQuery(true)
	case strings.HasSuffix(path, "/query_exemplars"):
		_, err = f.ExemplarsQuery(true)
	case strings.HasSuffix(path, "/status/tsdb"):
		_, err = f.TSDBStatusQuery(true)
	}
	return err
}

func TestParametersAreTakenAndRefusedWithTheRecordedAnswers(t *testing.T) {
	t.Parallel()
	refused := 0
	for _, rec := range readRecorded(t) {
		if !strings.HasPrefix(rec.Path, "/api/v1/") {
			continue
		}
		req := rec.request(t)
		form, err := ParseForm(req)
		require.NoError(t, err)
		err = parse(req.URL.Path, form)
		// That the expression parses is the query engine's business.
		if rec.Status == http.StatusOK || rec.Status == http.StatusNotFound || strings.Contains(rec.Body, "parse error") {
			require.NoError(t, err, rec.Path)
			continue
		}
		refused++
		require.Error(t, err, rec.Path)
		w := httptest.NewRecorder()
		require.NoError(t, RespondError(w, err))
		requireAnswer(t, rec, w)
	}
	require.Equal(t, 7, refused)
}

func requireAnswer(t testing.TB, rec recorded, w *httptest.ResponseRecorder) {
	t.Helper()
	require.Equal(t, rec.Status, w.Code, rec.Path)
	require.Equal(t, rec.ContentType, w.Header().Get("Content-Type"), rec.Path)
	cache := ""
	if rec.Cache != nil {
		cache = *rec.Cache
	}
	require.Equal(t, cache, w.Header().Get("Cache-Control"), rec.Path)
	require.Equal(t, rec.Body, w.Body.String(), rec.Path)
}

// envelope is a recorded answer with its data still in JSON.
type envelope struct {
	Data json.RawMessage `json:"data"`
}

// dataFor reads recorded data into the value we answer with.
func dataFor(t testing.TB, path string, raw json.RawMessage) Data {
	t.Helper()
	into := func(v any) {
		t.Helper()
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(v), path)
	}
	switch path {
	case "/api/v1/query", "/api/v1/query_range":
		return queryData(t, raw)
	case "/api/v1/labels", "/api/v1/label/job/values", "/api/v1/label/b!d/values":
		var v []string
		into(&v)
		return Strings(v)
	case "/api/v1/series":
		var v []labels.Labels
		into(&v)
		return LabelSets(v)
	case "/api/v1/stores":
		v := promtypes.Stores{}
		into(&v)
		return JSON{v}
	case "/api/v1/rules":
		var v promtypes.RuleGroups
		into(&v)
		return JSON{v}
	case "/api/v1/alerts":
		var v promtypes.Alerts
		into(&v)
		return JSON{v}
	case "/api/v1/targets":
		var v promtypes.Targets
		into(&v)
		return JSON{v}
	case "/api/v1/metadata":
		v := promtypes.Metadata{}
		into(&v)
		return JSON{v}
	case "/api/v1/status/buildinfo":
		var v promtypes.BuildInfo
		into(&v)
		return JSON{v}
	case "/api/v1/status/runtimeinfo":
		var v promtypes.RuntimeInfo
		into(&v)
		return JSON{v}
	case "/api/v1/status/tsdb":
		var v promtypes.TSDBStatus
		into(&v)
		return JSON{v}
	case "/api/v1/query_exemplars":
		v := []promtypes.SeriesExemplars{}
		into(&v)
		return JSON{v}
	case "/api/v1/query_explain":
		var v promtypes.Explanation
		into(&v)
		return JSON{v}
	default:
		require.Fail(t, "no type for a recorded path", path)
		return nil
	}
}

func queryData(t testing.TB, raw json.RawMessage) Data {
	t.Helper()
	var d struct {
		ResultType string             `json:"resultType"`
		Result     json.RawMessage    `json:"result"`
		Stats      json.RawMessage    `json:"stats"`
		Analysis   promtypes.Analysis `json:"analysis"`
	}
	require.NoError(t, json.Unmarshal(raw, &d))
	out := &QueryData{Analysis: d.Analysis}
	switch d.ResultType {
	case "vector":
		var v model.Vector
		require.NoError(t, json.Unmarshal(d.Result, &v))
		vec := promql.Vector{}
		for _, s := range v {
			vec = append(vec, promql.Sample{Metric: fromMetric(s.Metric), T: int64(s.Timestamp), F: float64(s.Value)})
		}
		out.Result = vec
	case "matrix":
		var v model.Matrix
		require.NoError(t, json.Unmarshal(d.Result, &v))
		m := promql.Matrix{}
		for _, s := range v {
			series := promql.Series{Metric: fromMetric(s.Metric)}
			for _, p := range s.Values {
				series.Floats = append(series.Floats, promql.FPoint{T: int64(p.Timestamp), F: float64(p.Value)})
			}
			m = append(m, series)
		}
		out.Result = m
	case "scalar":
		var v model.Scalar
		require.NoError(t, json.Unmarshal(d.Result, &v))
		out.Result = promql.Scalar{T: int64(v.Timestamp), V: float64(v.Value)}
	case "string":
		var v model.String
		require.NoError(t, json.Unmarshal(d.Result, &v))
		out.Result = promql.String{T: int64(v.Timestamp), V: v.Value}
	}
	return out
}

func fromMetric(m model.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(m))
	for k, v := range m {
		b.Add(string(k), string(v))
	}
	b.Sort()
	return b.Labels()
}

func TestRecordedAnswersAreWrittenByteForByte(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, rec := range readRecorded(t) {
		if !strings.HasPrefix(rec.Path, "/api/v1/") || rec.Status != http.StatusOK || len(rec.Body) >= 6000 {
			continue
		}
		u, err := url.Parse(rec.Path)
		require.NoError(t, err)
		want := rec
		if before, after, ok := strings.Cut(rec.Body, `"stats":`); ok {
			// The engine's figures are written by the engine's own type, which cannot be read back.
			_, after, ok := strings.Cut(after, `"analysis"`)
			require.True(t, ok)
			want.Body = before + `"analysis"` + after
		}
		var env envelope
		require.NoError(t, json.Unmarshal([]byte(rec.Body), &env), rec.Path)
		w := httptest.NewRecorder()
		require.NoError(t, Respond(w, dataFor(t, u.Path, env.Data), Notes{}))
		requireAnswer(t, want, w)
		compared++
	}
	require.Greater(t, compared, 25)
}
