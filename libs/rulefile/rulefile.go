// Package rulefile reads files of rule groups: Prometheus' format with what a global view adds to a
// group.
//
//	groups:
//	  - name: availability
//	    partial_response_strategy: WARN   # or ABORT, which is the default
//	    coverage:                         # in place of the strategy
//	      require: ['{cluster="eu1"}']
//	    rules: …
//
// A Set is everything that was read at one time. It is complete and valid or it is an error, so that
// a reload that goes wrong leaves the rules as they are.
package rulefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// Strategy is what an answer from which something is missing means to a group.
type Strategy string

const (
	// Abort fails the evaluation.
	Abort Strategy = "ABORT"
	// Warn evaluates what there is.
	Warn Strategy = "WARN"
)

// Strategies are all there are, in the order in which they are listed.
func Strategies() []Strategy { return []Strategy{Abort, Warn} }

// Group is a rule group with what Prometheus does not know.
type Group struct {
	rulefmt.RuleGroup
	File     string
	Strategy Strategy
	// Require are selectors: the group is evaluated on an incomplete answer only if everything that
	// matches one of these was there. Empty leaves it to the strategy.
	Require [][]*labels.Matcher
	// Lines are where its rules begin in the file.
	Lines []int
}

// Set is the groups of all files, sorted by file, each file's in its own order. It is not changed
// after it was read.
type Set struct {
	Groups []Group
	files  []string
}

// Files returns the files that have groups of a strategy.
func (s *Set) Files(strategy Strategy) []string {
	var out []string
	for _, f := range s.files {
		if slices.ContainsFunc(s.Groups, func(g Group) bool { return g.File == f && g.Strategy == strategy }) {
			out = append(out, f)
		}
	}
	return out
}

// Loader gives a rule manager the groups of one strategy, or with an empty one all of them. It implements
// rules.GroupLoader.
func (s *Set) Loader(strategy Strategy) Loader { return Loader{set: s, strategy: strategy} }

// AllFiles returns all files that were read, sorted.
func (s *Set) AllFiles() []string { return slices.Clone(s.files) }

// Group returns the group of that file and name, nil where there is none.
func (s *Set) Group(file, name string) *Group {
	for i := range s.Groups {
		if g := &s.Groups[i]; g.File == file && g.Name == name {
			return g
		}
	}
	return nil
}

// Loader is the groups of one strategy, or of all.
type Loader struct {
	set      *Set
	strategy Strategy
}

// Load returns the groups of a file.
func (l Loader) Load(file string, _ bool, _ model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	out := &rulefmt.RuleGroups{}
	for _, g := range l.set.Groups {
		if g.File == file && (l.strategy == "" || g.Strategy == l.strategy) {
			out.Groups = append(out.Groups, g.RuleGroup)
		}
	}
	return out, nil
}

// Parse parses an expression.
func (l Loader) Parse(query string) (parser.Expr, error) { return parser.ParseExpr(query) }

// Read reads the files that the patterns match. A pattern that matches nothing is no error: rules may
// come later. All problems are reported at once, each with file and line.
func Read(patterns []string) (*Set, error) {
	files, err := expand(patterns)
	if err != nil {
		return nil, err
	}
	set := &Set{files: files}
	var errs []error
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("read rules: %w", err))
			continue
		}
		groups, err := Parse(f, content)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		set.Groups = append(set.Groups, groups...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return set, nil
}

// Problems returns the single problems of an error of Parse or Read, each with its file.
func Problems(err error) []error {
	if err == nil {
		return nil
	}
	// One that is wrapped would lose what is around it.
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, Problems(e)...)
	}
	return out
}

// expand returns the files behind the patterns, sorted, each once. A folder stands for nothing, as
// the default "rules/" does where nobody made rules.
func expand(patterns []string) ([]string, error) {
	seen := map[string]struct{}{}
	for _, p := range patterns {
		matches, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("pattern of rule files %q: %w", p, err)
		}
		for _, m := range matches {
			if info, err := os.Stat(m); err == nil && info.IsDir() {
				continue
			}
			seen[m] = struct{}{}
		}
	}
	files := make([]string, 0, len(seen))
	for f := range seen {
		files = append(files, f)
	}
	slices.Sort(files)
	return files, nil
}

// Parse reads the groups of one file; file is what errors call it.
func Parse(file string, content []byte) (groups []Group, err error) {
	defer func() {
		// The YAML parser is known to panic on some malformed documents; here these are bad input like any other.
		if p := recover(); p != nil {
			groups, err = nil, fmt.Errorf("%s: malformed YAML: %v", file, p)
		}
	}()
	extras, errs := readExtras(content)
	if len(errs) == 0 {
		var parsed *rulefmt.RuleGroups
		// Unknown keys have been looked for already: upstream's own search would find ours.
		parsed, errs = rulefmt.Parse(content, true, model.UTF8Validation)
		if len(errs) == 0 && len(parsed.Groups) != len(extras) {
			errs = []error{errors.New("groups cannot be read")}
		}
		if len(errs) == 0 {
			for i, g := range parsed.Groups {
				groups = append(groups, Group{RuleGroup: g, File: file, Strategy: extras[i].strategy, Require: extras[i].require, Lines: extras[i].lines})
			}
			return groups, nil
		}
	}
	for i, e := range errs {
		errs[i] = located(file, e, extras)
	}
	return nil, errors.Join(errs...)
}

// located puts the file before an error, and the line right behind it where the error has one.
func located(file string, err error, extras []extra) error {
	var semantic *rulefmt.Error
	if errors.As(err, &semantic) && strings.HasPrefix(err.Error(), "group ") {
		for _, e := range extras {
			if n := semantic.Rule - 1; e.name == semantic.Group && n >= 0 && n < len(e.lines) {
				return fmt.Errorf("%s:%d: %w", file, e.lines[n], err)
			}
		}
	}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "unmarshal errors:\n  "); ok {
		text = strings.ReplaceAll(rest, "\n  ", "\n"+file+": ")
		text = strings.ReplaceAll(text, file+": line ", file+":")
	}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		return fmt.Errorf("%s:%s", file, rest)
	}
	if text != "" && text[0] >= '0' && text[0] <= '9' {
		return fmt.Errorf("%s:%s", file, text)
	}
	return fmt.Errorf("%s: %s", file, text)
}
