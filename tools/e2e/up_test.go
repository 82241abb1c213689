package e2e

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// TestUpAnswersItsOwnExamples runs `promontory up --once` twice on one data folder: from nothing, and going on.
func TestUpAnswersItsOwnExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"querier", "sidecar", "store-gateway", "ruler"} {
		harness.Binary(t, name)
	}
	harness.Peer(t, "prometheus")
	harness.Peer(t, "alertmanager")
	dir := t.TempDir()
	for _, want := range []string{"1h0m0s of an HA pair", "1h0m0s from an earlier run"} {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		up := exec.CommandContext(ctx, harness.Binary(t, "promontory"), "up", "--once", "--plain",
			"--data-dir="+filepath.Join(dir, "data"), "--history=1h", "--ports="+harness.FreeBasePort(t, 32))
		out, err := up.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), want)
		require.Contains(t, string(out), "1 series, 1 points: ALERTS{alertstate=\"firing\"}")
		require.Contains(t, string(out), "All queries are answered as they should.")
	}
}

func TestInterruptedUpStopsAllItHasStarted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"querier", "sidecar", "store-gateway", "ruler"} {
		harness.Binary(t, name)
	}
	harness.Peer(t, "prometheus")
	harness.Peer(t, "alertmanager")
	base := harness.FreeBasePort(t, 32)
	s := harness.New(t)
	s.Start(procs.Spec{
		Name: "up", Binary: harness.Binary(t, "promontory"), Source: "make build",
		Args: []string{"up", "--plain", "--data-dir=" + s.Dir("data"), "--no-history", "--ports=" + base},
	})
	up := s.Process("up")
	s.AwaitLog("up", "The stack runs. Ctrl-C stops it")
	ready := "http://127.0.0.1:" + base + "/-/ready"
	require.Equal(t, http.StatusOK, status(t, ready))

	second, code := harness.Output(t, "promontory", "up", "--plain", "--data-dir="+s.Dir("data"), "--no-history", "--ports="+base)
	require.Equal(t, 1, code)
	require.Contains(t, second, s.Dir("data")+" is in use by another")
	third, code := harness.Output(t, "promontory", "up", "--plain", "--data-dir="+s.Dir("other"), "--no-history", "--ports="+base)
	require.Equal(t, 1, code)
	require.Contains(t, third, "127.0.0.1:"+base)
	require.Contains(t, third, "in use by querier", "who has the port is named")

	require.NoError(t, up.Stop())
	text, err := os.ReadFile(up.LogPath())
	require.NoError(t, err)
	require.Equal(t, 9, strings.Count(string(text), "stopped after"), "%s", text)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ready, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		require.NoError(t, response.Body.Close())
	}
	require.Error(t, err, "nobody listens any more")
}

func TestUpNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	nothing := t.TempDir()
	out, code := harness.Output(t, "promontory", "up", "--plain", "--data-dir="+t.TempDir(), "--bin-dir="+nothing, "--peers-dir="+nothing, "--no-history", "--ports="+harness.FreeBasePort(t, 32))
	require.Equal(t, 1, code)
	for _, part := range []string{"querier", "sidecar", "store-gateway", "make build", "prometheus", "make peers", nothing} {
		require.Contains(t, out, part)
	}
	for arg, parts := range map[string][]string{
		"--history=2 days": {"--history", "2 days"}, "--ports=70000": {"--ports"}, "--histroy=1d": {"--histroy"}, "sideways": {"sideways"},
	} {
		out, code := harness.Output(t, "promontory", "up", arg)
		require.Equal(t, 1, code, out)
		for _, part := range parts {
			require.Contains(t, out, part)
		}
	}
}
