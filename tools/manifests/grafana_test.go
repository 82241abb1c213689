package manifests

import (
	"bufio"
	"context"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/promontory-io/promontory/tools/manifests/internal/dashboards"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func pages(t testing.TB) []dashboards.Dashboard {
	t.Helper()
	f, err := os.Open(root(t, "deploy", "grafana", "dashboards.yaml"))
	require.NoError(t, err)
	defer f.Close()
	all, err := dashboards.Read(f)
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

func TestDashboardsAreThoseOfTheirSource(t *testing.T) {
	t.Parallel()
	dir := root(t, "deploy", "components", "grafana", "dashboards")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := pages(t)
	require.Len(t, files, len(all), "files and pages: run make dashboards")
	provisioned, err := os.ReadFile(filepath.Join(dir, "..", "kustomization.yaml"))
	require.NoError(t, err)
	for _, d := range all {
		want, err := d.JSON()
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, d.UID+".json"))
		require.NoError(t, err, "run make dashboards")
		require.Equal(t, string(want), string(got), "run make dashboards")
		require.Contains(t, string(provisioned), "dashboards/"+d.UID+".json", "the page is not provisioned")
	}
}

// expr is an expression, where it stands, and the service whose dashboard or group of rules it belongs to.
type expr struct{ where, service, text string }

// ruleExprs are the expressions of the alerts and recording rules, where being the name of the rule.
func ruleExprs(t testing.TB) []expr {
	t.Helper()
	text, err := os.ReadFile(root(t, "deploy", "base", "ruler", "rules", "promontory.yaml"))
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct{ Alert, Record, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	var out []expr
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			out = append(out, expr{where: r.Alert + r.Record, service: strings.TrimPrefix(g.Name, "promontory-"), text: r.Expr})
		}
	}
	require.NotEmpty(t, out)
	return out
}

// allExprs are all expressions of dashboards and rules.
func allExprs(t testing.TB) []expr {
	t.Helper()
	out := ruleExprs(t)
	for _, d := range pages(t) {
		for _, text := range d.Exprs(`namespace=~".*",job=~".*"`, "5m") {
			out = append(out, expr{where: d.UID + ": " + text, service: strings.TrimPrefix(d.UID, "promontory-"), text: text})
		}
	}
	return out
}

// metricNames are the names that an expression selects.
func metricNames(t testing.TB, e expr) []string {
	t.Helper()
	tree, err := parser.ParseExpr(e.text)
	require.NoError(t, err, e.where)
	var names []string
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			for _, m := range v.LabelMatchers {
				if m.Name == labels.MetricName {
					names = append(names, m.Value)
				}
			}
		}
		return nil
	})
	return names
}

// exported are the names of the series that processes with these HTTP addresses export now.
func exported(ctx context.Context, t testing.TB, addrs []string) map[string]bool {
	t.Helper()
	names := map[string]bool{"up": true}
	for _, addr := range addrs {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			// "# TYPE name kind" names also what has no series yet.
			fields := strings.Fields(lines.Text())
			if len(fields) == 4 && fields[1] == "TYPE" {
				addFamily(names, fields[2], fields[3])
			}
		}
		require.NoError(t, lines.Err())
		require.NoError(t, resp.Body.Close())
	}
	return names
}

func addFamily(names map[string]bool, name, kind string) {
	names[name] = true
	if kind == "histogram" || kind == "summary" {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			names[name+suffix] = true
		}
	}
}

// onceUsed are families that a process shows only once it has had something to count.
func onceUsed(t testing.TB) map[string]bool {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "once-used.tsv"))
	require.NoError(t, err)
	defer f.Close()
	names := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, kind, ok := strings.Cut(lines.Text(), "\t")
		require.True(t, ok, "line %q: want a name, a tab and a kind", lines.Text())
		addFamily(names, name, kind)
	}
	require.NoError(t, lines.Err())
	return names
}

// knownMetrics are the names that processes with these addresses export, now or once they have something to count, and
// those of recording rules.
func knownMetrics(t *testing.T, addrs []string) map[string]bool {
	t.Helper()
	known := exported(t.Context(), t, addrs)
	for _, rule := range ruleExprs(t) {
		known[rule.where] = true
	}
	maps.Copy(known, onceUsed(t))
	return known
}

// requireAlertSettles waits until an alert's expression has no result: what has just started may not be ready at its first scrape, which
// an alert's `for` passes over.
func requireAlertSettles(t *testing.T, querier string, e expr) {
	t.Helper()
	require.Eventually(t, func() bool {
		a, err := query(t.Context(), querier, e.text)
		return err == nil && a.Status == "success" && len(a.Data.Result) == 0
	}, 40*time.Second, 250*time.Millisecond, "nothing is wrong, and yet the alert %s would fire", e.where)
}

// requireExprsAnswered runs every expression of dashboards and rules against a live stack: each answers, perhaps with
// nothing, and none that belongs to a service of the stack names what nobody exports. addrs are the processes' HTTP
// addresses; services are those of the stack, all where there are none. It returns how many expressions had an answer
// that is not empty, by service.
func requireExprsAnswered(t *testing.T, querier string, addrs []string, services ...string) map[string]int {
	t.Helper()
	known := knownMetrics(t, addrs)
	unknown := map[string]string{}
	answered := map[string]int{}
	for _, e := range allExprs(t) {
		a, err := query(t.Context(), querier, e.text)
		require.NoError(t, err, e.where)
		require.Equal(t, "success", a.Status, "%s: %s", e.where, a.Error)
		for _, warning := range a.Warnings {
			// Series of one scrape may be stored a moment apart: then the newest buckets of a histogram do not fit each other.
			require.True(t, strings.HasPrefix(warning, "PromQL info:"), "%s: %s", e.where, warning)
		}
		if len(a.Data.Result) > 0 {
			answered[e.service]++
			if strings.HasPrefix(e.where, "Promontory") {
				requireAlertSettles(t, querier, e)
			}
		}
		for _, name := range metricNames(t, e) {
			if !known[name] && (len(services) == 0 || slices.Contains(services, e.service)) {
				unknown[name] = e.where
			}
		}
	}
	require.Empty(t, slices.Sorted(maps.Keys(unknown)), "expressions name what no process exports")
	return answered
}
