package rulefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// The keys there are.
var (
	fileKeys     = []string{"groups"}
	groupKeys    = []string{"name", "interval", "query_offset", "limit", "labels", "rules", "partial_response_strategy", "coverage"}
	ruleKeys     = []string{"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
	coverageKeys = []string{"require"}
)

// extra is what a group says that Prometheus does not know.
type extra struct {
	strategy Strategy
	require  [][]*labels.Matcher
	name     string
	lines    []int // of its rules
}

// readExtras walks the document for unknown keys and for what is ours. Wrong types of what Prometheus
// knows are left for its own parser to report.
func readExtras(content []byte) ([]extra, []error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(content))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, []error{err}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	// What is behind the first document would be overlooked.
	if err := dec.Decode(&second); err == nil {
		return nil, []error{fmt.Errorf("%d:%d: more than one YAML document", second.Line, second.Column)}
	} else if !errors.Is(err, io.EOF) {
		return nil, []error{err}
	}
	w := &walker{}
	top := w.mapping(doc.Content[0], "the file", fileKeys)
	groups := resolve(top["groups"])
	if groups == nil || groups.Kind != yaml.SequenceNode {
		return nil, w.errs
	}
	var out []extra
	seen := map[string]int{}
	for _, n := range groups.Content {
		g := w.mapping(n, "a group", groupKeys)
		e := w.extra(g)
		if name := resolve(g["name"]); name != nil && name.Kind == yaml.ScalarNode {
			e.name = name.Value
			if line, ok := seen[e.name]; ok {
				w.fail(n, "group %q is there already, in line %d", e.name, line)
			}
			seen[e.name] = n.Line
		}
		rules := resolve(g["rules"])
		if rules != nil && rules.Kind == yaml.SequenceNode {
			for _, r := range rules.Content {
				w.mapping(r, "a rule", ruleKeys)
				e.lines = append(e.lines, r.Line)
			}
		}
		out = append(out, e)
	}
	return out, w.errs
}

type walker struct{ errs []error }

func (w *walker) fail(n *yaml.Node, format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("%d:%d: %w", n.Line, n.Column, fmt.Errorf(format, args...)))
}

func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// mapping returns the values of a mapping by key; anything else has none.
func (w *walker) mapping(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	n = resolve(n)
	out := map[string]*yaml.Node{}
	if n == nil || n.Kind != yaml.MappingNode {
		return out
	}
	w.collect(n, what, known, out)
	return out
}

func (w *walker) collect(n *yaml.Node, what string, known []string, out map[string]*yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			if merged := resolve(value); merged.Kind == yaml.MappingNode {
				w.collect(merged, what, known, out)
			}
			continue
		}
		if !slices.Contains(known, key.Value) {
			w.fail(key, "%s has no field %q", what, key.Value)
			continue
		}
		out[key.Value] = value
	}
}

func (w *walker) extra(g map[string]*yaml.Node) extra {
	e := extra{strategy: Abort}
	strategy, coverage := resolve(g["partial_response_strategy"]), resolve(g["coverage"])
	if strategy != nil {
		switch s := Strategy(strings.ToUpper(strategy.Value)); {
		case strategy.Kind == yaml.ScalarNode && (s == Abort || s == Warn):
			e.strategy = s
		case strategy.Kind == yaml.ScalarNode && s == "":
		default:
			w.fail(strategy, "partial_response_strategy: %q is neither WARN nor ABORT", strategy.Value)
		}
	}
	if coverage == nil {
		return e
	}
	var err error
	if e.require, err = w.require(coverage); err != nil {
		w.fail(coverage, "coverage: %w", err)
	}
	if strategy != nil && e.strategy == Abort {
		w.fail(coverage, "coverage: contradicts partial_response_strategy ABORT, which wants everything")
	}
	e.strategy = Warn
	return e
}

func (w *walker) require(coverage *yaml.Node) ([][]*labels.Matcher, error) {
	if coverage.Kind != yaml.MappingNode {
		return nil, errors.New("is no mapping")
	}
	list := resolve(w.mapping(coverage, "coverage", coverageKeys)["require"])
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		return nil, errors.New("needs a list of selectors under require")
	}
	var out [][]*labels.Matcher
	for _, n := range list.Content {
		ms, err := parser.ParseMetricSelector(n.Value)
		if err != nil {
			return nil, fmt.Errorf("require: %q: %w", n.Value, err)
		}
		out = append(out, ms)
	}
	return out, nil
}
