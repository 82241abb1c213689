package workspace

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRewriteListsTheModulesInTheTreeAndLoadReadsThem(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for path, text := range map[string]string{
		"go.work":                            "go 1.26.8\n\nuse ./gone\n",
		"libs/go.mod":                        "module x/libs\n\ngo 1.26.8\n\nrequire example.org/y v1.2.3\n",
		"libs/service/go.mod":                "module x/libs/service\n\ngo 1.26.8\n",
		"services/a/go.mod":                  "module x/services/a\n\ngo 1.26.8\n",
		"tools/peers/prometheus/go.mod":      "module x/tools/peers/prometheus\n",
		"libs/testdata/go.mod":               "module x/fixture\n",
		".cache/go.mod":                      "module x/cache\n",
		"services/a/web/node_modules/go.mod": "module x/js\n",
	} {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Rewrite(root); err != nil {
		t.Fatal(err)
	}
	found, err := Root(filepath.Join(root, "libs", "service"))
	if err != nil || found != root {
		t.Fatalf("root of a folder below is %q, %v; want %q", found, err, root)
	}
	modules, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, m := range modules {
		folders = append(folders, m.Folder)
	}
	if want := []string{"libs", "libs/service", "services/a"}; !slices.Equal(folders, want) {
		t.Fatalf("modules are %q, want %q", folders, want)
	}
	if got := modules[0].File.Require; len(got) != 1 || got[0] != (Requirement{"example.org/y", "v1.2.3"}) {
		t.Errorf("libs requires %v", got)
	}
}

func TestRootSaysWhereItLooked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Root(dir); err == nil {
		t.Errorf("found a go.work above the empty folder %s", dir)
	}
}
