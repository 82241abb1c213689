package ownwrites_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/ownwrites"
)

// TestExpressionsSeeWhatWasJustRecorded compares with an engine over a database that has all of it. What queriers know
// lacks the samples of this evaluation.
func TestExpressionsSeeWhatWasJustRecorded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 500e6)
	external := labels.FromStrings("cluster", "eu1")
	all, known := teststorage.New(t), teststorage.New(t)
	writes := ownwrites.New(external)
	add := func(at time.Time, v float64, recorded bool, name string, ls ...string) {
		own := labels.FromStrings(append([]string{"__name__", name}, ls...)...)
		b := labels.NewBuilder(own)
		b.Set("cluster", "eu1")
		for _, s := range []storage.Appendable{all, known} {
			if recorded && s == storage.Appendable(known) {
				continue
			}
			app := s.Appender(t.Context())
			_, err := app.Append(0, b.Labels(), at.UnixMilli(), v)
			require.NoError(t, err)
			require.NoError(t, app.Commit())
		}
		if recorded {
			app := writes.Record(teststorage.New(t).Appender(t.Context()))
			_, err := app.Append(0, own, at.UnixMilli(), v)
			require.NoError(t, err)
			require.NoError(t, app.Commit())
		}
	}
	for i := range 10 {
		at := now.Add(time.Duration(i-10) * 15 * time.Second)
		for j, job := range []string{"a", "b", "c"} {
			add(at, float64(i*(j+1)), false, "raw", "job", job)
			add(at, float64(10*i*(j+1)), false, "job:raw", "job", job)
		}
	}
	add(now, 1000, true, "job:raw", "job", "a")
	add(now, 2000, true, "job:raw", "job", "b")
	add(now, math.Float64frombits(value.StaleNaN), true, "job:raw", "job", "c")
	add(now, 7, true, "job:raw", "job", "new")

	opts := promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return 60_000 },
	}
	reference := promql.NewEngine(opts)
	eval := func(s storage.Queryable, text string, at time.Time) parser.Value {
		q, err := reference.NewInstantQuery(t.Context(), s, nil, text, at)
		require.NoError(t, err, text)
		defer q.Close()
		r := q.Exec(t.Context())
		require.NoError(t, r.Err, text)
		return r.Value
	}
	engine := ownwrites.NewEngine(time.Minute)
	for _, text := range []string{
		`job:raw`, `sum(job:raw)`, `job:raw / on (job) group_left () raw`, `sum by (job) (rate(job:raw[1m]))`, `max_over_time(job:raw[2m:15s])`,
		`topk(scalar(count(raw) - 1), job:raw)`, `job:raw offset 15s`, `job:raw unless on (job) (raw > 15)`, `-job:raw + 1`,
		`absent(job:raw{job="c"})`, `{__name__=~"job:.*", job!="b"}`, `label_replace(job:raw, "x", "$1", "job", "(.*)")`,
		`quantile(0.5, job:raw) + scalar(sum(raw))`, `count_values("v", job:raw)`, `job:raw > bool on (job) (sum by (job) (raw))`,
		`clamp(job:raw, 5, 1500)`, `(sum(raw) + on () sum(job:raw)) / 2`,
	} {
		expr, err := parser.ParseExpr(text)
		require.NoError(t, err, text)
		require.True(t, writes.Reads(expr), text)
		var asked []string
		got, err := engine.Eval(t.Context(), expr, now, writes, func(_ context.Context, part string, at time.Time) (parser.Value, error) {
			asked = append(asked, part)
			return eval(known, part, at), nil
		})
		require.NoError(t, err, text)
		require.ElementsMatch(t, eval(all, text, now), got, "%s, asked %v", text, asked)
	}
	expr, err := parser.ParseExpr(`sum(raw) / count(other)`)
	require.NoError(t, err)
	require.False(t, writes.Reads(expr))
}
