package ownwrites

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// Querier implements storage.Queryable.
func (p *parts) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{parts: p, mint: mint, maxt: maxt}, nil
}

type querier struct {
	parts      *parts
	mint, maxt int64
}

func (*querier) Close() error { return nil }

func (*querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (*querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

// Select returns a part, or fetches samples and adds what was written.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if len(ms) == 1 && ms[0].Name == partLabel {
		return q.part(ms[0].Value)
	}
	mint, maxt := q.mint, q.maxt
	if hints != nil {
		mint, maxt = hints.Start, hints.End
	}
	// Not every querier knows times more exactly than seconds; what is asked for too much is left out.
	end := time.Unix((maxt+999)/1000, 0)
	expr := fmt.Sprintf("%s[%dms]", promclient.Selector(ms...), end.UnixMilli()-mint+1)
	v, err := q.parts.ask(ctx, expr, end)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	matrix, ok := v.(promql.Matrix)
	if !ok {
		return storage.ErrSeriesSet(fmt.Errorf("%s is a %s, want a matrix", expr, v.Type()))
	}
	found := map[string]*series{}
	at := func(lset labels.Labels) *series {
		s, ok := found[lset.String()]
		if !ok {
			s = &series{labels: lset}
			found[lset.String()] = s
		}
		return s
	}
	for _, m := range matrix {
		s := at(m.Metric)
		for _, f := range m.Floats {
			s.samples = append(s.samples, sample{t: f.T, f: f.F})
		}
		for _, h := range m.Histograms {
			s.samples = append(s.samples, sample{t: h.T, h: h.H})
		}
	}
	for _, w := range q.parts.writes.selected(ms) {
		s := at(w.labels)
		s.samples = slices.DeleteFunc(s.samples, func(x sample) bool {
			_, found := slices.BinarySearchFunc(w.samples, x.t, func(y sample, t int64) int { return cmp.Compare(y.t, t) })
			return found
		})
		s.samples = append(s.samples, w.samples...)
	}
	return newSet(found, mint, maxt)
}

func (q *querier) part(number string) storage.SeriesSet {
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(q.parts.results) {
		return storage.ErrSeriesSet(fmt.Errorf("no part %q of the expression", number))
	}
	found := map[string]*series{}
	t := q.parts.at.UnixMilli()
	for _, s := range q.parts.results[i] {
		found[s.Metric.String()] = &series{labels: s.Metric, samples: []sample{{t: t, f: s.F, h: s.H}}}
	}
	return newSet(found, t, t)
}

type series struct {
	labels  labels.Labels
	samples []sample
}

// newSet returns the samples within both times, sorted.
func newSet(found map[string]*series, mint, maxt int64) storage.SeriesSet {
	list := make([]storage.Series, 0, len(found))
	for _, s := range found {
		slices.SortFunc(s.samples, func(a, b sample) int { return int(a.t - b.t) })
		var in []chunks.Sample
		for _, x := range s.samples {
			if x.t >= mint && x.t <= maxt {
				in = append(in, point(x))
			}
		}
		if len(in) > 0 {
			list = append(list, storage.NewListSeries(s.labels, in))
		}
	}
	slices.SortFunc(list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return &set{list: list, i: -1}
}

type set struct {
	list []storage.Series
	i    int
}

func (s *set) Next() bool                      { s.i++; return s.i < len(s.list) }
func (s *set) At() storage.Series              { return s.list[s.i] }
func (*set) Err() error                        { return nil }
func (*set) Warnings() annotations.Annotations { return nil }

// point is a sample as upstream wants it.
type point sample

func (p point) T() int64                      { return p.t }
func (p point) F() float64                    { return p.f }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return p.h }

func (p point) Type() chunkenc.ValueType {
	if p.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (p point) Copy() chunks.Sample {
	if p.h != nil {
		p.h = p.h.Copy()
	}
	return p
}
