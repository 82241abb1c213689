package manifests

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"

	"github.com/promontory-io/promontory/tools/manifests/internal/render"
)

// tiltRun is what a Tiltfile asked Tilt for.
type tiltRun struct {
	kustomized []string
	resources  map[string]bool // k8s_resource: name, and whether it starts by itself
	images     map[string]string
	commands   []string
	deps       []string
}

// runTiltfile executes the Tiltfile with stand-ins for Tilt's functions that note their arguments. An unknown function or
// argument fails, as it does in Tilt.
func runTiltfile(t testing.TB, only string) (tiltRun, error) {
	t.Helper()
	r := tiltRun{resources: map[string]bool{}, images: map[string]string{}}
	env := starlark.StringDict{
		"TRIGGER_MODE_MANUAL": starlark.String("manual"),
		"config": starlarkstruct.FromStringDict(starlark.String("config"), starlark.StringDict{
			"define_string": builtin("define_string", []string{"name", "args?", "usage?"}, nil),
			"parse": starlark.NewBuiltin("parse", func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) {
				d := starlark.NewDict(1)
				if only != "" {
					return d, d.SetKey(starlark.String("only"), starlark.String(only))
				}
				return d, nil
			}),
		}),
		"allow_k8s_contexts": builtin("allow_k8s_contexts", []string{"contexts"}, nil),
		"sync":               builtin("sync", []string{"local", "remote"}, nil),
		"run":                builtin("run", []string{"cmd"}, nil),
		"k8s_yaml":           builtin("k8s_yaml", []string{"yaml"}, nil),
		"kustomize":          builtin("kustomize", []string{"path"}, func(a map[string]starlark.Value) { r.kustomized = append(r.kustomized, text(a["path"])) }),
		"local_resource": builtin("local_resource", []string{"name", "cmd", "deps?", "ignore?", "labels?", "allow_parallel?", "trigger_mode?", "auto_init?"}, func(a map[string]starlark.Value) {
			r.commands = append(r.commands, text(a["cmd"]))
			r.deps = append(r.deps, texts(a["deps"])...)
		}),
		"docker_build": builtin("docker_build", []string{"ref", "context", "dockerfile", "build_args?", "live_update?"}, func(a map[string]starlark.Value) {
			r.images[text(a["ref"])] = text(a["dockerfile"])
		}),
		"k8s_resource": builtin("k8s_resource", []string{"workload", "labels?", "port_forwards?", "resource_deps?", "auto_init?"}, func(a map[string]starlark.Value) {
			auto, _ := a["auto_init"].(starlark.Bool)
			r.resources[text(a["workload"])] = bool(auto)
		}),
	}
	// Tilt's dialect has loops and conditions at the top.
	options := &syntax.FileOptions{TopLevelControl: true, GlobalReassign: true}
	_, err := starlark.ExecFileOptions(options, &starlark.Thread{Name: "Tiltfile"}, root(t, "Tiltfile"), nil, env)
	var eval *starlark.EvalError
	if errors.As(err, &eval) {
		err = fmt.Errorf("%s: %w", eval.Backtrace(), err)
	}
	return r, err
}

// builtin takes the parameters named (those with a question mark need not be given) and hands what was given to note.
func builtin(name string, params []string, note func(map[string]starlark.Value)) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		values := make([]starlark.Value, len(params))
		pairs := make([]any, 0, 2*len(params))
		for i, p := range params {
			pairs = append(pairs, p, &values[i])
		}
		if err := starlark.UnpackArgs(b.Name(), args, kwargs, pairs...); err != nil {
			return nil, err
		}
		if note != nil {
			given := map[string]starlark.Value{}
			for i, p := range params {
				given[strings.TrimSuffix(p, "?")] = values[i]
			}
			note(given)
		}
		return starlark.None, nil
	})
}

func text(v starlark.Value) string {
	s, _ := starlark.AsString(v)
	return s
}

func texts(v starlark.Value) []string {
	list, ok := v.(*starlark.List)
	if !ok {
		return nil
	}
	var out []string
	for i := range list.Len() {
		out = append(out, text(list.Index(i)))
	}
	return out
}

var (
	namedPod      = regexp.MustCompile(`delete pod ([a-z0-9-]+)-\d+`)
	namedWorkload = regexp.MustCompile(`statefulset/([a-z0-9-]+)`)
	builtPackage  = regexp.MustCompile(`\./(services/[a-z-]+/cmd)/\.\.\.`)
)

func TestTiltfileNamesOnlyWhatExists(t *testing.T) {
	t.Parallel()
	r, err := runTiltfile(t, "")
	require.NoError(t, err)
	require.Equal(t, []string{"deploy/overlays/dev"}, r.kustomized)
	objects := overlay(t, "dev")
	workloads, images := map[string]bool{}, map[string]bool{}
	for _, o := range objects {
		if o.Kind() == "Deployment" || o.Kind() == "StatefulSet" {
			workloads[o.Name()] = true
			collectImages(o, images)
		}
	}
	for name := range r.resources {
		require.True(t, workloads[name], "k8s_resource %s is no workload of the dev overlay", name)
	}
	for name := range workloads {
		require.Contains(t, r.resources, name, "the workload has no place in the Tiltfile")
	}
	for ref, dockerfile := range r.images {
		require.True(t, images[ref], "docker_build %s: no container of the dev overlay runs it", ref)
		require.FileExists(t, root(t, dockerfile))
	}
	for image := range images {
		if strings.HasPrefix(image, "promontory/") {
			require.Contains(t, r.images, image, "the image is not built by the Tiltfile")
		}
	}
	for _, dep := range r.deps {
		_, err := os.Stat(root(t, dep))
		require.NoError(t, err)
	}
	var built int
	for _, command := range r.commands {
		for _, re := range []*regexp.Regexp{namedPod, namedWorkload} {
			if m := re.FindStringSubmatch(command); m != nil {
				require.True(t, workloads[m[1]], "%q names a workload that does not exist", command)
			}
		}
		if m := builtPackage.FindStringSubmatch(command); m != nil {
			require.DirExists(t, root(t, m[1]))
			built++
		}
	}
	require.Equal(t, len(r.images), built)
}

func TestTiltfileLeavesASetUpOut(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]map[string]bool{
		"":        {"prometheus": true, "receiver-router": true, "querier": true},
		"sidecar": {"prometheus": true, "receiver-router": false, "querier": true},
		"receive": {"prometheus": false, "receiver-router": true, "querier": true},
	} {
		r, err := runTiltfile(t, only)
		require.NoError(t, err)
		for name, auto := range want {
			require.Equal(t, auto, r.resources[name], "only %q: %s", only, name)
		}
	}
	_, err := runTiltfile(t, "both")
	require.ErrorContains(t, err, "--only takes sidecar or receive")
}

// collectImages notes the image of every container, without its tag.
func collectImages(o render.Object, images map[string]bool) {
	spec := o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	for _, c := range spec["containers"].([]any) {
		image, _, _ := strings.Cut(c.(map[string]any)["image"].(string), ":")
		images[image] = true
	}
}
