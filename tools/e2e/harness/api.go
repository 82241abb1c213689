package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/stretchr/testify/require"
)

// API asks a server that speaks Prometheus' HTTP API: a querier, or a Prometheus.
type API struct {
	t      testing.TB
	client *promclient.Client
	// Params go with each query: {"dedup": {"false"}}.
	Params url.Values
	// Partial accepts answers with warnings; otherwise they fail the test.
	Partial bool
}

// API returns the API of a service.
func (s *Stack) API(of Service) API {
	s.t.Helper()
	base, err := url.Parse(of.URL())
	require.NoError(s.t, err)
	return API{t: s.t, client: promclient.New(base, promclient.Options{})}
}

// With returns an API that sends a parameter with each query.
func (a API) With(name, value string) API {
	params := url.Values{name: {value}}
	for n, v := range a.Params {
		if n != name {
			params[n] = v
		}
	}
	a.Params = params
	return a
}

// AllowPartial returns an API that accepts answers with warnings.
func (a API) AllowPartial() API {
	a.Partial = true
	return a
}

// TryInstant evaluates query at a time and returns value by series, as "name{label=\"value\"}".
func (a API) TryInstant(query string, at time.Time) (map[string]float64, []string, error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), Timeout)
	defer cancel()
	result, err := a.client.Query(ctx, query, at, a.Params)
	if err != nil {
		return nil, nil, err
	}
	if err := a.whole(result.Warnings); err != nil {
		return nil, result.Warnings, err
	}
	values := map[string]float64{}
	switch value := result.Value.(type) {
	case model.Vector:
		for _, s := range value {
			values[s.Metric.String()] = float64(s.Value)
		}
	case *model.Scalar:
		values["scalar"] = float64(value.Value)
	default:
		return nil, result.Warnings, fmt.Errorf("query %s: the answer is a %s", query, result.Value.Type())
	}
	return values, result.Warnings, nil
}

// Instant is TryInstant where nothing may fail.
func (a API) Instant(query string, at time.Time) map[string]float64 {
	a.t.Helper()
	values, _, err := a.TryInstant(query, at)
	require.NoError(a.t, err, query)
	return values
}

// TryRange evaluates query from start to end and returns by series its values by Unix milliseconds.
func (a API) TryRange(query string, start, end time.Time, step time.Duration) (map[string]map[int64]float64, []string, error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), Timeout)
	defer cancel()
	result, err := a.client.QueryRange(ctx, query, start, end, step, a.Params)
	if err != nil {
		return nil, nil, err
	}
	if err := a.whole(result.Warnings); err != nil {
		return nil, result.Warnings, err
	}
	matrix, ok := result.Value.(model.Matrix)
	if !ok {
		return nil, result.Warnings, fmt.Errorf("query %s: the answer is a %s", query, result.Value.Type())
	}
	values := map[string]map[int64]float64{}
	for _, s := range matrix {
		points := map[int64]float64{}
		for _, p := range s.Values {
			points[int64(p.Timestamp)] = float64(p.Value)
		}
		values[s.Metric.String()] = points
	}
	return values, result.Warnings, nil
}

// Range is TryRange where nothing may fail.
func (a API) Range(query string, start, end time.Time, step time.Duration) map[string]map[int64]float64 {
	a.t.Helper()
	values, _, err := a.TryRange(query, start, end, step)
	require.NoError(a.t, err, query)
	return values
}

// Series returns the label sets that selectors select, as text.
func (a API) Series(selector string, start, end time.Time) []string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), Timeout)
	defer cancel()
	series, warnings, err := a.client.Series(ctx, promclient.Span{Start: start, End: end}, 0, a.matchers(selector)...)
	require.NoError(a.t, err, selector)
	require.NoError(a.t, a.whole(warnings))
	text := make([]string, 0, len(series))
	for _, s := range series {
		text = append(text, s.String())
	}
	return text
}

// LabelNames returns the names of the labels of all series that a selector selects; empty selects all.
func (a API) LabelNames(selector string, start, end time.Time) []string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), Timeout)
	defer cancel()
	names, warnings, err := a.client.LabelNames(ctx, promclient.Span{Start: start, End: end}, 0, a.matchers(selector)...)
	require.NoError(a.t, err, selector)
	require.NoError(a.t, a.whole(warnings))
	return names
}

// LabelValues returns the values of a label.
func (a API) LabelValues(label, selector string, start, end time.Time) []string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), Timeout)
	defer cancel()
	values, warnings, err := a.client.LabelValues(ctx, label, promclient.Span{Start: start, End: end}, 0, a.matchers(selector)...)
	require.NoError(a.t, err, label)
	require.NoError(a.t, a.whole(warnings))
	return values
}

// Metric is the sum of a metric's values that a service exposes, over all labels; 0 where there is none.
func (s *Stack) Metric(of Service, name string) float64 {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, of.URL()+"/metrics", nil)
	require.NoError(s.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	var sum float64
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndex(rest, " "):]), 64)
		require.NoError(s.t, err, line)
		sum += value
	}
	return sum
}

func (a API) matchers(selector string) []*labels.Matcher {
	a.t.Helper()
	if selector == "" {
		return nil
	}
	matchers, err := parser.ParseMetricSelector(selector)
	require.NoError(a.t, err, selector)
	return matchers
}

func (a API) whole(warnings []string) error {
	if a.Partial || len(warnings) == 0 {
		return nil
	}
	return fmt.Errorf("the answer has warnings: %s", strings.Join(warnings, "; "))
}
