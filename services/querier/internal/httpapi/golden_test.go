package httpapi_test

import (
	"bufio"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
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

// data is the content of a recorded answer.
func (r recorded) data(t testing.TB, into any) {
	t.Helper()
	var env struct {
		Data json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.Body), &env), r.Path)
	require.NoError(t, json.Unmarshal(env.Data, into), r.Path)
}

func readLines[T any](t testing.TB, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var out []T
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v T
		require.NoError(t, json.Unmarshal(lines.Bytes(), &v))
		out = append(out, v)
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, out)
	return out
}

func find(t testing.TB, lines []recorded, path string) recorded {
	t.Helper()
	i := slices.IndexFunc(lines, func(r recorded) bool { return r.Path == path })
	require.GreaterOrEqual(t, i, 0, path)
	return lines[i]
}

// evaluationTime finds the time in a recorded query, so that the same query can be put at the same time.
var evaluationTime = regexp.MustCompile(`"(?:value|result)":\[([0-9]{10}\.?[0-9]*),`)

// recordedStack is the stack that the answers were recorded from: the peers it had, made of what they said.
func recordedStack(t testing.TB, lines []recorded) *stack {
	var stores promtypes.Stores
	find(t, lines, "/api/v1/stores").data(t, &stores)
	listed := func(e endpoints.Endpoint, component string) endpoints.Endpoint {
		s := stores[component][0]
		e.Addr, e.ComponentType, e.LastCheck, e.LabelSets = s.Name, component, s.LastCheck, s.LabelSets
		e.Store.MinTime, e.Store.MaxTime = s.MinTime, s.MaxTime
		return e
	}
	before := readBucket(t, blocktest.RecordedBefore(t))
	up := func(instance, job string, t0 int64, v float64) storeapi.Series {
		var samples []fakepeer.Sample
		for i := range int64(35) {
			samples = append(samples, fakepeer.Sample{T: t0 + i*2000, V: v})
		}
		return fakepeer.Series(t, labels.FromStrings("__name__", "up", "instance", instance, "job", job), samples)
	}
	// One series stands for all those of which the recording shows nothing but the names of their labels.
	var names []string
	find(t, lines, "/api/v1/labels").data(t, &names)
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, name := range names {
		b.Set(name, "x")
	}
	b.Set("__name__", "aaa").Set("job", "prometheus").Del("cluster", "replica")
	sidecar := &fakepeer.Store{External: labels.FromStrings("cluster", "eu1", "replica", "a"), Series: []storeapi.Series{
		fakepeer.Series(t, b.Labels(), fakepeer.Ramp(1795427317000, 2000, 3, 1)),
		up("127.0.0.1:1", "gone", 1795427263443, 0),
		up("127.0.0.1:19092", "prometheus", 1795427263552, 1),
	}}
	// The receiver had been sent something for each of these jobs; what it was is not in the recording.
	received := &fakepeer.Store{External: stores["receive"][0].LabelSets[0]}
	for i := range 20 {
		lset := labels.FromStrings("__name__", "aaa", "job", "app-"+strconv.Itoa(i))
		received.Series = append(received.Series, fakepeer.Series(t, lset, fakepeer.Ramp(1795427317000, 2000, 3, 1)))
	}
	addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){
		fakepeer.RegisterStore(sidecar), recordedServices(t, lines),
	}})
	live := listed(fakepeer.Endpoint(t, addr, sidecar), "sidecar")
	live.Rules, live.Targets, live.Metadata, live.Status = true, true, true, true
	return newStack(
		listed(storePeer(t, before), "store"),
		listed(fakepeer.StartStore(t, received), "receive"),
		live,
		listed(fakepeer.StartStore(t, &fakepeer.Store{External: stores["rule"][0].LabelSets[0]}), "rule"),
	)
}

func TestRecordedAnswersAreGivenAgain(t *testing.T) {
	t.Parallel()
	lines := readLines[recorded](t, "testdata/http.jsonl")
	s := recordedStack(t, lines)
	var now time.Time
	s.Deps.Now = func() time.Time { return now }
	s.Config.Defaults.ReplicaLabels = s.Replica
	for name, c := range map[string]*client{
		"querier":           s.serve(t),
		"frontend":          s.fronted(t, front{now: s.Deps.Now}),
		"frontend, caching": s.fronted(t, front{now: s.Deps.Now, cached: true, shards: 2}),
	} {
		requireRecorded(t, name, c, lines, &now)
	}
}

