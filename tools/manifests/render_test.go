package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promontory-io/promontory/tools/manifests/internal/render"
	"github.com/stretchr/testify/require"
)

// kustomizations are all folders below deploy/ that hold one, by their path from there. Components render on top of the
// overlay they are for: withComponents says which.
func folders(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(root(t, "deploy", dir))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.NotEmpty(t, names)
	return names
}

// everything is each overlay with every component that fits it, on top of what it has already.
var everything = map[string][]string{
	"sidecar": {"memcached", "query-frontend", "servicemonitors", "autoscaling", "grafana", "tls", "tls-sidecar"},
	"receive": {"memcached", "query-frontend", "servicemonitors", "autoscaling", "autoscaling-receiver", "grafana", "tls", "tls-receiver"},
	"dev":     {},
}

// overlay renders an overlay with components added.
func overlay(t testing.TB, name string, components ...string) []render.Object {
	t.Helper()
	dir := root(t, "deploy", "overlays", name)
	if len(components) > 0 {
		dir = withComponents(t, dir, components)
	}
	objects, err := tools(t).Build(t.Context(), dir)
	require.NoError(t, err)
	return objects
}

// withComponents writes a kustomization as a user would, beside the overlays: kustomize takes relative paths only.
func withComponents(t testing.TB, base string, components []string) string {
	t.Helper()
	dir := t.TempDir()
	rel := func(path string) string {
		r, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		return r
	}
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: promontory\nresources: [%s]\ncomponents:\n", rel(base))
	for _, c := range components {
		text += "  - " + rel(root(t, "deploy", "components", c)) + "\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600))
	return dir
}

func TestEveryOverlayIsTakenByTheAPIServersSchemas(t *testing.T) {
	t.Parallel()
	for _, name := range folders(t, "overlays") {
		components, known := everything[name]
		require.True(t, known, "overlay %s: say which components go with it", name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := overlay(t, name)
			require.NotEmpty(t, objects)
			validate(t, objects)
			if len(components) > 0 {
				validate(t, overlay(t, name, components...))
			}
		})
	}
}

func TestEveryComponentIsTriedWithSomeOverlay(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for name, components := range everything {
		text, err := os.ReadFile(root(t, "deploy", "overlays", name, "kustomization.yaml"))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			if _, c, ok := strings.Cut(strings.TrimSpace(line), "../../components/"); ok {
				used[c] = true
			}
		}
		for _, c := range components {
			used[c] = true
		}
	}
	for _, name := range folders(t, "components") {
		require.True(t, used[name], "no overlay is tried with the component %s", name)
	}
}

func TestEveryBaseRendersAlone(t *testing.T) {
	t.Parallel()
	for _, name := range folders(t, "base") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects, err := tools(t).Build(t.Context(), root(t, "deploy", "base", name))
			require.NoError(t, err)
			kinds := map[string]bool{}
			for _, o := range objects {
				kinds[o.Kind()] = true
			}
			for _, kind := range []string{"Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"} {
				require.True(t, kinds[kind], "has no %s", kind)
			}
		})
	}
}

func TestAMistakeInAManifestIsRefused(t *testing.T) {
	t.Parallel()
	objects := overlay(t, "sidecar")
	for _, o := range objects {
		if o.Kind() == "Deployment" {
			o["spec"].(map[string]any)["replicaz"] = 2
		}
	}
	err := tools(t).Validate(t.Context(), objects, crds(t), t.TempDir())
	require.ErrorContains(t, err, "replicaz")
}

func validate(t testing.TB, objects []render.Object) {
	t.Helper()
	require.NoError(t, tools(t).Validate(t.Context(), objects, crds(t), t.TempDir()))
}

func crds(t testing.TB) string { return program(t, "make manifest-tools", ".bin", "crds") }
