package manifests

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/promontory-io/promontory/tools/manifests/internal/apiserver"
	"github.com/promontory-io/promontory/tools/manifests/internal/render"
	"github.com/stretchr/testify/require"
)

// requireAPIServerEnv set to anything makes the tests that need a real API server fail where it is missing.
const requireAPIServerEnv = "PROMONTORY_APISERVER_REQUIRED"

// startAPIServer runs a real API server that knows the resources of prometheus-operator.
func startAPIServer(t *testing.T) *apiserver.Server {
	t.Helper()
	programs := apiserver.Programs{
		Etcd:      apiServerProgram(t, "package etcd-server", "etcd"),
		APIServer: apiServerProgram(t, "make apiserver-tools", ".bin", "kube-apiserver"),
		Kubectl:   apiServerProgram(t, "make apiserver-tools", ".bin", "kubectl"),
	}
	s, err := apiserver.Start(t.Context(), programs, t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	kubectl(t, s, nil, "apply", "--server-side", "--filename", crds(t))
	require.Eventually(t, func() bool { // kubectl gives up on a definition that has no condition at all yet
		_, err := s.Kubectl(t.Context(), nil, "wait", "--for=condition=Established", "--timeout=1m", "crd", "--all")
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	return s
}

func apiServerProgram(t *testing.T, source string, parts ...string) string {
	t.Helper()
	path := root(t, parts...)
	var err error
	if len(parts) == 1 {
		path, err = exec.LookPath(parts[0])
	} else {
		_, err = os.Stat(path)
	}
	if err != nil {
		message := parts[len(parts)-1] + " is not there (" + source + "): make manifests-apiserver has it"
		require.Empty(t, os.Getenv(requireAPIServerEnv), message)
		t.Skip(message)
	}
	return path
}

// kubectl runs a command that must succeed without a warning.
func kubectl(t *testing.T, s *apiserver.Server, stdin []byte, args ...string) string {
	t.Helper()
	out, err := s.Kubectl(t.Context(), stdin, args...)
	require.NoError(t, err)
	require.NotContains(t, out, "Warning", "kubectl %s", strings.Join(args, " "))
	return out
}

func printed(t *testing.T, objects []render.Object) []byte {
	t.Helper()
	text, err := render.Print(objects)
	require.NoError(t, err)
	return text
}

// ofKind are the objects of these kinds.
func ofKind(objects []render.Object, kinds ...string) []render.Object {
	var out []render.Object
	for _, o := range objects {
		for _, kind := range kinds {
			if o.Kind() == kind {
				out = append(out, o)
			}
		}
	}
	return out
}

// podsOf are the pods that the controllers of a cluster would make of workloads, one for each.
func podsOf(t *testing.T, objects []render.Object) []render.Object {
	t.Helper()
	var pods []render.Object
	for _, o := range ofKind(objects, "Deployment", "StatefulSet") {
		template, ok := o["spec"].(map[string]any)["template"].(map[string]any)
		require.True(t, ok)
		meta, ok := template["metadata"].(map[string]any)
		require.True(t, ok)
		spec, ok := template["spec"].(map[string]any)
		require.True(t, ok)
		volumes, _ := spec["volumes"].([]any)
		claims, _ := o["spec"].(map[string]any)["volumeClaimTemplates"].([]any)
		for _, claim := range claims {
			name := claim.(map[string]any)["metadata"].(map[string]any)["name"]
			volumes = append(volumes, map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": name}})
		}
		full := map[string]any{}
		for key, value := range spec {
			full[key] = value
		}
		if len(volumes) > 0 {
			full["volumes"] = volumes
		}
		pods = append(pods, render.Object{
			"apiVersion": "v1", "kind": "Pod", "spec": full,
			"metadata": map[string]any{"name": o.Name(), "namespace": "promontory", "labels": meta["labels"]},
		})
	}
	require.NotEmpty(t, pods)
	return pods
}

// requireAdmitted has the server take every object, and every pod that its controllers would make of them, in a dry run.
func requireAdmitted(t *testing.T, s *apiserver.Server, objects []render.Object) {
	t.Helper()
	// What must exist before the rest can be looked at: nothing of a dry run exists afterwards.
	kubectl(t, s, printed(t, ofKind(objects, "Namespace")), "apply", "--server-side", "--filename=-")
	accounts := append(ofKind(objects, "ServiceAccount"), render.Object{
		// A controller of a real cluster makes it in every namespace.
		"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default", "namespace": "promontory"},
	})
	kubectl(t, s, printed(t, accounts), "apply", "--server-side", "--filename=-")
	out := kubectl(t, s, printed(t, objects), "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")
	require.Equal(t, len(objects), strings.Count(out, "(server dry run)"), out)
	out = kubectl(t, s, printed(t, podsOf(t, objects)), "create", "--dry-run=server", "--validate=strict", "--filename=-")
	require.Equal(t, len(ofKind(objects, "Deployment", "StatefulSet")), strings.Count(out, "(server dry run)"), out)
}

func TestAPIServerTakesEveryOverlayAndItsPods(t *testing.T) {
	t.Parallel()
	s := startAPIServer(t)
	for _, name := range folders(t, "overlays") {
		t.Run(name, func(t *testing.T) { // one after another: they share the namespace
			requireAdmitted(t, s, overlay(t, name))
			if components := everything[name]; len(components) > 0 {
				requireAdmitted(t, s, overlay(t, name, components...))
			}
		})
	}
	t.Run("operator", func(t *testing.T) {
		objects, err := tools(t).Build(t.Context(), root(t, "deploy", "prometheus", "operator"))
		require.NoError(t, err)
		out := kubectl(t, s, printed(t, objects), "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")
		require.Equal(t, len(objects), strings.Count(out, "(server dry run)"), out)
	})
}

func TestAPIServerRefusesWhatSchemasLetThrough(t *testing.T) {
	t.Parallel()
	s := startAPIServer(t)
	objects := overlay(t, "sidecar")
	requireAdmitted(t, s, objects)
	container := func(o render.Object) map[string]any {
		pod := o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		return pod["containers"].([]any)[0].(map[string]any)
	}
	for name, mistake := range map[string]struct {
		spoil func(render.Object)
		pods  bool // only the pods are refused
		want  string
	}{
		"unknown field": {func(o render.Object) { o["spec"].(map[string]any)["replicaz"] = 2 }, false, "replicaz"},
		"selector of other pods": {func(o render.Object) {
			o["spec"].(map[string]any)["selector"] = map[string]any{"matchLabels": map[string]any{"app": "other"}}
		}, false, "`selector` does not match template `labels`"},
		"port name too long": {func(o render.Object) {
			container(o)["ports"].([]any)[0].(map[string]any)["name"] = "remote-write-over-http"
		}, false, "must be no more than 15 characters"},
		"root": {func(o render.Object) {
			container(o)["securityContext"].(map[string]any)["runAsUser"] = 0
		}, true, `violates PodSecurity "restricted`},
		"service account that is not there": {func(o render.Object) {
			o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["serviceAccountName"] = "nobody"
		}, true, `serviceaccount "nobody" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spoiled := ofKind(overlay(t, "sidecar"), "Deployment")
			mistake.spoil(spoiled[0])
			if mistake.pods {
				spoiled = podsOf(t, spoiled)
			}
			_, err := s.Kubectl(t.Context(), printed(t, spoiled), "create", "--dry-run=server", "--validate=strict", "--filename=-")
			require.ErrorContains(t, err, mistake.want)
		})
	}
}

func TestAPIServerIsContentAfterOneApply(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sidecar", "receive"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := startAPIServer(t), root(t, "deploy", "overlays", name)
			// kubectl has a kustomize of its own; it makes the same of the overlay.
			out := kubectl(t, s, nil, "apply", "--kustomize", dir)
			require.Equal(t, len(overlay(t, name)), strings.Count(out, " created\n"), out)
			kubectl(t, s, nil, "diff", "--kustomize", dir) // exit status 1 where something would change
		})
	}
}