// requireRecorded asks for all that was recorded, at the time that now then says.
func requireRecorded(t *testing.T, name string, c *client, lines []recorded, now *time.Time) {
	t.Helper()
	equal := 0
	for _, want := range lines {
		u, err := url.Parse(want.Path)
		require.NoError(t, err)
		if !strings.HasPrefix(u.Path, "/api/v1/") {
			continue // the process answers these
		}
		if u.Path == "/api/v1/parse_query" || u.Path == "/api/v1/format_query" {
			continue // Prometheus has these, and so do we
		}
		*now = time.UnixMilli(1795427326855)
		if m := evaluationTime.FindStringSubmatch(want.Body); m != nil && u.Path == "/api/v1/query" && !strings.Contains(want.Path, "up%5B") {
			seconds, err := strconv.ParseFloat(m[1], 64)
			require.NoError(t, err)
			*now = time.UnixMilli(int64(math.Round(seconds * 1000)))
		}
		got := c.do(want.Method, want.Path, want.BodySent)
		require.Equal(t, want.Status, got.Code, "%s: %s: %s", name, want.Path, got.Body)
		require.Equal(t, want.ContentType, got.Header.Get("Content-Type"), "%s: %s", name, want.Path)
		cache := ""
		if want.Cache != nil {
			cache = *want.Cache
		}
		require.Equal(t, cache, got.Header.Get("Cache-Control"), "%s: %s", name, want.Path)
		if figures(u) {
			requireSameShape(t, want, got)
			continue
		}
		require.Equal(t, want.Body, got.Body, "%s: %s", name, want.Path)
		equal++
	}
	require.GreaterOrEqual(t, equal, 34, name)
}

// figures tells whether an answer has content that differs from run to run.
func figures(u *url.URL) bool {
	switch {
	case strings.HasPrefix(u.Path, "/api/v1/status/build"), strings.HasPrefix(u.Path, "/api/v1/status/runtime"):
		return true
	case u.Query().Has("stats"), u.Query().Has("analyze"):
		return true
	case u.Path == "/api/v1/query_explain":
		// The engine reads by half as many goroutines as there are processors; it was two of them.
		return runtime.GOMAXPROCS(0) > 3
	}
	return false
}

// requireSameShape requires all keys of the recorded answer, with values of the same types.
func requireSameShape(t testing.TB, want recorded, got *reply) {
	t.Helper()
	var a, b any
	require.NoError(t, json.Unmarshal([]byte(want.Body), &a))
	require.NoError(t, json.Unmarshal([]byte(got.Body), &b))
	requireShape(t, want.Path, a, b)
}

func requireShape(t testing.TB, path string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		have, ok := got.(map[string]any)
		require.True(t, ok, path)
		for k, v := range want {
			require.Contains(t, have, k, path)
			requireShape(t, path+"."+k, v, have[k])
		}
	case []any:
		have, ok := got.([]any)
		require.True(t, ok, path)
		require.Len(t, have, len(want), path)
		for i := range want {
			requireShape(t, path+"["+strconv.Itoa(i)+"]", want[i], have[i])
		}
	case string:
		have, ok := got.(string)
		require.True(t, ok, path)
		if strings.HasSuffix(path, ".name") && runtime.GOMAXPROCS(0) <= 3 || strings.HasSuffix(path, ".endpointAddr") {
			require.Equal(t, want, have, path)
		}
	default:
		require.IsType(t, want, got, path)
	}
}

// downsampled is one line of testdata/downsampled-queries.jsonl.
type downsampled struct {
	Params map[string]any `json:"params"`
	Answer struct {
		Data json.RawMessage `json:"data"`
	} `json:"answer"`
}

func TestQueriesOverDownsampledDataGiveTheRecordedValues(t *testing.T) {
	t.Parallel()
	b := readBucket(t, blocktest.RecordedAfter(t))
	c := newStack(storePeer(t, b, labels.FromStrings("cluster", "eu1"))).serve(t)
	for _, line := range readLines[downsampled](t, "testdata/downsampled-queries.jsonl") {
		params := url.Values{}
		for k, v := range line.Params {
			switch v := v.(type) {
			case string:
				params.Set(k, v)
			case float64:
				params.Set(k, strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
		t.Run(params.Get("query")+" "+params.Get("max_source_resolution"), func(t *testing.T) {
			if strings.HasPrefix(params.Get("query"), "resets(") && params.Get("max_source_resolution") == "0s" {
				// The recording evens raw counters out before it counts their resets, and so finds none.
				t.Skip("resets of raw data are counted exactly here")
			}
			for _, engine := range []string{"prometheus", "thanos"} {
				params.Set("engine", engine)
				got := c.do(http.MethodPost, "/api/v1/query_range", params.Encode())
				requireSameMatrix(t, string(line.Answer.Data), got.ok(t))
			}
		})
	}
}

// series is one series of a matrix, times and values apart.
type series struct {
	Metric map[string]string
	T      []float64
	V      []float64
}

func matrix(t testing.TB, data string) []series {
	t.Helper()
	var m struct {
		ResultType string
		Result     []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(data), &m))
	require.Equal(t, "matrix", m.ResultType)
	out := []series{}
	for _, s := range m.Result {
		o := series{Metric: s.Metric}
		for _, p := range s.Values {
			v, err := strconv.ParseFloat(p[1].(string), 64)
			require.NoError(t, err)
			o.T, o.V = append(o.T, p[0].(float64)), append(o.V, v)
		}
		out = append(out, o)
	}
	return out
}

func requireSameMatrix(t testing.TB, want, got string) {
	t.Helper()
	if diff := cmp.Diff(matrix(t, want), matrix(t, got), cmpopts.EquateApprox(1e-9, 1e-12), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("answer differs (-recorded +got):\n%s", diff)
	}
}
