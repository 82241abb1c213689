package layers

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

func TestCheckNamesTheFileAndTheImportThatBreakARule(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, folder, imports string
		want                  []string
	}{
		{name: "a service may use a lib", folder: "services/querier", imports: ours + "libs/dedup"},
		{name: "a service may use its own packages", folder: "services/querier", imports: ours + "services/querier/internal/app"},
		{
			name: "a service imports a service", folder: "services/querier", imports: ours + "services/sidecar",
			want: []string{"services/querier/x.go:3 imports " + ours + "services/sidecar: a service talks to another through a contract"},
		},
		{
			name: "a name that only starts like another service is another module", folder: "services/querier", imports: ours + "services/querier2",
			want: []string{"services/querier/x.go:3 imports " + ours + "services/querier2: a service talks to another through a contract"},
		},
		{
			name: "a tool imports a tool", folder: "tools/e2e", imports: ours + "tools/promontory/internal/up",
			want: []string{"tools/e2e/x.go:3 imports " + ours + "tools/promontory/internal/up: what two tools share is a lib, and services are run, not imported"},
		},
		{
			name: "a lib imports a service", folder: "libs", imports: ours + "services/querier",
			want: []string{"libs/x.go:3 imports " + ours + "services/querier: a lib does not know who calls it"},
		},
		{
			name: "the contracts import a lib", folder: "proto/gen", imports: ours + "libs/dedup",
			want: []string{"proto/gen/x.go:3 imports " + ours + "libs/dedup: the contracts stand at the bottom"},
		},
		{
			name: "the plumbing imports Prometheus", folder: "libs/service", imports: prometheus + "/model/labels",
			want: []string{"libs/service/x.go:3 imports " + prometheus + "/model/labels: the plumbing of a process stays free of what is heavy"},
		},
		{name: "the plumbing may import Prometheus' common code", folder: "libs/service", imports: "github.com/prometheus/common/model"},
		{name: "the bucket may use the plumbing", folder: "libs/objstore", imports: ours + "libs/service/flags"},
		{
			name: "Thanos is imported", folder: "libs", imports: "github.com/thanos-io/thanos/pkg/block",
			want: []string{"libs/x.go:3 imports github.com/thanos-io/thanos/pkg/block: the contracts are met without the code that they come from"},
		},
		{name: "what only shares Thanos' organisation is fine", folder: "libs", imports: "github.com/thanos-io/objstore"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			module := workspace.Module{Folder: tc.folder, Dir: t.TempDir()}
			module.File.Module.Path = ours + tc.folder
			write(t, filepath.Join(module.Dir, "x.go"), "package x\n\nimport _ \""+tc.imports+"\"\n")
			got, err := Check([]workspace.Module{module}, Rules())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("importing %s from %s:\n got %q\nwant %q", tc.imports, tc.folder, got, tc.want)
			}
		})
	}
}

func TestCheckLeavesNestedModulesToThemselves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "nested", "go.mod"), "module nested\n")
	write(t, filepath.Join(dir, "nested", "x.go"), "package x\n\nimport _ \""+ours+"services/querier\"\n")
	got, err := Check([]workspace.Module{{Folder: "libs", Dir: dir}}, Rules())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) > 0 {
		t.Errorf("got %q, want nothing: the nested module is checked by itself", got)
	}
}

func TestCheckFindsAForbiddenRequirement(t *testing.T) {
	t.Parallel()
	module := workspace.Module{Folder: "libs", Dir: t.TempDir()}
	module.File.Require = []workspace.Requirement{{Path: "github.com/thanos-io/thanos", Version: "v0.42.0"}}
	got, err := Check([]workspace.Module{module}, Rules())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"libs/go.mod requires github.com/thanos-io/thanos: the contracts are met without the code that they come from"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
