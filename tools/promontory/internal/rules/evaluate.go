package rules

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/ownwrites"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// point is a sample of a series; h is nil for a float.
type point struct {
	t int64
	f float64
	h *histogram.FloatHistogram
}

// result is a series that a rule has recorded, with the labels that the rule gives it. Points are sorted.
type result struct {
	labels labels.Labels
	points []point
}

// evaluator evaluates rules in the past, through a querier.
type evaluator struct {
	client *promclient.Client
	// seen are the external labels under which queriers show results; dropped is the label that tells replicas apart.
	seen    labels.Labels
	dropped string
	partial bool
	engine  *ownwrites.Engine
}

// incomplete returns the warnings that something is missing as an error, nil if none does.
func incomplete(r promclient.Result) error {
	missing := slices.DeleteFunc(slices.Clone(r.Warnings), func(w string) bool {
		return strings.HasPrefix(w, "PromQL warning:") || strings.HasPrefix(w, "PromQL info:")
	})
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the answer is not complete: %s", strings.Join(missing, "; "))
}

func (e *evaluator) params() url.Values {
	return url.Values{"dedup": {"true"}, "partial_response": {fmt.Sprint(e.partial)}}
}

// evaluate returns what a rule records at the slots and does not have already. With writes it reads these too.
func (e *evaluator) evaluate(ctx context.Context, s slots, writes *ownwrites.Writes) ([]result, error) {
	var all []result
	var err error
	if writes == nil {
		all, err = e.byRange(ctx, s)
	} else {
		all, err = e.byInstant(ctx, s, writes)
	}
	if err != nil {
		return nil, err
	}
	named, err := s.fill.name(all)
	if err != nil {
		return nil, err
	}
	there, err := e.existing(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("look for what is recorded already: %w", err)
	}
	out := named[:0]
	for _, r := range named {
		r.points = complete(r.points, s, there[e.identity(r.labels)])
		if len(r.points) > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

// byRange evaluates at all slots and the one before them at once.
func (e *evaluator) byRange(ctx context.Context, s slots) ([]result, error) {
	step := s.fill.step()
	r, err := e.client.QueryRange(ctx, s.fill.Query, time.UnixMilli(s.first-step), time.UnixMilli(s.last()), time.Duration(step)*time.Millisecond, e.params())
	if err == nil && !e.partial {
		err = incomplete(r)
	}
	if err != nil {
		return nil, err
	}
	matrix, ok := r.Value.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("the answer is a %s, want a matrix", r.Value.Type())
	}
	return fromMatrix(matrix)
}

func fromMatrix(matrix model.Matrix) ([]result, error) {
	out := make([]result, 0, len(matrix))
	for _, s := range matrix {
		one := result{labels: fromMetric(s.Metric)}
		for _, v := range s.Values {
			one.points = append(one.points, point{t: int64(v.Timestamp), f: float64(v.Value)})
		}
		for _, v := range s.Histograms {
			h, err := promclient.FloatHistogram(v.Histogram)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.labels, err)
			}
			one.points = append(one.points, point{t: int64(v.Timestamp), h: h})
		}
		slices.SortFunc(one.points, func(a, b point) int { return int(a.t - b.t) })
		out = append(out, one)
	}
	return out, nil
}

func fromMetric(m model.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(m))
	for name, value := range m {
		b.Add(string(name), string(value))
	}
	b.Sort()
	return b.Labels()
}

// byInstant evaluates slot by slot, as a ruler does whose rules read each other.
func (e *evaluator) byInstant(ctx context.Context, s slots, writes *ownwrites.Writes) ([]result, error) {
	byLabels := map[string]*result{}
	for i := -1; i < s.n; i++ {
		t := s.first + int64(i)*s.fill.step()
		expr, err := parser.ParseExpr(s.fill.Query) // evaluating changes it
		if err != nil {
			return nil, err
		}
		v, err := e.engine.Eval(ctx, expr, time.UnixMilli(t), writes, e.ask)
		if err != nil {
			return nil, fmt.Errorf("at %s: %w", time.UnixMilli(t).UTC().Format(time.RFC3339), err)
		}
		vector, ok := v.(promql.Vector)
		if scalar, is := v.(promql.Scalar); is {
			vector, ok = promql.Vector{{F: scalar.V}}, true
		}
		if !ok {
			return nil, fmt.Errorf("the result is a %s, where a rule needs a vector or scalar", v.Type())
		}
		for _, sample := range vector {
			key := sample.Metric.String()
			r := byLabels[key]
			if r == nil {
				r = &result{labels: sample.Metric}
				byLabels[key] = r
			}
			r.points = append(r.points, point{t: t, f: sample.F, h: sample.H})
		}
	}
	out := make([]result, 0, len(byLabels))
	for _, r := range byLabels {
		out = append(out, *r)
	}
	return out, nil
}

