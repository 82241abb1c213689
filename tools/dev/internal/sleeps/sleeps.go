// Package sleeps finds tests that wait by sleeping. A test waits on a condition with a deadline; only under
// testing/synctest, where the clock is a fake one, is sleeping the way to move it.
package sleeps

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

// Check returns one line for each time.Sleep in a test file that does not import testing/synctest.
func Check(modules []workspace.Module) ([]string, error) {
	seen := map[string]bool{}
	var findings []string
	for _, module := range modules {
		err := filepath.WalkDir(module.Dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") || seen[path] {
				return err
			}
			seen[path] = true // of nested modules too
			lines, err := sleepsIn(path)
			for _, line := range lines {
				rel, _ := filepath.Rel(module.Dir, path) // path is below module.Dir
				findings = append(findings, fmt.Sprintf("%s/%s:%d sleeps: wait on a condition with a deadline", module.Folder, filepath.ToSlash(rel), line))
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read tests of %s: %w", module.Folder, err)
		}
	}
	return findings, nil
}

// sleepsIn returns the lines of the file that call time.Sleep, none where it has a fake clock.
func sleepsIn(path string) ([]int, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, spec := range parsed.Imports {
		if spec.Path.Value == `"testing/synctest"` {
			return nil, nil
		}
	}
	var lines []int
	ast.Inspect(parsed, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok || selector.Sel.Name != "Sleep" {
			return true
		}
		if from, ok := selector.X.(*ast.Ident); ok && from.Name == "time" {
			lines = append(lines, files.Position(selector.Pos()).Line)
		}
		return true
	})
	return lines, nil
}
