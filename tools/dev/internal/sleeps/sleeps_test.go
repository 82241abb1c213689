package sleeps

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

func TestCheckFindsSleepsOutsideAFakeClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a_test.go": "package a\n\nimport \"time\"\n\nfunc f() {\n\ttime.Sleep(1)\n}\n",
		"b_test.go": "package a\n\nimport (\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc g() { synctest.Wait(); time.Sleep(1) }\n",
		"c.go":      "package a\n\nimport \"time\"\n\nfunc h() { time.Sleep(1) }\n",
		"d_test.go": "package a\n\nimport \"time\"\n\nvar _ = time.Now\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Check([]workspace.Module{{Folder: "libs", Dir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"libs/a_test.go:6 sleeps: wait on a condition with a deadline"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
