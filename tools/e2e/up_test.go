package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// TestUpAnswersItsOwnExamples runs `promontory up --once` twice on one data folder: from nothing, and going on.
func TestUpAnswersItsOwnExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"querier", "sidecar", "store-gateway"} {
		harness.Binary(t, name)
	}
	harness.Peer(t, "prometheus")
	dir := t.TempDir()
	for _, want := range []string{"1h0m0s of an HA pair", "1h0m0s from an earlier run"} {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		up := exec.CommandContext(ctx, harness.Binary(t, "promontory"), "up", "--once", "--plain",
			"--data-dir="+filepath.Join(dir, "data"), "--history=1h", "--ports="+harness.FreeBasePort(t, 32))
		out, err := up.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), want)
		require.Contains(t, string(out), "All queries are answered as they should.")
	}
}
