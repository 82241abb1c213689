package up

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/promontory-io/promontory/libs/promapi/promclient"

	"github.com/promontory-io/promontory/tools/promontory/internal/demo"
)

// example is a query that a fresh stack answers, shown to the user and asked by ourselves.
type example struct {
	about, promQL string
	// span is how far back a range query goes, and step its step; an instant query where span is zero.
	span, step time.Duration
	// history tells that the answer comes from history too.
	history bool
	// series are the labels that some series of the answer must have.
	series []model.Metric
}

// examples are for a stack of these members.
func examples(members []member) []example {
	return []example{
		{
			about:  "Who is up, now, each counted once although " + witnesses(members) + "?",
			promQL: `sum by (job) (up)`, series: jobs(members),
		},
		{about: "What do the databases take in?", promQL: `rate(prometheus_tsdb_head_samples_appended_total[5m])`},
		{about: "Which alerts fire? The ruler evaluates over this very view, Alertmanager has them too", promQL: `ALERTS{alertstate="firing"}`},
		{
			about: "Requests of the shop for two days, from blocks and live data", history: true,
			promQL: `sum by (job) (rate(http_requests_total{namespace="shop"}[5m]))`, span: 48 * time.Hour, step: 10 * time.Minute,
		},
		{
			about: "Their 99th percentile latency, from native histograms", history: true,
			promQL: `histogram_quantile(0.99, sum by (job) (rate(http_request_duration_seconds[5m])))`, span: 24 * time.Hour, step: 10 * time.Minute,
		},
	}
}

// jobs are the jobs that Prometheus scrapes, as labels.
func jobs(members []member) []model.Metric {
	names := map[string]bool{}
	for _, m := range members {
		names[m.job] = true
	}
	for _, t := range demo.Targets() {
		names[t.Job] = true
	}
	delete(names, "")
	var jobs []model.Metric
	for _, name := range slices.Sorted(maps.Keys(names)) {
		jobs = append(jobs, model.Metric{model.JobLabel: model.LabelValue(name)})
	}
	return jobs
}

// curl is the command line that asks the querier at base.
func (e example) curl(base string) string {
	if e.span == 0 {
		return fmt.Sprintf("curl -s %s/api/v1/query --data-urlencode 'query=%s'", base, e.promQL)
	}
	return fmt.Sprintf("curl -s %s/api/v1/query_range --data-urlencode 'query=%s' \\\n    -d start=$(date -d '-%d hours' +%%s) -d end=$(date +%%s) -d step=%d",
		base, e.promQL, int(e.span.Hours()), int(e.step.Seconds()))
}

func (l layout) querierURL() string { return "http://" + l.addr(0) }

// ask sends the query and returns the series that came back, those of an instant query with one point each. A warning
// of the answer is an error here: nothing may be missing.
func (e example) ask(ctx context.Context, querier *promclient.Client, now time.Time) (result promclient.Result, err error) {
	if e.span > 0 {
		result, err = querier.QueryRange(ctx, e.promQL, now.Add(-e.span), now, e.step, nil)
	} else {
		result, err = querier.Query(ctx, e.promQL, now, nil)
	}
	if err == nil && len(result.Warnings) > 0 {
		err = fmt.Errorf("the answer has warnings: %s", strings.Join(result.Warnings, "; "))
	}
	return result, err
}

// pointsOf returns how many points each series of an answer has.
func pointsOf(value model.Value) map[string]int {
	points := map[string]int{}
	switch value := value.(type) {
	case model.Vector:
		for _, s := range value {
			points[s.Metric.String()]++
		}
	case model.Matrix:
		for _, s := range value {
			points[s.Metric.String()] += len(s.Values) + len(s.Histograms)
		}
	}
	return points
}

// past is the time that the history in the bucket covers; the zero value is none.
type past struct{ from, until time.Time }

// points is how many points at least a series of the answer must have now. The shop has outages, and the edges have no
// rate yet: nearly all that history covers. What a stack that was stopped in between has missed nobody knows.
func (e example) points(history past, now time.Time) int {
	if e.span == 0 || !e.history {
		return 0
	}
	begin := now.Add(-e.span)
	if history.from.After(begin) {
		begin = history.from
	}
	return max(0, int(history.until.Sub(begin)/e.step)*9/10)
}

// verify tells what is wrong with an answer whose series shall have at least so many points; nil when it is as it
// should be.
func (e example) verify(points map[string]int, atLeast int) error {
	if len(points) == 0 {
		return errors.New("the answer is empty")
	}
	for _, want := range e.series {
		if _, there := points[want.String()]; !there {
			return fmt.Errorf("no series %s in the answer", want)
		}
	}
	for metric, n := range points {
		if strings.Contains(metric, "replica=") {
			return fmt.Errorf("the replicas are not merged: %s", metric)
		}
		if n < atLeast {
			return fmt.Errorf("%s has %d points, want at least %d", metric, n, atLeast)
		}
	}
	return nil
}

// checkInterval is how often a query is asked until its answer is right.
const checkInterval = 500 * time.Millisecond

// awaitAnswers asks the examples until each is answered as it should, and returns the first that is not until ctx ends.
func awaitAnswers(ctx context.Context, base string, members []member, history past, show func(e example, points map[string]int)) error {
	address, err := url.Parse(base)
	if err != nil {
		return err
	}
	querier := promclient.New(address, promclient.Options{})
	poll := time.NewTicker(checkInterval)
	defer poll.Stop()
	for _, e := range examples(members) {
		var wrong error
		for {
			now := time.Now()
			result, err := e.ask(ctx, querier, now)
			points := pointsOf(result.Value)
			if err == nil {
				err = e.verify(points, e.points(history, now))
			}
			if err == nil {
				show(e, points)
				break
			}
			// What the last whole answer lacked says more than that the next one was cut off.
			if ctx.Err() == nil || wrong == nil {
				wrong = err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("query %s: %w", e.promQL, wrong)
			case <-poll.C:
			}
		}
	}
	return nil
}
