package check

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/promontory/internal/check/unittest"
)

const good = `groups:
  - name: a
    interval: 30s
    partial_response_strategy: warn
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: Down
        expr: up == 0
        for: 5m
  - name: b
    coverage:
      require: ['{cluster="eu1"}']
    rules: []
`

func TestTheCommandGoesOnAfterABadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1bad.yaml"), []byte("groups: 3"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2good.yaml"), []byte(good), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "3line.yaml"), []byte("groups:\n  - name: a\n    rulez: []\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "4twice.yaml"), []byte("groups:\n- name: a\n  rules:\n  - {record: r, expr: up}\n  - {record: r, expr: up == 0}\n"), 0o600))
	for name, test := range map[string]struct {
		args   []string
		out    string
		failed string
	}{
		"all good":           {[]string{"--rules=" + dir + "/2*.yaml"}, dir + "/2good.yaml: 2 rules in 2 groups\n", ""},
		"one bad":            {[]string{"--rules=" + dir + "/[12]*.yaml"}, dir + "/2good.yaml: 2 rules in 2 groups\n", "1 of 2 rule files"},
		"no file":            {[]string{"--rules=" + dir + "/*.yml"}, "", "no file matches"},
		"a file and no file": {[]string{"--rules=" + dir + "/*.yml", "--rules=" + dir + "/2good.yaml"}, "2 rules", "no file matches"},
		"nothing to check":   {nil, "", "--rules"},
		"as an argument":     {[]string{dir + "/2*.yaml", dir + "/2good.yaml"}, dir + "/2good.yaml: 2 rules in 2 groups\n", ""},
		"with line and name": {[]string{dir + "/3*.yaml"}, dir + "/3line.yaml:3:5: a group has no field \"rulez\"", "1 of 1 rule files"},
		"looks twice":        {[]string{dir + "/4*.yaml"}, `warning: ` + dir + `/4twice.yaml:5: r{} has the name and labels of the rule in ` + dir + `/4twice.yaml:4`, ""},
		"lint":               {[]string{dir + "/4*.yaml", "--lint-fatal"}, "warning: ", "1 rules look like duplicates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, notes bytes.Buffer
			cmd := NewRules("rules-check")
			cmd.SetOut(&out)
			cmd.SetErr(&notes)
			cmd.SetArgs(append(test.args, "--log.level=error", "--no-enable-auto-gomemlimit"))
			err := cmd.ExecuteContext(t.Context())
			if test.failed == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.failed)
			}
			require.Contains(t, out.String(), test.out)
		})
	}
}

func TestExitCodesTellWrongRulesFromChecksThatCouldNotBeMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad, good := filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "good.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("groups: 3"), 0o600))
	require.NoError(t, os.WriteFile(good, []byte("groups: []"), 0o600))
	for name, test := range map[string]struct {
		args []string
		want int
	}{
		"wrong rules":          {[]string{bad}, 1},
		"wrong and missing":    {[]string{bad, filepath.Join(dir, "none")}, 1},
		"missing":              {[]string{good, filepath.Join(dir, "none")}, 2},
		"unknown flag":         {[]string{good, "--rulez=x"}, 2},
		"nothing":              {nil, 2},
		"tests that fail":      {[]string{"--test=testdata/fails.yml"}, 1},
		"tests that are wrong": {[]string{"--test=" + bad}, 1},
		"missing tests":        {[]string{"--test=" + dir + "/none"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := NewRules("rules")
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			cmd.SetArgs(test.args)
			var coded interface{ ExitCode() int }
			require.ErrorAs(t, cmd.ExecuteContext(t.Context()), &coded)
			require.Equal(t, test.want, coded.ExitCode())
		})
	}
}

func TestUnitTestsOfRulesAreRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := NewRules("rules")
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"testdata/rules.yml", "--test=testdata/passes*.yml", "--test=testdata/fails.yml"})
	require.ErrorContains(t, cmd.ExecuteContext(t.Context()), "1 of 3 test files fail")
	for _, want := range []string{
		"testdata/rules.yml: 5 rules in 3 groups\n", "testdata/passes.yml: 4 of 4 tests passed\n", "testdata/passes-late.yml: 1 of 1 tests passed\n",
		"testdata/fails.yml: 0 of 4 tests passed\n", "  wrong value: expression job:requests:rate5m at 10m", `want:`, `{__name__="job:requests:rate5m", job="a"} 2`,
		"wrong annotation: alert Down at 6m", "a histogram for a float: ", "nothing fires: alert Down at 1m",
	} {
		require.Contains(t, out.String(), want)
	}
}

// TestVerdictsAreThoseOfPromtool runs the same files through a real promtool.
func TestVerdictsAreThoseOfPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := filepath.Abs("../../../../.bin/promtool")
	require.NoError(t, err)
	if _, err := os.Stat(promtool); err != nil {
		t.Skipf("no promtool: run make peers (%v)", err)
	}
	files, err := filepath.Glob("testdata/*s*.yml")
	require.NoError(t, err)
	compared := 0
	for _, file := range files {
		if strings.HasSuffix(file, "rules.yml") {
			continue
		}
		doc, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^- name: (.+)$`).FindAllSubmatch(doc, -1) {
			name := string(m[1])
			out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", "--run=^"+regexp.QuoteMeta(name)+"$", file).CombinedOutput()
			report, ours := unittest.Run(t.Context(), file)
			require.NoError(t, ours)
			failed := slices.ContainsFunc(report.Failures, func(f string) bool { return strings.HasPrefix(f, name+": ") })
			require.Equal(t, err != nil, failed, "%s: %s: promtool says\n%s\nwe say\n%s", file, name, out, report.Failures)
			compared++
		}
	}
	require.Equal(t, 9, compared)
}
