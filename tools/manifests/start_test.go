package manifests

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/tools/manifests/internal/cluster"
	"github.com/promontory-io/promontory/tools/manifests/internal/render"
	"github.com/stretchr/testify/require"
)

// startTimeout is for a whole overlay, two dozen processes on a busy machine.
const startTimeout = 3 * time.Minute

// notHere are the images that no program of this machine can be had for, and why. Everything else is started.
var notHere = map[string]string{
	"grafana/grafana": "Grafana is published neither as a Go module nor as a Debian package; its provisioning and dashboards are tested by themselves",
}

// startable drops the workloads whose images are not here.
func startable(objects []render.Object) []render.Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o render.Object) bool {
		images := map[string]bool{}
		if o.Kind() == "Deployment" || o.Kind() == "StatefulSet" {
			collectImages(o, images)
		}
		for image := range images {
			if notHere[image] != "" {
				return true
			}
		}
		return false
	})
}

func TestEveryImageIsStartedButThoseThatCannotBeHad(t *testing.T) {
	t.Parallel()
	rendered := map[string]bool{}
	for name, components := range everything {
		for _, o := range ofKind(overlay(t, name, components...), "Deployment", "StatefulSet") {
			collectImages(o, rendered)
		}
	}
	here := programs(t)
	var missing []string
	for image := range rendered {
		if _, ok := here[image]; !ok {
			missing = append(missing, image)
		}
	}
	slices.Sort(missing)
	require.Equal(t, slices.Sorted(maps.Keys(notHere)), missing)
	record, err := os.ReadFile(root(t, "docs", "adr", "0017-deploy.md"))
	require.NoError(t, err)
	for image := range notHere {
		require.Contains(t, string(record), "`"+image+"`", "docs/adr/0017-deploy.md does not say so")
	}
}

// running is an overlay whose containers run on this machine.
type running struct {
	processes []cluster.Process
}

// start runs every container of an overlay with its own arguments and returns when all readiness probes have answered.
func start(t *testing.T, name string, components ...string) running {
	t.Helper()
	c, err := cluster.Read(startable(overlay(t, name, components...)))
	require.NoError(t, err)
	c.SetSecret("promontory-tls", certificate(t, "promontory"))
	return startCluster(t, c, programs(t))
}

// startCluster starts every container of c, run by the programs that stand for the images.
func startCluster(t *testing.T, c *cluster.Cluster, images map[string]cluster.Program) running {
	t.Helper()
	dir := t.TempDir()
	local, err := cluster.Place(c, dir)
	require.NoError(t, err)
	processes, err := local.Processes(images)
	require.NoError(t, err)
	require.NotEmpty(t, processes)
	initial, err := local.Initial()
	require.NoError(t, err)
	for _, command := range initial {
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
	}

	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	t.Cleanup(func() {
		if t.Failed() {
			logTails(t, group, processes)
		}
		require.NoError(t, group.Stop())
	})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	// What others wait for comes first; a cluster would start them again and again until it is there. Who pushes comes last,
	// and so ends first, while there is somebody to push to.
	waves := make([][]procs.Spec, 3)
	for _, p := range processes {
		p.StartTimeout = startTimeout
		wave := 1
		switch {
		case p.Image == "prom/prometheus" && !hasSidecar(processes, p.Pod):
			wave = 2
		case strings.HasPrefix(p.Image, "prom/") || p.Image == "memcached" || p.Image == "minio/minio":
			wave = 0
		}
		waves[wave] = append(waves[wave], p.Spec)
	}
	for _, specs := range waves {
		require.NoError(t, group.Start(ctx, specs...))
	}
	return running{processes: processes}
}

// hasSidecar tells whether a pod has a second container: then it does not push.
func hasSidecar(processes []cluster.Process, pod string) bool {
	var n int
	for _, p := range processes {
		if p.Pod == pod {
			n++
		}
	}
	return n > 1
}

func logTails(t *testing.T, group *procs.Group, processes []cluster.Process) {
	for _, p := range processes {
		process := group.Process(p.Name)
		if process == nil {
			continue
		}
		lines, err := process.Tail(15)
		if err != nil {
			continue
		}
		for _, line := range lines {
			t.Logf("%s | %.600s", p.Name, line)
		}
	}
}

