package modcheck

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

func module(folder, goLine string, require ...workspace.Requirement) workspace.Module {
	m := workspace.Module{Folder: folder}
	m.File.Module.Path = "example.org/" + folder
	m.File.Go = goLine
	m.File.Require = require
	return m
}

func TestAgreementNamesWhatDiffersAndWhere(t *testing.T) {
	t.Parallel()
	replaced := module("c", "1.26.8", workspace.Requirement{Path: "example.org/a", Version: "v0.0.0"})
	replaced.File.Replace = []workspace.Replacement{{Old: workspace.Requirement{Path: "example.org/a"}, New: workspace.Requirement{Path: "../a"}}}
	for _, tc := range []struct {
		name    string
		modules []workspace.Module
		want    []string
	}{
		{
			name: "all agree",
			modules: []workspace.Module{
				module("a", "1.26.8", workspace.Requirement{Path: "x", Version: "v1.0.0"}),
				module("b", "1.26.8", workspace.Requirement{Path: "x", Version: "v1.0.0"}),
			},
		},
		{
			name: "a dependency in two versions",
			modules: []workspace.Module{
				module("a", "1.26.8", workspace.Requirement{Path: "x", Version: "v1.0.0"}),
				module("b", "1.26.8", workspace.Requirement{Path: "x", Version: "v1.1.0"}),
			},
			want: []string{"x has more than one version: v1.0.0 in a; v1.1.0 in b"},
		},
		{
			name:    "two go lines",
			modules: []workspace.Module{module("a", "1.26.8"), module("b", "1.25"), module("d", "1.25")},
			want:    []string{"go has more than one version: 1.25 in b, d; 1.26.8 in a"},
		},
		{
			name:    "a module of ours without its folder",
			modules: []workspace.Module{module("a", "1.26.8"), module("b", "1.26.8", workspace.Requirement{Path: "example.org/a", Version: "v0.0.0"})},
			want:    []string{"b/go.mod requires example.org/a without a replace to its folder"},
		},
		{name: "a module of ours with its folder", modules: []workspace.Module{module("a", "1.26.8"), replaced}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := Agreement(tc.modules); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStandaloneFindsWhatIsNotTidyAndWhatDoesNotBuild(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, goMod, source, want string }{
		{name: "fine", goMod: "module m\n\ngo 1.26\n", source: "package m\n"},
		{name: "not tidy", goMod: "module m\n\ngo 1.26\n\nrequire example.org/unused v1.0.0\n", source: "package m\n", want: "m: go.mod is not tidy"},
		{name: "does not build", goMod: "module m\n\ngo 1.26\n", source: "package m\n\nvar X int = \"text\"\n", want: "m: does not build"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range map[string]string{"go.mod": tc.goMod, "m.go": tc.source} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got := strings.Join(Standalone(t.Context(), []workspace.Module{{Folder: "m", Dir: dir}}, io.Discard), "\n")
			if tc.want == "" && got != "" || !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
