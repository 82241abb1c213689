package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/promql"
	thanosengine "github.com/thanos-io/promql-engine/engine"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// ErrNoTree is returned for queries of an engine that has no operator tree.
var ErrNoTree = errors.New("only the thanos engine explains and analyzes queries")

// Explain returns the operator tree of a query that was prepared, run or not.
func Explain(q promql.Query) (*promtypes.Explanation, error) {
	x, ok := tree(q).(thanosengine.ExplainableQuery)
	if !ok {
		return nil, ErrNoTree
	}
	out := explanation(x.Explain())
	return &out, nil
}

func explanation(n *thanosengine.ExplainOutputNode) promtypes.Explanation {
	if n == nil {
		return promtypes.Explanation{}
	}
	out := promtypes.Explanation{Name: n.OperatorName}
	for i := range n.Children {
		out.Children = append(out.Children, explanation(&n.Children[i]))
	}
	return out
}

// Analyze returns the operators of a query that has run with what each cost. What stores contributed to the
// given selects of the query is shown where the series of a selector come in: at the operator that reads
// ahead of the selector, else at the selector.
func Analyze(q promql.Query, costs []selects.SelectStats) (*promtypes.Analysis, error) {
	x, ok := tree(q).(thanosengine.ExplainableQuery)
	if !ok {
		return nil, ErrNoTree
	}
	out := analysis(x.Analyze(), costs)
	return &out, nil
}

func analysis(n *thanosengine.AnalyzeOutputNode, costs []selects.SelectStats) promtypes.Analysis {
	if n == nil {
		return promtypes.Analysis{}
	}
	out := promtypes.Analysis{
		Name:          n.OperatorTelemetry.String(),
		ExecutionTime: n.OperatorTelemetry.ExecutionTimeTaken().String(),
		PeakSamples:   n.PeakSamples(),
		TotalSamples:  n.TotalSamples(),
	}
	if len(n.Children) == 0 {
		out.Fanout = fanout(out.Name, costs)
	}
	for _, c := range n.Children {
		child := analysis(c, costs)
		if strings.HasPrefix(out.Name, "[concurrent(") && len(child.Children) == 0 {
			out.Fanout, child.Fanout = child.Fanout, nil
		}
		out.Children = append(out.Children, child)
	}
	return out
}

// fanout returns what stores contributed to the select behind the operator of that name.
//
// An operator does not tell which select is its own; what there is to go by is the matchers, with which its name
// begins. They are followed by others where one select serves several operators that filter.
func fanout(operator string, costs []selects.SelectStats) []promtypes.FanoutResult {
	var out []promtypes.FanoutResult
	longest := 0
	for _, c := range costs {
		matchers := "{" + strings.TrimSuffix(fmt.Sprint(c.Matchers), "]")
		_, after, found := strings.Cut(operator, matchers)
		if !found || after == "" || after[0] != ']' && after[0] != ' ' || len(matchers) < longest {
			continue
		}
		longest = len(matchers)
		out = make([]promtypes.FanoutResult, 0, len(c.Stores))
		for _, s := range c.Stores {
			out = append(out, promtypes.FanoutResult{
				EndpointAddr: s.Addr, Duration: s.Elapsed.String(), BytesProcessed: s.Bytes,
				NumResponses: s.Frames, Series: s.Series, Chunks: s.Chunks, Samples: s.Samples,
			})
		}
	}
	return out
}
