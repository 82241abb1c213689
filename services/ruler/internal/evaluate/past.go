package evaluate

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/services/ruler/internal/memory"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

// Past reads since when alerts have been active.
type Past struct {
	// Local is the own database; nil where there is none.
	Local storage.Queryable
	Query *query.Client
	// Ignored are labels that series have and alerts do not: external ones, and what else queriers see.
	Ignored []string
}

// Series returns the newest sample of each series that matches: of the own database, or of what queriers
// know if that has none.
func (p Past) Series(ctx context.Context, ms []*labels.Matcher, from, to time.Time) ([]memory.State, error) {
	if p.Local != nil {
		if states, err := p.local(ctx, ms, from, to); err != nil || len(states) > 0 {
			return states, err
		}
	}
	end := time.Unix(to.Unix()+1, 0)
	text := fmt.Sprintf("%s[%dms]", promclient.Selector(ms...), end.Sub(from).Milliseconds())
	result, err := p.Query.Query(ctx, text, end, true)
	if err != nil {
		return nil, fmt.Errorf("read the past of alerts: %w", err)
	}
	matrix, ok := result.Value.(promql.Matrix)
	if !ok {
		return nil, fmt.Errorf("read the past of alerts: answer of %s is a %s, want a matrix", result.From, result.Value.Type())
	}
	var out []memory.State
	for _, s := range matrix {
		if n := len(s.Floats); n > 0 {
			out = p.add(out, s.Metric, s.Floats[n-1].T, s.Floats[n-1].F)
		}
	}
	return out, nil
}

func (p Past) local(ctx context.Context, ms []*labels.Matcher, from, to time.Time) ([]memory.State, error) {
	q, err := p.Local.Querier(from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("read the past of alerts: %w", err)
	}
	defer q.Close()
	var out []memory.State
	set := q.Select(ctx, false, nil, ms...)
	for set.Next() {
		it := set.At().Iterator(nil)
		t, v := int64(0), math.NaN()
		for it.Next() == chunkenc.ValFloat {
			t, v = it.At()
		}
		if err := it.Err(); err != nil {
			return nil, fmt.Errorf("read the past of alerts: %w", err)
		}
		out = p.add(out, set.At().Labels(), t, v)
	}
	return out, set.Err()
}

// add appends a state; a sample that marks the end of a series is none.
func (p Past) add(out []memory.State, lset labels.Labels, t int64, v float64) []memory.State {
	if value.IsStaleNaN(v) || math.IsNaN(v) {
		return out
	}
	b := labels.NewBuilder(lset)
	b.Del(labels.MetricName)
	b.Del(p.Ignored...)
	return append(out, memory.State{Labels: b.Labels(), Seen: time.UnixMilli(t), ActiveAt: time.Unix(int64(v), 0)})
}
