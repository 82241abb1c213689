package manifests

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"
)

// upPorts is how many ports in a row `promontory up` takes.
const upPorts = 32

// basePort finds so many free ports in a row.
func basePort(t *testing.T, binary string) int {
	t.Helper()
	var base int
	require.Eventually(t, func() bool {
		addrs, err := procs.FreeAddrs(1)
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(addrs[0])
		require.NoError(t, err)
		base, err = strconv.Atoi(port)
		require.NoError(t, err)
		var listen []procs.Address
		for i := range upPorts {
			listen = append(listen, procs.Address{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(base+i))})
		}
		return base+upPorts < 65536 && procs.Preflight(procs.Spec{Name: "up", Binary: binary, Listen: listen}) == nil
	}, 10*time.Second, time.Millisecond)
	return base
}

// up runs `promontory up` with some history and returns the address of the querier.
func up(t *testing.T, setUp string) string {
	t.Helper()
	binary, dir := program(t, "make build", "bin", "promontory"), t.TempDir()
	programs(t) // what it will run must be there
	base := basePort(t, binary)
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	t.Cleanup(func() { require.NoError(t, group.Stop()) })
	require.NoError(t, group.Start(ctx, procs.Spec{
		Name: "up", Binary: binary, Dir: root(t), StopTimeout: time.Minute, Args: []string{
			"up", "--plain", "--set-up=" + setUp, "--data-dir=" + filepath.Join(dir, "data"), "--history=3h", "--ports=" + strconv.Itoa(base),
		},
	}))
	_, err := group.Process("up").WaitLog(ctx, "The stack runs. Ctrl-C stops it")
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(base))
}

// Every dashboard and every rule is asked of the stack that `promontory up` runs.
func TestDashboardsAndRulesAreAnsweredByUp(t *testing.T) {
	for setUp, services := range map[string][]string{
		"sidecar": {"querier", "sidecar", "store-gateway", "ruler"},
		"receive": {"querier", "receiver", "store-gateway", "ruler"},
	} {
		t.Run(setUp, func(t *testing.T) {
			querier := up(t, setUp)
			jobs := requireSeries(t, querier, `up{job=~"querier|sidecar|store-gateway|ruler|receiver"} == 1`, func(a answer) bool {
				seen := map[string]bool{}
				for _, series := range a.Data.Result {
					seen[series.Metric["job"]] = true
				}
				return len(seen) == len(services)
			})
			var addrs []string
			for _, series := range jobs.Data.Result {
				addrs = append(addrs, series.Metric["instance"])
			}
			// Rates want two scrapes, and somebody who has asked; then each service has something on its page.
			requireSeries(t, querier, `sum(rate(http_requests_total{handler="query",job="querier"}[5m])) > 0`, func(a answer) bool { return len(a.Data.Result) == 1 })
			answered := requireExprsAnswered(t, querier, addrs, services...)
			t.Logf("answers with data: %v", answered)
			for _, service := range services {
				require.Greater(t, answered[service], 5, "%s: expressions that are answered with data", service)
			}
		})
	}
}
