// Package check holds the commands that look at files before a running service does.
package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// document is a rule file: Prometheus' format and what a ruler over a global view adds to a group.
type document struct {
	Groups []group `yaml:"groups"`
}

type group struct {
	rulefmt.RuleGroup `yaml:",inline"`

	Strategy yaml.Node `yaml:"partial_response_strategy"`
	Coverage *coverage `yaml:"coverage"`
}

type coverage struct {
	Require []string `yaml:"require"`
}

// counts is what a good rule file holds.
type counts struct{ groups, rules int }

// expand returns the files behind the patterns, each once, in the order of the patterns. A pattern without a file is an
// error: a check that looked at nothing must not pass.
func expand(patterns []string) ([]string, error) {
	var files []string
	var errs []error
	for _, p := range patterns {
		matches, err := filepath.Glob(p)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("--rules: %q: %w", p, err))
		case len(matches) == 0:
			errs = append(errs, fmt.Errorf("--rules: no file matches %q", p))
		}
		for _, m := range matches {
			if !slices.Contains(files, m) {
				files = append(files, m)
			}
		}
	}
	return files, errors.Join(errs...)
}

func checkFile(file string) (counts, []error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return counts{}, []error{err}
	}
	return checkRules(file, content)
}

// checkRules reads one rule file strictly. Errors begin with file and, where it is known, line.
func checkRules(file string, content []byte) (c counts, errs []error) {
	defer func() {
		// The YAML parser is known to panic on some malformed documents; here these are bad input like any other.
		if p := recover(); p != nil {
			errs = []error{fmt.Errorf("%s: malformed YAML: %v", file, p)}
		}
	}()
	var doc document
	if err := flags.DecodeYAML(file, content, &doc); err != nil {
		return c, []error{err}
	}
	for _, g := range doc.Groups {
		c.groups++
		c.rules += len(g.Rules)
		errs = append(errs, g.check(file)...)
	}
	// Unknown keys were refused above, where ours are known.
	_, problems := rulefmt.Parse(content, true, model.UTF8Validation)
	for _, p := range problems {
		errs = append(errs, located(file, p))
	}
	return c, errs
}

func (g *group) check(file string) []error {
	var errs []error
	strategy := strings.ToUpper(g.Strategy.Value)
	if !g.Strategy.IsZero() && (g.Strategy.Kind != yaml.ScalarNode || !slices.Contains([]string{"", "WARN", "ABORT"}, strategy)) {
		errs = append(errs, fmt.Errorf("%s:%d: group %q: partial_response_strategy: %q is neither WARN nor ABORT", file, g.Strategy.Line, g.Name, g.Strategy.Value))
	}
	if g.Coverage == nil {
		return errs
	}
	if len(g.Coverage.Require) == 0 {
		errs = append(errs, fmt.Errorf("%s: group %q: coverage: needs a list of selectors under require", file, g.Name))
	}
	if strategy == "ABORT" {
		errs = append(errs, fmt.Errorf("%s: group %q: coverage: contradicts partial_response_strategy ABORT, which wants everything", file, g.Name))
	}
	for _, selector := range g.Coverage.Require {
		if _, err := parser.ParseMetricSelector(selector); err != nil {
			errs = append(errs, fmt.Errorf("%s: group %q: coverage: require: %q: %w", file, g.Name, selector, err))
		}
	}
	return errs
}

var beginsWithLine = regexp.MustCompile(`^\d+:\d+: `)

// located puts the file before an error, and the line right behind it where the error has one.
func located(file string, err error) error {
	// Of groups the parser does not know the line, and says zero.
	if text, ok := strings.CutPrefix(err.Error(), "0:0: "); ok {
		return fmt.Errorf("%s: %s", file, text)
	}
	if beginsWithLine.MatchString(err.Error()) {
		return fmt.Errorf("%s:%w", file, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}
