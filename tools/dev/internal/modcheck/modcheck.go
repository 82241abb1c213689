// Package modcheck checks that the modules of the repository stand alone and agree: what is built through go.work
// is then what each module builds by itself.
package modcheck

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

// Agreement returns one line for each dependency that two go.mod files name in different versions, for go lines that
// differ, and for modules of ours that a go.mod requires without saying where in the tree they are.
func Agreement(modules []workspace.Module) []string {
	versions := map[string]map[string][]string{}
	note := func(what, version, folder string) {
		if versions[what] == nil {
			versions[what] = map[string][]string{}
		}
		versions[what][version] = append(versions[what][version], folder)
	}
	own := map[string]bool{}
	for _, m := range modules {
		own[m.File.Module.Path] = true
	}
	var findings []string
	for _, m := range modules {
		note("go", m.File.Go, m.Folder)
		replaced := map[string]bool{}
		for _, r := range m.File.Replace {
			replaced[r.Old.Path] = true
		}
		for _, r := range m.File.Require {
			if !own[r.Path] {
				note(r.Path, r.Version, m.Folder)
			} else if !replaced[r.Path] {
				findings = append(findings, fmt.Sprintf("%s/go.mod requires %s without a replace to its folder", m.Folder, r.Path))
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(versions)) {
		if len(versions[what]) < 2 {
			continue
		}
		var uses []string
		for _, version := range slices.Sorted(maps.Keys(versions[what])) {
			uses = append(uses, version+" in "+strings.Join(versions[what][version], ", "))
		}
		findings = append(findings, fmt.Sprintf("%s has more than one version: %s", what, strings.Join(uses, "; ")))
	}
	return findings
}

// Standalone tidies and builds each module as if it were alone, and returns one entry for each that differs or does
// not build. It changes no file. What it is at goes to progress, one line a module.
func Standalone(ctx context.Context, modules []workspace.Module, progress io.Writer) []string {
	var findings []string
	for _, m := range modules {
		fmt.Fprintln(progress, "mod-check", m.Folder)
		if out, err := alone(ctx, m.Dir, "mod", "tidy", "-diff"); err != nil {
			findings = append(findings, fmt.Sprintf("%s: go.mod is not tidy (make tidy):\n%s", m.Folder, shorten(out, 40)))
			continue
		}
		if out, err := alone(ctx, m.Dir, "build", "-mod=readonly", "./..."); err != nil {
			findings = append(findings, fmt.Sprintf("%s: does not build outside the workspace:\n%s", m.Folder, shorten(out, 40)))
		}
	}
	return findings
}

// alone runs the go command in dir without the workspace and returns what it printed.
func alone(ctx context.Context, dir string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// shorten keeps the first lines of text.
func shorten(text string, lines int) string {
	parts := strings.SplitAfter(strings.TrimSpace(text), "\n")
	if len(parts) <= lines {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:lines], "") + fmt.Sprintf("… and %d lines more", len(parts)-lines)
}
