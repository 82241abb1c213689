package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// wholeEnv set to anything asks all expressions; else it is every seventh.
const wholeEnv = "PROMONTORY_CORPUS_WHOLE"

const sampled = 7

// minimum is how many expressions there are at least.
const minimum = 600

// asking is how many expressions are asked at once.
const asking = 4

var relative = regexp.MustCompile(`\bT\+(\d+(?:\.\d+)?)`)

// expressions returns the corpus with absolute times.
func expressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/expressions.promql")
	require.NoError(t, err)
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\n"); line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		out = append(out, relative.ReplaceAllStringFunc(line, func(m string) string {
			offset, err := strconv.ParseFloat(m[2:], 64)
			require.NoError(t, err, line)
			return strconv.FormatFloat(float64(epoch.Unix())+offset, 'f', -1, 64)
		}))
	}
	require.GreaterOrEqual(t, len(out), minimum)
	return out
}

// question is one call for an expression.
type question struct {
	path   string
	params []string
}

func at(offset float64) string {
	return strconv.FormatFloat(float64(epoch.Unix())+offset, 'f', -1, 64)
}

func instants() []question {
	return []question{
		{"/query", []string{"time", at(3000)}},
		{"/query", []string{"time", at(9015.5)}},
	}
}

// ranges are on steps, so that a frontend may round them, which changes nothing.
func ranges() []question {
	const step = 97
	first := (epoch.Unix()/step + 20) * step
	return []question{
		{"/query_range", []string{"start", at(540), "end", at(13140), "step", "180"}},
		{"/query_range", []string{"start", fmt.Sprint(first), "end", fmt.Sprint(first + 40*step), "step", fmt.Sprint(step)}},
	}
}

func unaligned() question {
	return question{"/query_range", []string{"start", at(1234.5), "end", at(2234.5), "step", "17"}}
}

// way is one way of asking us.
type way struct {
	name   string
	of     harness.Service
	params []string
	// frontend tells that a frontend is in the way: what is asked twice comes from its cache.
	frontend bool
}

func (w way) questions() []question {
	two, on := instants(), ranges()
	if w.frontend {
		// Once more, and a part of it with one end in the middle of a part that was kept.
		return []question{two[1], on[0], on[1], on[0], {"/query_range", []string{"start", at(3420), "end", at(13860), "step", "180"}}}
	}
	return []question{two[0], two[1], on[0], unaligned()}
}

func TestEveryWayOfAskingAnswersAsPrometheus(t *testing.T) {
	t.Parallel()
	exprs := expressions(t)
	if os.Getenv(wholeEnv) == "" {
		var some []string
		for i := 0; i < len(exprs); i += sampled {
			some = append(some, exprs[i])
		}
		exprs = some
	}
	reference, ways := start(t)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * asking}}
	t.Cleanup(client.CloseIdleConnections)

	// Subtests of a thousand expressions would each print; one that fails is named in its error.
	queue := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	asked := 0
	for range asking {
		wg.Go(func() {
			for expr := range queue {
				n, problems := compare(t, client, reference, ways, expr)
				mu.Lock()
				asked += n
				for _, p := range problems {
					failed[p.way]++
					t.Errorf("%s\n  %s %v\n  %s", expr, p.way, p.question, p.what)
				}
				mu.Unlock()
			}
		})
	}
	for _, expr := range exprs {
		queue <- expr
	}
	close(queue)
	wg.Wait()
	t.Logf("%d expressions, %d answers compared, differences by way: %v", len(exprs), asked, failed)
}

// problem is an answer that is not the one of Prometheus.
type problem struct {
	way      string
	question question
	what     string
}

func compare(t *testing.T, client *http.Client, reference harness.Service, ways []way, expr string) (asked int, problems []problem) {
	known := map[string]*reply{}
	for _, w := range ways {
		for _, q := range w.questions() {
			key := fmt.Sprint(q)
			want, ok := known[key]
			if !ok {
				want = ask(t.Context(), client, reference, q, expr)
				known[key] = want
			}
			got := ask(t.Context(), client, w.of, q, expr, w.params...)
			asked++
			if what := want.differs(got, expr); what != "" {
				problems = append(problems, problem{w.name, q, what})
			}
		}
	}
	return asked, problems
}

