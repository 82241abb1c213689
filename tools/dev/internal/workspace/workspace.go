// Package workspace reads what the repository is made of: the modules that go.work lists and their go.mod files.
package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one module of the repository.
type Module struct {
	// Folder is where it is, relative to the root, with slashes: "libs/service".
	Folder string
	// Dir is the same as an absolute path.
	Dir string
	// File is what its go.mod says.
	File File
}

// File holds the parts of a go.mod that the checks read, in the shape of `go mod edit -json`.
type File struct {
	Module  struct{ Path string }
	Go      string
	Require []Requirement
	Replace []Replacement
}

// Requirement is one required module and its version.
type Requirement struct{ Path, Version string }

// Replacement is one replace line. New.Version is empty where the replacement is a folder.
type Replacement struct{ Old, New Requirement }

// Root returns the closest folder at or above dir that holds a go.work.
func Root(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.work")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.work at or above %s", dir)
		}
	}
}

// Load returns the modules that go.work in root lists, sorted by folder.
func Load(root string) ([]Module, error) {
	var work struct {
		Use []struct{ DiskPath string }
	}
	if err := goJSON(root, &work, "work", "edit", "-json", filepath.Join(root, "go.work")); err != nil {
		return nil, fmt.Errorf("read go.work: %w", err)
	}
	modules := make([]Module, 0, len(work.Use))
	for _, use := range work.Use {
		m := Module{Folder: strings.TrimPrefix(filepath.ToSlash(use.DiskPath), "./")}
		m.Dir = filepath.Join(root, m.Folder)
		if err := goJSON(root, &m.File, "mod", "edit", "-json", filepath.Join(m.Dir, "go.mod")); err != nil {
			return nil, fmt.Errorf("read go.mod of %s: %w", m.Folder, err)
		}
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b Module) int { return strings.Compare(a.Folder, b.Folder) })
	return modules, nil
}

// Rewrite makes go.work list exactly the modules in the tree, but for tools/peers: those stand outside on
// purpose, since what they require must not lift the versions of ours.
func Rewrite(root string) error {
	folders, err := find(root)
	if err != nil {
		return err
	}
	version, err := goVersion(filepath.Join(root, "go.work"))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "go %s\n\nuse (\n", version)
	for _, folder := range folders {
		fmt.Fprintf(&text, "\t./%s\n", folder)
	}
	text.WriteString(")\n")
	return os.WriteFile(filepath.Join(root, "go.work"), text.Bytes(), 0o644)
}

// find returns the folders below root that hold a go.mod, sorted, without tools/peers, hidden folders and test data.
func find(root string) ([]string, error) {
	var folders []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			hidden := strings.HasPrefix(entry.Name(), ".") && rel != "."
			if hidden || rel == "tools/peers" || entry.Name() == "testdata" || entry.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Name() == "go.mod" && rel != "go.mod" {
			folders = append(folders, strings.TrimSuffix(rel, "/go.mod"))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	slices.Sort(folders)
	return folders, nil
}

func goVersion(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if version, ok := strings.CutPrefix(line, "go "); ok {
			return strings.TrimSpace(version), nil
		}
	}
	return "", fmt.Errorf("%s has no go line", path)
}

// goJSON runs the go command in dir and decodes what it prints into target.
func goJSON(dir string, target any, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("go %s: %s", strings.Join(args, " "), bytes.TrimSpace(exit.Stderr))
		}
		return err
	}
	return json.Unmarshal(out, target)
}