// http is the address of the first container of that name.
func (r running) http(t *testing.T, container string) string {
	t.Helper()
	for _, p := range r.processes {
		if p.Container == container {
			return p.HTTP
		}
	}
	t.Fatalf("no container is named %s", container)
	return ""
}

// addrs are the HTTP addresses of all containers that have one.
func (r running) addrs() []string {
	var out []string
	for _, p := range r.processes {
		if p.HTTP != "" {
			out = append(out, p.HTTP)
		}
	}
	return out
}

// memcachedArgs says the address apart from the port, as this memcached wants it; it runs as root only when told so.
func memcachedArgs(args []string, addr string, _ map[string]string) []string {
	u, err := url.Parse("tcp://" + addr)
	if err != nil {
		return args
	}
	return append(args, "--listen="+u.Hostname(), "--port="+u.Port(), "--user=nobody")
}

// answer is what a query returns.
type answer struct {
	Status   string
	Error    string
	Warnings []string
	Data     struct {
		Result []struct {
			Metric map[string]string
			Value  []any
		}
	}
}

// query asks a Prometheus API at addr.
func query(ctx context.Context, addr, expr string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/query?query="+url.QueryEscape(expr), http.NoBody)
	if err != nil {
		return answer{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("answer of %s: %w", addr, err)
	}
	return a, nil
}

// requireSeries waits until expr has an answer at addr that ok likes.
func requireSeries(t *testing.T, addr, expr string, ok func(answer) bool) answer {
	t.Helper()
	var last answer
	var err error
	require.Eventually(t, func() bool {
		last, err = query(t.Context(), addr, expr)
		return err == nil && last.Status == "success" && ok(last)
	}, time.Minute, 200*time.Millisecond, "%s", expr)
	require.NoError(t, err)
	return last
}

func TestSidecarOverlayRunsAndAnswers(t *testing.T) {
	r := start(t, "sidecar")
	// Two Prometheus replicas, merged: every target once.
	a := requireSeries(t, r.http(t, "querier"), `count by (job) (up == 1)`, func(a answer) bool { return len(a.Data.Result) >= 7 })
	require.Empty(t, a.Warnings)
	up := requireSeries(t, r.http(t, "querier"), `up{job="prometheus"}`, func(a answer) bool { return len(a.Data.Result) == 2 })
	for _, series := range up.Data.Result {
		require.NotContains(t, series.Metric, "prometheus_replica")
		require.Equal(t, "default", series.Metric["cluster"])
	}
}

func TestReceiveOverlayRunsAndAnswers(t *testing.T) {
	r := start(t, "receive")
	up := requireSeries(t, r.http(t, "querier"), `up{job="prometheus"} == 1`, func(a answer) bool { return len(a.Data.Result) == 2 })
	for _, series := range up.Data.Result {
		require.NotContains(t, series.Metric, "receive_replica")
		require.NotContains(t, series.Metric, "prometheus_replica")
	}
}

func TestSidecarOverlayRunsWithEveryComponent(t *testing.T) {
	r := start(t, "sidecar", everything["sidecar"]...)
	a := requireSeries(t, r.http(t, "query-frontend"), `count by (job) (up == 1)`, func(a answer) bool { return len(a.Data.Result) >= 7 })
	require.Empty(t, a.Warnings)
}

func TestReceiveOverlayRunsWithEveryComponent(t *testing.T) {
	r := start(t, "receive", everything["receive"]...)
	requireSeries(t, r.http(t, "query-frontend"), `up{job="prometheus"} == 1`, func(a answer) bool { return len(a.Data.Result) == 2 })
}

func TestDevOverlayRuns(t *testing.T) {
	r := start(t, "dev")
	requireSeries(t, r.http(t, "querier"), `count by (job) (up == 1)`, func(a answer) bool { return len(a.Data.Result) >= 8 })
	requireExprsAnswered(t, r.http(t, "querier"), r.addrs())
	requireDocumentedMetrics(t, knownMetrics(t, r.addrs()))
	requireDocumentedCalls(t, r)
}
