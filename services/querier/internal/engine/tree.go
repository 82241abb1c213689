package engine

import (
	"errors"
	"time"

	"github.com/prometheus/prometheus/promql"
	thanosengine "github.com/thanos-io/promql-engine/engine"
)

// ErrNoTree is returned for queries of an engine that has no operator tree.
var ErrNoTree = errors.New("only the thanos engine explains and analyzes queries")

// Explanation is the tree of operators that a query is made of.
type Explanation struct {
	Name     string        `json:"name"`
	Children []Explanation `json:"children,omitempty"`
}

// Explain returns the operator tree of a query that was prepared, run or not.
func Explain(q promql.Query) (*Explanation, error) {
	x, ok := q.(thanosengine.ExplainableQuery)
	if !ok {
		return nil, ErrNoTree
	}
	out := explanation(x.Explain())
	return &out, nil
}

func explanation(n *thanosengine.ExplainOutputNode) Explanation {
	if n == nil {
		return Explanation{}
	}
	out := Explanation{Name: n.OperatorName}
	for i := range n.Children {
		out.Children = append(out.Children, explanation(&n.Children[i]))
	}
	return out
}

// Analysis is the tree of operators with what each cost.
type Analysis struct {
	Name          string        `json:"name"`
	ExecutionTime time.Duration `json:"-"`
	PeakSamples   int64         `json:"peakSamples"`
	TotalSamples  int64         `json:"totalSamples"`
	Children      []Analysis    `json:"children,omitempty"`
}

// Analyze returns what the operators of a query cost that has run.
func Analyze(q promql.Query) (*Analysis, error) {
	x, ok := q.(thanosengine.ExplainableQuery)
	if !ok {
		return nil, ErrNoTree
	}
	out := analysis(x.Analyze())
	return &out, nil
}

func analysis(n *thanosengine.AnalyzeOutputNode) Analysis {
	if n == nil {
		return Analysis{}
	}
	out := Analysis{
		Name:          n.OperatorTelemetry.String(),
		ExecutionTime: n.OperatorTelemetry.ExecutionTimeTaken(),
		PeakSamples:   n.PeakSamples(),
		TotalSamples:  n.TotalSamples(),
	}
	for _, c := range n.Children {
		out.Children = append(out.Children, analysis(c))
	}
	return out
}
