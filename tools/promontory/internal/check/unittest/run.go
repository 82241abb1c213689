package unittest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/rulefile"
)

// Report is what came of a file of tests.
type Report struct {
	Tests, Failed int
	// Failures say what differs, test by test; each may have several lines.
	Failures []string
}

// Run runs the tests of a file. An error is one of reading it or the rules it names, with the culprit's file.
func Run(ctx context.Context, file string) (Report, error) {
	doc, err := read(file)
	if err != nil {
		return Report{}, err
	}
	set, err := rulefile.Read(doc.RuleFiles)
	if err != nil {
		return Report{}, err
	}
	var report Report
	for i := range doc.Tests {
		report.Tests++
		failures := runTest(ctx, doc, &doc.Tests[i], set)
		if len(failures) == 0 {
			continue
		}
		report.Failed++
		for _, f := range failures {
			report.Failures = append(report.Failures, doc.Tests[i].Name+": "+f)
		}
	}
	return report, nil
}

// runTest returns what differs.
func runTest(ctx context.Context, doc *document, t *testCase, set *rulefile.Set) (failures []string) {
	w, err := newWorld(doc, t, set)
	if err != nil {
		return []string{err.Error()}
	}
	defer func() {
		if err := w.close(); err != nil {
			failures = append(failures, err.Error())
		}
	}()
	every, end := time.Duration(doc.EvaluationInterval), t.end()
	pending := slices.Clone(t.Alerts)
	for at := time.Duration(0); at <= end; at += every {
		now := w.start.Add(at)
		if err := errors.Join(w.load(ctx, now), ctx.Err()); err != nil {
			return append(failures, err.Error())
		}
		if err := w.evaluate(ctx, now); err != nil {
			return append(failures, err.Error())
		}
		// What is asked about between two evaluations is what the former has left.
		pending = slices.DeleteFunc(pending, func(a alertTest) bool {
			if time.Duration(a.At) >= at+every {
				return false
			}
			if text := compareAlerts(a, w.firing(a.Name)); text != "" {
				failures = append(failures, text)
			}
			return true
		})
	}
	if err := w.load(ctx, w.start.Add(end)); err != nil {
		return append(failures, err.Error())
	}
	for _, e := range t.Expressions {
		if text := w.compareExpression(ctx, e, doc.FuzzyCompare); text != "" {
			failures = append(failures, text)
		}
	}
	return failures
}

type alert struct{ labels, annotations labels.Labels }

func (a alert) String() string {
	return fmt.Sprintf("labels %s, annotations %s", a.labels, a.annotations)
}

// compareAlerts returns what differs, empty for nothing.
func compareAlerts(t alertTest, have []alert) string {
	var got, want []string
	for _, a := range have {
		got = append(got, a.String())
	}
	for _, e := range t.Expected {
		b := labels.NewBuilder(labels.FromMap(e.Labels))
		b.Set(labels.AlertName, t.Name)
		want = append(want, alert{labels: b.Labels(), annotations: labels.FromMap(e.Annotations)}.String())
	}
	return difference(fmt.Sprintf("alert %s at %s", t.Name, t.At), want, got, slices.Equal)
}

// difference says what is wanted and not there, and the other way round. It sorts both lists.
func difference(what string, want, got []string, same func(want, got []string) bool) string {
	slices.Sort(want)
	slices.Sort(got)
	if same(want, got) {
		return ""
	}
	var b strings.Builder
	b.WriteString(what)
	list := func(name string, items []string) {
		fmt.Fprintf(&b, "\n  %s:", name)
		if len(items) == 0 {
			b.WriteString(" nothing")
		}
		for _, s := range items {
			b.WriteString("\n    " + s)
		}
	}
	list("want", want)
	list("got", got)
	return b.String()
}

type sample struct {
	labels    labels.Labels
	value     float64
	histogram *histogram.FloatHistogram
}

func (s sample) String() string {
	if s.histogram != nil {
		return s.labels.String() + " " + s.histogram.TestExpression()
	}
	return s.labels.String() + " " + strconv.FormatFloat(s.value, 'g', -1, 64)
}

func (w *world) compareExpression(ctx context.Context, e expressionTest, fuzzy bool) string {
	what := fmt.Sprintf("expression %s at %s", e.Expr, e.At)
	vector, err := w.query(ctx, e.Expr, w.start.Add(time.Duration(e.At)))
	if err != nil {
		return fmt.Sprintf("%s: %v", what, err)
	}
	var got, want []sample
	for _, s := range vector {
		got = append(got, sample{labels: s.Metric, value: s.F, histogram: s.H})
	}
	for _, s := range e.Expected {
		one, err := s.parse()
		if err != nil {
			return fmt.Sprintf("%s: %v", what, err)
		}
		want = append(want, one)
	}
	byLabels := func(a, b sample) int { return labels.Compare(a.labels, b.labels) }
	slices.SortFunc(got, byLabels)
	slices.SortFunc(want, byLabels)
	same := slices.EqualFunc(want, got, func(a, b sample) bool {
		switch {
		case !labels.Equal(a.labels, b.labels) || (a.histogram == nil) != (b.histogram == nil):
			return false
		case a.histogram != nil:
			return a.histogram.TestExpression() == b.histogram.TestExpression()
		}
		return equal(a.value, b.value, fuzzy)
	})
	return difference(what, texts(want), texts(got), func(_, _ []string) bool { return same })
}

func texts(samples []sample) (out []string) {
	for _, s := range samples {
		out = append(out, s.String())
	}
	return out
}

func (s expectedSample) parse() (sample, error) {
	out := sample{value: s.Value}
	var err error
	if out.labels, err = parser.ParseMetric(s.Labels); err != nil {
		return out, fmt.Errorf("exp_samples: labels %q: %w", s.Labels, err)
	}
	if s.Histogram == "" {
		return out, nil
	}
	_, values, err := parser.ParseSeriesDesc("{} " + s.Histogram)
	if err != nil {
		return out, fmt.Errorf("exp_samples: histogram %q: %w", s.Histogram, err)
	}
	if len(values) != 1 || values[0].Histogram == nil {
		return out, fmt.Errorf("exp_samples: histogram %q is not one histogram", s.Histogram)
	}
	out.histogram = values[0].Histogram
	return out, nil
}
