// Package layers checks that imports go one way: services and tools use libs, libs use the contracts, and what is
// light stays light. The rules are data, see [Rules].
package layers

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

const (
	ours       = "github.com/promontory-io/promontory/"
	prometheus = "github.com/prometheus/prometheus"
)

// Rule forbids imports. It looks at direct imports, test files included, of every package in the modules whose
// folder matches From.
type Rule struct {
	// From is a folder of the repository: the rule holds for all modules in it, nested ones too. "" is all of them.
	From string
	// Deny lists import paths, each with all that is below it.
	Deny []string
	// Except lists what is allowed nevertheless, each with all that is below it.
	Except []string
	// Own allows a module to import packages of its own, whatever Deny says.
	Own bool
	// Why is said to who breaks the rule.
	Why string
}

// Rules are those of this repository.
func Rules() []Rule {
	return []Rule{
		{
			From: "", Deny: []string{"github.com/thanos-io/thanos"},
			Why: "the contracts are met without the code that they come from",
		},
		{
			From: "services", Deny: []string{ours + "services", ours + "tools"}, Own: true,
			Why: "a service talks to another through a contract",
		},
		{
			From: "tools", Deny: []string{ours + "services", ours + "tools"}, Own: true,
			Why: "what two tools share is a lib, and services are run, not imported",
		},
		{
			From: "libs", Deny: []string{ours + "services", ours + "tools"},
			Why: "a lib does not know who calls it",
		},
		{
			From: "proto/gen", Deny: []string{strings.TrimSuffix(ours, "/")}, Own: true,
			Why: "the contracts stand at the bottom",
		},
		{
			From: "libs/service", Deny: []string{prometheus, ours + "libs"}, Own: true,
			Why: "the plumbing of a process stays free of what is heavy",
		},
		{
			From: "libs/objstore", Deny: []string{prometheus, ours + "libs"}, Except: []string{ours + "libs/service"}, Own: true,
			Why: "the bucket stays free of what is heavy, and libs builds on it",
		},
	}
}

// Check returns one line for each import that breaks a rule, sorted: the file, the import, and why not.
func Check(modules []workspace.Module, rules []Rule) ([]string, error) {
	var findings []string
	for _, module := range modules {
		imports, err := importsOf(module.Dir)
		if err != nil {
			return nil, fmt.Errorf("read imports of %s: %w", module.Folder, err)
		}
		for _, rule := range rules {
			if !within(module.Folder, rule.From) {
				continue
			}
			findings = append(findings, rule.broken(module, imports)...)
		}
	}
	slices.Sort(findings)
	return findings, nil
}

func (r Rule) broken(module workspace.Module, imports []fileImport) []string {
	var findings []string
	for _, imp := range imports {
		if r.denies(module, imp.path) {
			findings = append(findings, fmt.Sprintf("%s/%s:%d imports %s: %s", module.Folder, imp.file, imp.line, imp.path, r.Why))
		}
	}
	for _, require := range module.File.Require {
		// A requirement on a module that no rule lets in is how an import starts.
		if r.From == "" && r.denies(module, require.Path) {
			findings = append(findings, fmt.Sprintf("%s/go.mod requires %s: %s", module.Folder, require.Path, r.Why))
		}
	}
	return findings
}

func (r Rule) denies(module workspace.Module, path string) bool {
	below := func(prefix string) bool { return within(path, prefix) }
	if r.Own && within(path, module.File.Module.Path) {
		return false
	}
	return slices.ContainsFunc(r.Deny, below) && !slices.ContainsFunc(r.Except, below)
}

// within tells whether path is prefix or lies below it; everything lies below "".
func within(path, prefix string) bool {
	return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

type fileImport struct {
	file string
	line int
	path string
}

// importsOf returns the imports of all Go files of the module in dir, nested modules left out.
func importsOf(dir string) ([]fileImport, error) {
	var imports []fileImport
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != dir && (entry.Name() == "testdata" || holdsModule(path)):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, fileImport{file: filepath.ToSlash(rel), line: files.Position(spec.Pos()).Line, path: name})
		}
		return nil
	})
	return imports, err
}

func holdsModule(dir string) bool {
	matches, err := filepath.Glob(filepath.Join(dir, "go.mod"))
	return err == nil && len(matches) > 0
}
