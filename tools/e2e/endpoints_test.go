package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// answer is what Prometheus' HTTP API wraps its data in.
type answer struct {
	code      int
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
}

// call asks a querier's HTTP API.
func call(t *testing.T, q harness.Service, method, path string, params url.Values) answer {
	t.Helper()
	target, body := q.URL()+"/api/v1"+path, ""
	if method == http.MethodGet {
		target += "?" + params.Encode()
	} else {
		body = params.Encode()
	}
	request, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	got := answer{code: response.StatusCode}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&got), "%s %s", method, path)
	return got
}

// params makes parameters of name, value pairs.
func params(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// exemplarTarget exposes a counter with an exemplar, and says what its metrics are.
func exemplarTarget(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
		fmt.Fprint(w, "# HELP e2e_hits What was hit.\n# TYPE e2e_hits counter\ne2e_hits_total 7 # {trace_id=\"abc\"} 3\n# EOF\n")
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

const endpointRules = `groups:
- name: e2e
  rules:
  - {record: "job:e2e_hits:sum", expr: "sum by (job) (e2e_hits_total)", labels: {team: one}}
  - {alert: Hit, expr: "e2e_hits_total > 1", labels: {severity: page}, annotations: {summary: it was hit}}
`

// tower is two queriers, one upon the other, over an HA pair with rules, exemplars and a block of history.
type tower struct {
	*harness.Stack

	lower, upper harness.Service
	sidecars     []harness.Service
	gateway      harness.Service
	from         time.Time
}

func newTower(t *testing.T) *tower {
	t.Helper()
	w := &tower{Stack: harness.New(t), from: time.Now().Add(-3 * window).Truncate(window)}
	config, dir := w.FilesystemBucket("bucket", "")
	bucket, err := filesystem.New(dir)
	require.NoError(t, err)
	target := exemplarTarget(t)
	for _, replica := range pairReplicas {
		blocktest.Upload(t, bucket, blocktest.Spec{
			ExternalLabels: labels.FromMap(pairLabels(replica)), Floats: 2, Interval: 30 * time.Second,
			MinTime: w.from.UnixMilli(), MaxTime: w.from.Add(window).UnixMilli(),
		})
		p := w.Prometheus("prometheus-"+replica, harness.PrometheusConfig{
			ExternalLabels: pairLabels(replica), Scrape: map[string][]string{"hits": {target}}, Rules: endpointRules,
			Args: []string{"--enable-feature=exemplar-storage"},
		})
		w.sidecars = append(w.sidecars, w.Sidecar("sidecar-"+replica, p))
	}
	w.gateway = w.StoreGateway("store-gateway", config)
	w.lower = w.Querier("lower", append([]harness.Service{w.gateway}, w.sidecars...))
	w.upper = w.Querier("upper", []harness.Service{w.lower}, "--query.promql-engine=thanos")
	for _, q := range []harness.Service{w.lower, w.upper} {
		harness.Eventually(t, func() error {
			got, _, err := w.API(q).With("dedup", "false").TryInstant(`count({__name__=~"job:e2e_hits:sum|ALERTS",job="hits"})`, time.Now())
			if err == nil && got["{}"] != 4 {
				err = fmt.Errorf("%s: results of rules: %v, want 4", q.Name, got)
			}
			return err
		})
	}
	return w
}

func TestEveryCallAnswersOverOneAndTwoQueriersByGetAndPost(t *testing.T) {
	t.Parallel()
	w := newTower(t)
	at := w.from.Add(time.Hour)
	unix := func(at time.Time) string { return fmt.Sprint(at.Unix()) }
	both := []string{http.MethodGet, http.MethodPost}
	get := []string{http.MethodGet}
	now := time.Now()
	recent := []string{"start", unix(now.Add(-5 * time.Minute)), "end", unix(now.Add(time.Minute))}
	past := []string{"start", unix(w.from), "end", unix(w.from.Add(window))}
	value := fmt.Sprintf(`"%v"`, int64(blocktest.FloatValue(0, at.UnixMilli())+blocktest.FloatValue(1, at.UnixMilli())))
	for name, tc := range map[string]struct {
		methods []string
		path    string
		params  url.Values
		// what the data holds as JSON text, and what it does not.
		has, lacks []string
	}{
		"query": {both, "/query", params("query", "sum("+blocktest.FloatMetric+")", "time", unix(at)), []string{`"vector"`, value}, nil},
		"query with the other engine": {
			both, "/query", params("query", "sum("+blocktest.FloatMetric+")", "time", unix(at), "engine", "thanos"), []string{value}, nil,
		},
		"query without dedup": {
			both, "/query", params("query", "count("+blocktest.FloatMetric+")", "time", unix(at), "dedup", "false"), []string{`"4"`}, nil,
		},
		"query with another replica label": {
			both, "/query", params("query", blocktest.FloatMetric+`{series="0"}`, "time", unix(at), "replicaLabels[]", "series"),
			[]string{`"replica":"a"`, `"replica":"b"`},
			[]string{`"series"`},
		},
		"query with statistics": {both, "/query", params("query", "1+1", "stats", "all"), []string{`"scalar"`, `"2"`, `"stats"`}, nil},
		"query with a short lookback": {
			both, "/query", params("query", "count("+blocktest.FloatMetric+")", "time", unix(w.from.Add(window+time.Minute)), "lookback_delta", "10s"), []string{`"result":[]`}, nil,
		},
		"query with the usual lookback": {
			both, "/query", params("query", "count("+blocktest.FloatMetric+")", "time", unix(w.from.Add(window+time.Minute))), []string{`"2"`}, nil,
		},
		"query of one shard of one": {
			both, "/query", params("query", "count("+blocktest.FloatMetric+")", "time", unix(at), "shard_info", `{"shard_index":0,"total_shards":1,"by":false,"labels":[]}`), []string{`"2"`}, nil,
		},
		"query range": {
			both, "/query_range", params("query", "sum("+blocktest.FloatMetric+")", "start", unix(at), "end", unix(at.Add(time.Minute)), "step", "60", "max_source_resolution", "auto"),
			[]string{`"matrix"`, value},
			nil,
		},
		"series":                 {both, "/series", params(append(past, "match[]", blocktest.FloatMetric)...), []string{`"series":"0"`, `"series":"1"`, `"cluster":"e2e"`}, []string{`"replica"`}},
		"series without dedup":   {both, "/series", params(append(past, "match[]", blocktest.FloatMetric, "dedup", "false")...), []string{`"replica":"a"`, `"replica":"b"`}, nil},
		"labels":                 {both, "/labels", params(past...), []string{`"cluster"`, `"series"`}, nil},
		"labels of a selection":  {both, "/labels", params(append(recent, "match[]", "e2e_hits_total")...), []string{`"job"`}, []string{`"series"`}},
		"label values":           {get, "/label/series/values", params(past...), []string{`["0","1"]`}, nil},
		"label values, filtered": {get, "/label/job/values", params(append(recent, "match[]", "e2e_hits_total")...), []string{`["hits"]`}, nil},
		"metadata":               {get, "/metadata", params("metric", "e2e_hits"), []string{"What was hit.", `"counter"`}, nil},
		"rules":                  {get, "/rules", nil, []string{`"job:e2e_hits:sum"`, `"Hit"`, `"cluster":"e2e"`}, []string{`"replica"`}},
		"recording rules":        {get, "/rules", params("type", "record"), []string{`"job:e2e_hits:sum"`}, []string{`"Hit"`}},
		"rules by name":          {get, "/rules", params("rule_name[]", "Hit"), []string{`"Hit"`}, []string{`"job:e2e_hits:sum"`}},
		"rules by label":         {get, "/rules", params("match[]", `{team="one"}`), []string{`"job:e2e_hits:sum"`}, []string{`"Hit"`}},
		"alerts":                 {get, "/alerts", nil, []string{`"firing"`, `"Hit"`, "it was hit"}, nil},
		"targets":                {get, "/targets", nil, []string{`"hits"`, `"prometheus"`, `"up"`}, nil},
		"dropped targets":        {get, "/targets", params("state", "dropped"), []string{`"activeTargets":[]`}, nil},
		"exemplars":              {both, "/query_exemplars", params(append(recent, "query", "e2e_hits_total")...), []string{`"trace_id":"abc"`, `"cluster":"e2e"`}, nil},
		"stores":                 {get, "/stores", nil, []string{`"lastError":null`, `"cluster":"e2e"`}, nil},
		"TSDB statistics":        {get, "/status/tsdb", nil, []string{"headStats", "numSeries"}, nil},
		"flags":                  {get, "/status/flags", nil, []string{`"query.replica-label":"replica"`}, nil},
		"runtime":                {get, "/status/runtimeinfo", nil, []string{"GOMAXPROCS", "startTime"}, nil},
		"build":                  {get, "/status/buildinfo", nil, []string{"goVersion"}, nil},
	} {
		for _, q := range []harness.Service{w.lower, w.upper} {
			for _, method := range tc.methods {
				t.Run(strings.Join([]string{name, q.Name, method}, " "), func(t *testing.T) {
					got := call(t, q, method, tc.path, tc.params)
					require.Equal(t, http.StatusOK, got.code, got.Error)
					require.Equal(t, "success", got.Status)
					require.Empty(t, got.Warnings)
					for _, part := range tc.has {
						require.Contains(t, string(got.Data), part)
					}
					for _, part := range tc.lacks {
						require.NotContains(t, string(got.Data), part)
					}
				})
			}
		}
	}
	t.Run("stores are listed by their kind", func(t *testing.T) {
		kinds := map[string][]struct{ Name string }{}
		require.NoError(t, json.Unmarshal(call(t, w.lower, http.MethodGet, "/stores", nil).Data, &kinds))
		require.Len(t, kinds["sidecar"], 2)
		require.Equal(t, w.gateway.GRPC, kinds["store"][0].Name)
		clear(kinds)
		require.NoError(t, json.Unmarshal(call(t, w.upper, http.MethodGet, "/stores", nil).Data, &kinds))
		require.Equal(t, w.lower.GRPC, kinds["query"][0].Name)
	})
	t.Run("storeMatch asks some stores only", func(t *testing.T) {
		match := fmt.Sprintf(`{__address__="%s"}`, w.sidecars[0].GRPC)
		got := call(t, w.lower, http.MethodGet, "/query", params("query", "count by (replica) (e2e_hits_total)", "dedup", "false", "storeMatch[]", match))
		require.Contains(t, string(got.Data), `"replica":"a"`)
		require.NotContains(t, string(got.Data), `"replica":"b"`)
	})
	t.Run("a limit says that it cut", func(t *testing.T) {
		got := call(t, w.lower, http.MethodGet, "/label/__name__/values", params("limit", "1"))
		require.Contains(t, strings.Join(got.Warnings, ""), "limit")
	})
	t.Run("rules of replicas are one", func(t *testing.T) {
		got := call(t, w.lower, http.MethodGet, "/rules", params("type", "alert"))
		require.Equal(t, 1, strings.Count(string(got.Data), `"name":"Hit"`), string(got.Data))
	})
	badQueries(t, w.lower)
	badQueries(t, w.upper)
}

// badQueries sends requests that make no sense: each must be refused with a message that has all parts.
func badQueries(t *testing.T, q harness.Service) {
	t.Helper()
	const badData = "bad_data"
	for name, tc := range map[string]struct {
		path   string
		params url.Values
		code   int
		kind   string
		parts  []string
	}{
		"malformed query":     {"/query", params("query", "sum(up"), 400, badData, []string{"1:7: parse error: unclosed"}},
		"no query":            {"/query", nil, 400, badData, []string{"no expression found"}},
		"malformed matcher":   {"/series", params("match[]", `up{job=`), 400, badData, []string{"match[]", "parse error"}},
		"no matcher":          {"/series", nil, 400, badData, []string{"match[]"}},
		"empty matcher":       {"/series", params("match[]", `{job=~".*"}`), 400, badData, []string{"match[]"}},
		"invalid regex":       {"/query", params("query", `up{job=~"a["}`), 400, badData, []string{"1:4: parse error", "regexp", "missing closing ]"}},
		"regex in a matcher":  {"/labels", params("match[]", `up{job=~"("}`), 400, badData, []string{"match[]", "missing closing )"}},
		"unknown function":    {"/query", params("query", `frob(up)`), 400, badData, []string{"frob"}},
		"end before start":    {"/query_range", params("query", "up", "start", "20", "end", "10", "step", "1"), 400, badData, []string{"end"}},
		"series end first":    {"/series", params("match[]", "up", "start", "20", "end", "10"), 400, badData, []string{"end"}},
		"labels end first":    {"/labels", params("start", "20", "end", "10"), 400, badData, []string{"end"}},
		"step 0":              {"/query_range", params("query", "up", "start", "10", "end", "20", "step", "0"), 400, badData, []string{"step"}},
		"negative step":       {"/query_range", params("query", "up", "start", "10", "end", "20", "step", "-1"), 400, badData, []string{"step"}},
		"too many points":     {"/query_range", params("query", "up", "start", "0", "end", "11001", "step", "1"), 400, badData, []string{"11"}},
		"no start":            {"/query_range", params("query", "up", "end", "20", "step", "1"), 400, badData, []string{"start"}},
		"no time":             {"/query", params("query", "up", "time", "noon"), 400, badData, []string{"time", "noon"}},
		"no timeout":          {"/query", params("query", "up", "timeout", "soon"), 400, badData, []string{"timeout", "soon"}},
		"unknown engine":      {"/query", params("query", "up", "engine", "steam"), 400, badData, []string{"engine", "steam"}},
		"bad dedup":           {"/query", params("query", "up", "dedup", "maybe"), 400, badData, []string{"dedup", "maybe"}},
		"bad resolution":      {"/query", params("query", "up", "max_source_resolution", "-5m"), 400, badData, []string{"max_source_resolution"}},
		"bad shard":           {"/query", params("query", "up", "shard_info", "{"), 400, badData, []string{"shard_info"}},
		"bad storeMatch":      {"/query", params("query", "up", "storeMatch[]", "{"), 400, badData, []string{"storeMatch[]"}},
		"bad limit":           {"/labels", params("limit", "few"), 400, badData, []string{"limit", "few"}},
		"bad rule type":       {"/rules", params("type", "odd"), 400, badData, []string{"type", "odd"}},
		"bad exemplar query":  {"/query_exemplars", params("query", "sum(", "start", "1", "end", "2"), 400, badData, []string{"1:5: parse error"}},
		"many-to-many":        {"/query", params("query", `label_replace(up, "job", "", "", "") + on (nothing) up`), 422, "execution", []string{"many"}},
		"explain, wrong kind": {"/query_explain", params("query", "up", "engine", "prometheus"), 400, badData, []string{"engine"}},
	} {
		t.Run(name+" "+q.Name, func(t *testing.T) {
			got := call(t, q, http.MethodGet, tc.path, tc.params)
			require.Equal(t, tc.code, got.code, "%+v", got)
			require.Equal(t, "error", got.Status)
			require.Equal(t, tc.kind, got.ErrorType)
			for _, part := range tc.parts {
				require.Contains(t, got.Error, part)
			}
		})
	}
}
