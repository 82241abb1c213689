package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/promontory-io/promontory/tools/manifests/internal/cluster"
	"github.com/promontory-io/promontory/tools/manifests/internal/render"
	"github.com/stretchr/testify/require"
)

// requireEnv set to anything makes a missing program a failure instead of a skipped test: where the tests are the gate.
const requireEnv = "PROMONTORY_MANIFESTS_REQUIRED"

// root is the root of the repository.
func root(t testing.TB, parts ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", ".."}, parts...)...))
	require.NoError(t, err)
	return path
}

// program is the path of a program below the root, or on the search path when it has no folder.
func program(t testing.TB, source string, parts ...string) string {
	t.Helper()
	path := root(t, parts...)
	_, err := os.Stat(path)
	if len(parts) == 1 {
		path, err = exec.LookPath(parts[0])
	}
	if err != nil {
		if os.Getenv(requireEnv) != "" {
			t.Fatalf("%s is not there (%s): %v", parts[len(parts)-1], source, err)
		}
		t.Skipf("%s is not there (%s)", parts[len(parts)-1], source)
	}
	return path
}

func tools(t testing.TB) render.Tools {
	t.Helper()
	return render.Tools{
		Kustomize:       program(t, "make manifest-tools", ".bin", "kustomize"),
		KubectlValidate: program(t, "make manifest-tools", ".bin", "kubectl-validate"),
	}
}

// programs are what the images hold, as programs of this machine. memcached alone is started with some arguments more.
func programs(t testing.TB) map[string]cluster.Program {
	t.Helper()
	out := map[string]cluster.Program{
		"prom/prometheus":   {Binary: program(t, "make peers", ".bin", "prometheus"), Source: "make peers"},
		"prom/alertmanager": {Binary: program(t, "make peers", ".bin", "alertmanager"), Source: "make peers"},
		"memcached":         {Binary: program(t, "package memcached", "memcached"), Source: "package memcached", Rewrite: memcachedArgs},
		"minio/minio":       {Binary: program(t, "make manifest-tools", ".bin", "minio"), Source: "make manifest-tools"},
	}
	for _, name := range []string{"querier", "sidecar", "store-gateway", "ruler", "compactor", "receiver", "bucket-web"} {
		out["promontory/"+name] = cluster.Program{Binary: program(t, "make build", "bin", name), Source: "make build"}
	}
	return out
}