// reply is an answer, with its values by series and time.
type reply struct {
	Status    string `json:"status"`
	ErrorType string `json:"errorType"`
	Error     string `json:"error"`
	Data      struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	} `json:"data"`
	values map[string]float64 // once it is flat
	order  []string
	err    error
}

// ask asks; a failure to ask is a reply, too.
func ask(ctx context.Context, client *http.Client, of harness.Service, q question, expr string, more ...string) (out *reply) {
	form := url.Values{"query": {expr}}
	for _, list := range [][]string{q.params, more} {
		for i := 0; i < len(list); i += 2 {
			form.Set(list[i], list[i+1])
		}
	}
	ctx, cancel := context.WithTimeout(ctx, harness.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, of.URL()+"/api/v1"+q.path, strings.NewReader(form.Encode()))
	if err != nil {
		return &reply{err: err}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(r)
	if err != nil {
		return &reply{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return &reply{err: err}
	}
	out = &reply{}
	if err := json.Unmarshal(body, out); err != nil {
		return &reply{err: fmt.Errorf("status %d: %.200s: %w", resp.StatusCode, body, err)}
	}
	return out
}

// point is one of a series: a time and a value, which is a text or a histogram.
type point [2]json.RawMessage

// flatten makes one number of each value, under a name that tells where it is.
func (r *reply) flatten() error {
	if r.values != nil {
		return nil
	}
	r.values = map[string]float64{}
	if r.Data.Type == "scalar" || r.Data.Type == "string" {
		var p point
		if err := json.Unmarshal(r.Data.Result, &p); err != nil {
			return err
		}
		if r.Data.Type == "string" {
			r.values[string(p[1])] = 0
			return nil
		}
		return r.add("scalar", p)
	}
	var series []struct {
		Metric     map[string]string `json:"metric"`
		Value      *point            `json:"value"`
		Histogram  *point            `json:"histogram"`
		Values     []point           `json:"values"`
		Histograms []point           `json:"histograms"`
	}
	if err := json.Unmarshal(r.Data.Result, &series); err != nil {
		return err
	}
	for _, s := range series {
		name, err := json.Marshal(s.Metric)
		if err != nil {
			return err
		}
		r.order = append(r.order, string(name))
		if s.Value != nil {
			s.Values = append(s.Values, *s.Value)
		}
		if s.Histogram != nil {
			s.Histograms = append(s.Histograms, *s.Histogram)
		}
		for _, p := range slices.Concat(s.Values, s.Histograms) {
			if err := r.add(string(name), p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reply) add(series string, p point) error {
	name := series + " @ " + string(p[0])
	put := func(name, text string) error {
		v, err := strconv.ParseFloat(text, 64)
		if _, twice := r.values[name]; twice || err != nil {
			return fmt.Errorf("value %s is %q, or there twice", name, text)
		}
		r.values[name] = v
		return nil
	}
	if len(p[1]) > 0 && p[1][0] == '"' {
		return put(name, strings.Trim(string(p[1]), `"`))
	}
	var h struct {
		Count, Sum string
		Buckets    [][]any
	}
	if err := json.Unmarshal(p[1], &h); err != nil {
		return err
	}
	if err := put(name+" count", h.Count); err != nil {
		return err
	}
	if err := put(name+" sum", h.Sum); err != nil {
		return err
	}
	for i, b := range h.Buckets {
		for k, v := range b {
			if err := put(fmt.Sprintf("%s bucket %d.%d", name, i, k), fmt.Sprint(v)); err != nil {
				return err
			}
		}
	}
	return nil
}

// anyOf are expressions that may take any series there are: which ones is up to the order in which they come from storage.
var anyOf = regexp.MustCompile(`^limitk( by \(\w+\))? ?\(1,`)

// ordered are expressions whose series have an order at an instant.
var ordered = regexp.MustCompile(`^sort`)

// differs says how got is not what it should be; empty where it is.
func (r *reply) differs(got *reply, expr string) string {
	if r.err == nil && got.err == nil && r.Status == "success" && got.Status == "success" {
		if bytes.Equal(r.Data.Result, got.Data.Result) && r.Data.Type == got.Data.Type {
			return ""
		}
		r.err, got.err = r.flatten(), got.flatten()
	}
	switch {
	case r.err != nil || got.err != nil:
		return fmt.Sprintf("no answer: Prometheus %v, ours %v", r.err, got.err)
	case r.Status != got.Status || r.ErrorType != got.ErrorType:
		return fmt.Sprintf("want %s %s %s\n  got  %s %s %s", r.Status, r.ErrorType, r.Error, got.Status, got.ErrorType, got.Error)
	case r.Status != "success":
		return ""
	case r.Data.Type != got.Data.Type:
		return fmt.Sprintf("want a %s, got a %s", r.Data.Type, got.Data.Type)
	case anyOf.MatchString(expr):
		if len(r.values) != len(got.values) {
			return fmt.Sprintf("want %d values, got %d", len(r.values), len(got.values))
		}
		return ""
	case r.Data.Type == "vector" && ordered.MatchString(expr) && !slices.Equal(r.order, got.order):
		return fmt.Sprintf("want the order %v\n  got           %v", r.order, got.order)
	}
	var lines []string
	for name, want := range r.values {
		v, ok := got.values[name]
		if !ok {
			lines = append(lines, fmt.Sprintf("%s: want %v, got nothing", name, want))
		} else if !same(want, v) {
			lines = append(lines, fmt.Sprintf("%s: want %v, got %v", name, want, v))
		}
	}
	for name, v := range got.values {
		if _, ok := r.values[name]; !ok {
			lines = append(lines, fmt.Sprintf("%s: want nothing, got %v", name, v))
		}
	}
	slices.Sort(lines)
	if len(lines) > 4 {
		lines = append(lines[:4], fmt.Sprintf("and %d more", len(lines)-4))
	}
	return strings.Join(lines, "\n  ")
}

// same compares to nine digits.
func same(a, b float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)) || math.Abs(a-b) <= 1e-12
}

// start runs everything and returns the Prometheus to compare with and the ways of asking us.
func start(t *testing.T) (reference harness.Service, ways []way) {
	t.Helper()
	begin := time.Now()
	s := harness.New(t)
	data := s.Dir("data")
	blocks := writeBlocks(t, data)
	const experimental = "--enable-feature=promql-experimental-functions"
	// The step of sub-queries that do not say theirs is the evaluation interval of the server.
	const interval = "--query.default-evaluation-interval=1s"
	// Tens of thousands of requests at the level of other tests are many lines.
	const quiet = "--log.level=info"
	one, oneDir := s.FilesystemBucket("one", "")
	upload(t, oneDir, "a", blocks)
	pair, pairDir := s.FilesystemBucket("pair", "")
	upload(t, pairDir, "a", blocks)
	upload(t, pairDir, "b", blocks)

	prometheus := s.Prometheus("prometheus", harness.PrometheusConfig{
		ExternalLabels: map[string]string{"replica": "a"}, DataDir: data, Args: []string{experimental},
	})
	sidecar := s.Sidecar("sidecar", prometheus, quiet)
	gateway := s.StoreGateway("gateway", one, quiet)
	gateways := s.StoreGateway("gateway-pair", pair, quiet)
	live := s.Querier("querier-sidecar", []harness.Service{sidecar}, experimental, interval, quiet)
	history := s.Querier("querier-gateway", []harness.Service{gateway}, experimental, interval, quiet)
	replicas := s.Querier("querier-pair", []harness.Service{gateways}, experimental, interval, quiet)
	split := []string{
		experimental, interval, quiet, "--query-range.split-interval=30m", "--query-frontend.vertical-shards=3",
		"--query-range.response-cache-config={type: IN-MEMORY, config: {max_size: 200MB}}", "--query-frontend.log-queries-longer-than=10s",
	}
	within := s.Querier("querier-frontend", []harness.Service{gateways}, append(split, "--query-frontend.enabled")...)
	alone, spec := s.ServiceSpec("frontend", "querier", append(split, "--mode=frontend", "--downstream-url="+live.URL())...)
	spec.Listen = spec.Listen[:1] // it has no gRPC
	s.Start(spec)
	for _, engine := range []string{"prometheus", "thanos"} {
		params := []string{"engine", engine}
		ways = append(ways,
			way{name: "sidecar/" + engine, of: live, params: params},
			way{name: "gateway/" + engine, of: history, params: params},
			way{name: "pair/" + engine, of: replicas, params: params},
			way{name: "pair and frontend/" + engine, of: within, params: params, frontend: true},
			way{name: "sidecar and frontend alone/" + engine, of: alone, params: params, frontend: true},
		)
	}
	t.Logf("everything runs after %s", time.Since(begin))
	return prometheus.Service, ways
}
