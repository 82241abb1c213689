package promclient

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// values collects parameters; the zero value is ready.
type values url.Values

func (v values) set(key, value string)           { v[key] = []string{value} }
func (v values) add(key string, value ...string) { v[key] = append(v[key], value...) }
func (v values) Values() url.Values              { return url.Values(v) }

// time sets key to t with milliseconds unless t is zero.
func (v values) time(key string, t time.Time) {
	if !t.IsZero() {
		v.set(key, formatMillis(t.UnixMilli()))
	}
}

// formatMillis writes Unix milliseconds as seconds without going through a float, which could not hold all of them.
func formatMillis(ms int64) string {
	sign := ""
	u := uint64(ms)
	if ms < 0 {
		sign, u = "-", -u
	}
	return fmt.Sprintf("%s%d.%03d", sign, u/1000, u%1000)
}

// Span restricts a request to a time range, both ends inclusive. A zero time leaves that end open.
type Span struct {
	Start, End time.Time
}

// Selector renders matchers as a series selector. Quotes and label names of any characters are taken care of.
func Selector(matchers ...*labels.Matcher) string {
	b := []byte{'{'}
	for i, m := range matchers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m.String()...)
	}
	return string(append(b, '}'))
}

// Series asks for the label sets of the series that match all matchers in the span.
// limit bounds them if it is positive; it is a hint that old servers ignore. The second result are warnings.
func (c *Client) Series(ctx context.Context, span Span, limit int, matchers ...*labels.Matcher) ([]labels.Labels, []string, error) {
	params := listParams(span, limit, matchers)
	resp, err := apiPost[[]labels.Labels](ctx, c, "/series", params)
	return resp.Data, resp.notes(), err
}

// LabelNames asks for the names of the labels that series matching all matchers have in the span, sorted.
func (c *Client) LabelNames(ctx context.Context, span Span, limit int, matchers ...*labels.Matcher) ([]string, []string, error) {
	params := listParams(span, limit, matchers)
	resp, err := apiPost[[]string](ctx, c, "/labels", params)
	return resp.Data, resp.notes(), err
}

// LabelValues asks for the values that the label has on series matching all matchers in the span, sorted.
func (c *Client) LabelValues(ctx context.Context, label string, span Span, limit int, matchers ...*labels.Matcher) ([]string, []string, error) {
	params := listParams(span, limit, matchers)
	if !model.LegacyValidation.IsValidLabelName(label) {
		label = model.EscapeName(label, model.ValueEncodingEscaping)
	}
	resp, err := apiGet[[]string](ctx, c, "/label/"+url.PathEscape(label)+"/values", params)
	return resp.Data, resp.notes(), err
}

func listParams(span Span, limit int, matchers []*labels.Matcher) url.Values {
	p := values{}
	p.time("start", span.Start)
	p.time("end", span.End)
	if limit > 0 {
		p.set("limit", strconv.Itoa(limit))
	}
	if len(matchers) > 0 {
		p.set("match[]", Selector(matchers...))
	}
	return p.Values()
}

// Result is the value of a query with what the server remarked.
type Result struct {
	// Value is a model.Vector, model.Matrix, *model.Scalar or *model.String.
	Value    model.Value
	Warnings []string
	Infos    []string
	// Receipt is the JSON of what the answer cost and what is missing from it; empty where the server was not asked for
	// it by the parameter receipt=true, or does not know it.
	Receipt json.RawMessage
}

// Query evaluates a PromQL expression at t; the zero time means now. extra are further parameters, which go before our own.
func (c *Client) Query(ctx context.Context, expr string, t time.Time, extra url.Values) (Result, error) {
	p := values(maps.Clone(extra))
	if p == nil {
		p = values{}
	}
	p.set("query", expr)
	p.time("time", t)
	return c.query(ctx, "/query", p)
}

// QueryRange evaluates a PromQL expression at each step from start to end.
func (c *Client) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration, extra url.Values) (Result, error) {
	p := values(maps.Clone(extra))
	if p == nil {
		p = values{}
	}
	p.set("query", expr)
	p.set("start", formatMillis(start.UnixMilli()))
	p.set("end", formatMillis(end.UnixMilli()))
	p.set("step", strconv.FormatFloat(step.Seconds(), 'f', -1, 64))
	return c.query(ctx, "/query_range", p)
}

func (c *Client) query(ctx context.Context, path string, p values) (Result, error) {
	resp, err := apiPost[queryValue](ctx, c, path, p.Values())
	return Result{Value: resp.Data.value, Warnings: resp.Warnings, Infos: resp.Infos, Receipt: resp.Receipt}, err
}

// queryValue reads {"resultType": …, "result": …} into the type it names.
type queryValue struct{ value model.Value }

func (q *queryValue) UnmarshalJSON(b []byte) error {
	var typed struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(b, &typed); err != nil {
		return err
	}
	var err error
	switch typed.Type {
	case "vector":
		var v model.Vector
		err = json.Unmarshal(typed.Result, &v)
		q.value = v
	case "matrix":
		var v model.Matrix
		err = json.Unmarshal(typed.Result, &v)
		q.value = v
	case "scalar":
		v := &model.Scalar{}
		err = json.Unmarshal(typed.Result, v)
		q.value = v
	case "string":
		v := &model.String{}
		err = json.Unmarshal(typed.Result, v)
		q.value = v
	default:
		err = fmt.Errorf("unknown result type %q", typed.Type)
	}
	return err
}