// ask evaluates a part of an expression.
func (e *evaluator) ask(ctx context.Context, expr string, t time.Time) (parser.Value, error) {
	r, err := e.client.Query(ctx, expr, t, e.params())
	if err == nil && !e.partial {
		err = incomplete(r)
	}
	if err != nil {
		return nil, err
	}
	switch v := r.Value.(type) {
	case *model.Scalar:
		return promql.Scalar{T: int64(v.Timestamp), V: float64(v.Value)}, nil
	case model.Vector:
		out := make(promql.Vector, 0, len(v))
		for _, s := range v {
			sample := promql.Sample{Metric: fromMetric(s.Metric), T: int64(s.Timestamp), F: float64(s.Value)}
			if s.Histogram != nil {
				if sample.H, err = promclient.FloatHistogram(s.Histogram); err != nil {
					return nil, fmt.Errorf("%s: %w", sample.Metric, err)
				}
				sample.F = 0
			}
			out = append(out, sample)
		}
		return out, nil
	case model.Matrix:
		series, err := fromMatrix(v)
		if err != nil {
			return nil, err
		}
		out := make(promql.Matrix, 0, len(series))
		for _, s := range series {
			one := promql.Series{Metric: s.labels}
			for _, p := range s.points {
				if p.h != nil {
					one.Histograms = append(one.Histograms, promql.HPoint{T: p.t, H: p.h})
				} else {
					one.Floats = append(one.Floats, promql.FPoint{T: p.t, F: p.f})
				}
			}
			out = append(out, one)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("the answer is a %s", r.Value.Type())
	}
}

// name gives results the name and labels of the rule, sorted by labels. Two that are the same then are an error where
// they have samples at the same time, as for a ruler; else they are one.
func (f *fill) name(in []result) ([]result, error) {
	byLabels := map[string]*result{}
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, r := range in {
		b.Reset(r.labels)
		b.Set(labels.MetricName, f.Name)
		f.Labels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		lset := b.Labels()
		old := byLabels[lset.String()]
		if old == nil {
			byLabels[lset.String()] = &result{labels: lset, points: r.points}
			continue
		}
		old.points = append(old.points, r.points...)
		slices.SortFunc(old.points, func(a, b point) int { return int(a.t - b.t) })
		for i := 1; i < len(old.points); i++ {
			if old.points[i].t == old.points[i-1].t {
				return nil, fmt.Errorf("two results are %s at %s", lset, time.UnixMilli(old.points[i].t).UTC().Format(time.RFC3339))
			}
		}
	}
	out := make([]result, 0, len(byLabels))
	for _, r := range byLabels {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b result) int { return labels.Compare(a.labels, b.labels) })
	return out, nil
}

// complete returns the points to write: those at slots where nothing is there, and a stale marker where the series
// ends. points also has the slot before the first. there is sorted. Pure.
func complete(points []point, s slots, there []int64) []point {
	step := s.fill.step()
	var out []point
	next := 0
	present := false // at the slot before
	for i := -1; i < s.n; i++ {
		t := s.first + int64(i)*step
		for next < len(points) && points[next].t < t {
			next++
		}
		now := next < len(points) && points[next].t == t
		was := present
		present = now
		switch {
		case i < 0 || s.end && i == s.n-1 && now || !now && !was || near(there, t, step):
		case now:
			out = append(out, points[next])
		default:
			out = append(out, point{t: t, f: math.Float64frombits(value.StaleNaN)})
		}
	}
	return out
}

// near reports whether a time within half a step of t is in the sorted list.
func near(there []int64, t, step int64) bool {
	i, found := slices.BinarySearch(there, t-step/2)
	return found || i < len(there) && there[i] < t+(step+1)/2
}

// identity is what a result is called by queriers, but for the label that tells replicas apart.
func (e *evaluator) identity(lset labels.Labels) string {
	b := labels.NewBuilder(lset)
	e.seen.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	b.Del(e.dropped)
	return b.Labels().String()
}

// existing returns the times of samples that queriers have of the rule around the slots, by identity.
func (e *evaluator) existing(ctx context.Context, s slots) (map[string][]int64, error) {
	step := s.fill.step()
	ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, s.fill.Name)}
	e.seen.Range(func(l labels.Label) { ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value)) })
	end := s.last() + step
	text := fmt.Sprintf("%s[%dms]", promclient.Selector(ms...), end-s.first+step)
	r, err := e.client.Query(ctx, text, time.UnixMilli(end), e.params())
	if err == nil && !e.partial {
		err = incomplete(r)
	}
	if err != nil {
		return nil, err
	}
	matrix, ok := r.Value.(model.Matrix)
	if !ok {
		return nil, errors.New("the answer is no matrix")
	}
	out := map[string][]int64{}
	for _, series := range matrix {
		b := labels.NewBuilder(fromMetric(series.Metric))
		b.Del(e.dropped)
		key := b.Labels().String()
		for _, v := range series.Values {
			out[key] = append(out[key], int64(v.Timestamp))
		}
		for _, v := range series.Histograms {
			out[key] = append(out[key], int64(v.Timestamp))
		}
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out, nil
}
