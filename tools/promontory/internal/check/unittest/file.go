// Package unittest runs unit tests of rules, written in the format that promtool reads.
//
// A test is a small world of its own: a database in a temporary folder, samples that come in as the test's clock goes
// on, and the rule groups evaluated by upstream's rule manager at each tick. What alerts and expressions give at the
// times that the test names is compared with what it expects.
//
// Format: Prometheus, docs/configuration/unit_testing_rules.md.
package unittest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// document is a file of tests.
type document struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	GroupEvalOrder     []string       `yaml:"group_eval_order"`
	FuzzyCompare       bool           `yaml:"fuzzy_compare"`
	Tests              []testCase     `yaml:"tests"`
}

type testCase struct {
	Name           string            `yaml:"name"`
	Interval       model.Duration    `yaml:"interval"`
	Input          []inputSeries     `yaml:"input_series"`
	Alerts         []alertTest       `yaml:"alert_rule_test"`
	Expressions    []expressionTest  `yaml:"promql_expr_test"`
	ExternalLabels map[string]string `yaml:"external_labels"`
	ExternalURL    string            `yaml:"external_url"`
	Start          string            `yaml:"start_timestamp"`
}

type inputSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type alertTest struct {
	At       model.Duration  `yaml:"eval_time"`
	Name     string          `yaml:"alertname"`
	Expected []expectedAlert `yaml:"exp_alerts"`
}

type expectedAlert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

type expressionTest struct {
	Expr     string           `yaml:"expr"`
	At       model.Duration   `yaml:"eval_time"`
	Expected []expectedSample `yaml:"exp_samples"`
}

type expectedSample struct {
	Labels    string  `yaml:"labels"`
	Value     float64 `yaml:"value"`
	Histogram string  `yaml:"histogram"`
}

// read reads a file of tests, with the rule files it names as paths from here.
func read(file string) (*document, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(file, content)
}

func parse(file string, content []byte) (*document, error) {
	var doc document
	if err := strictyaml.Decode(file, content, &doc); err != nil {
		return nil, err
	}
	if doc.EvaluationInterval == 0 {
		doc.EvaluationInterval = model.Duration(time.Minute)
	}
	seen := map[string]bool{}
	var errs []error
	for _, g := range doc.GroupEvalOrder {
		if seen[g] {
			errs = append(errs, fmt.Errorf("%s: group_eval_order: %q is there twice", file, g))
		}
		seen[g] = true
	}
	for i, p := range doc.RuleFiles {
		if !filepath.IsAbs(p) {
			doc.RuleFiles[i] = filepath.Join(filepath.Dir(file), p)
		}
	}
	for i := range doc.Tests {
		t := &doc.Tests[i]
		if t.Name == "" {
			t.Name = fmt.Sprintf("test %d", i+1)
		}
		if t.Interval == 0 {
			t.Interval = doc.EvaluationInterval
		}
		for _, a := range t.Alerts {
			if a.Name == "" {
				errs = append(errs, fmt.Errorf("%s: %s: alert_rule_test at %s has no alertname", file, t.Name, a.At))
			}
		}
	}
	return &doc, errors.Join(errs...)
}

// start is the time at which a test begins.
func (t *testCase) start() (time.Time, error) {
	if t.Start == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	if seconds, err := strconv.ParseFloat(t.Start, 64); err == nil {
		return time.UnixMilli(int64(seconds * 1000)).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, t.Start)
	if err != nil {
		return time.Time{}, fmt.Errorf("start_timestamp: %q is neither Unix seconds nor a time as 2026-01-02T15:04:05Z", t.Start)
	}
	return at.UTC(), nil
}

// end is the time of the last thing the test looks at, after its start.
func (t *testCase) end() time.Duration {
	end := time.Duration(0)
	for _, a := range t.Alerts {
		end = max(end, time.Duration(a.At))
	}
	for _, e := range t.Expressions {
		end = max(end, time.Duration(e.At))
	}
	return end
}
