package check

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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

func TestGoodRulesAreCounted(t *testing.T) {
	t.Parallel()
	c, errs := checkRules("f.yaml", []byte(good))
	require.Empty(t, errs)
	require.Equal(t, counts{groups: 2, rules: 2}, c)
}

func TestBadRulesAreNamedByFileAndLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content string
		want    []string
	}{
		"no YAML":             {"groups: [", []string{"f.yaml"}},
		"unknown field":       {"groups:\n  - name: a\n    rule: []\n", []string{"f.yaml:3", "rule"}},
		"unknown rule field":  {"groups:\n  - name: a\n    rules:\n      - record: x\n        expr: up\n        fore: 5m\n", []string{"f.yaml:6", "fore"}},
		"unknown strategy":    {"groups:\n  - name: a\n    partial_response_strategy: maybe\n    rules: []\n", []string{"f.yaml:3", `"maybe"`}},
		"bad expression":      {"groups:\n  - name: a\n    rules:\n      - record: x\n        expr: sum(\n", []string{"f.yaml:5", "rule 1"}},
		"annotated recording": {"groups:\n  - name: a\n    rules:\n      - record: x\n        expr: up\n        annotations: {a: b}\n", []string{"f.yaml:4", "annotations"}},
		"two groups, one name": {
			"groups:\n  - name: a\n    rules: []\n  - name: a\n    rules: []\n", []string{"f.yaml: groupname", "repeated"},
		},
		"coverage without selectors": {"groups:\n  - name: a\n    coverage: {}\n    rules: []\n", []string{"f.yaml", "require"}},
		"coverage with a bad one":    {"groups:\n  - name: a\n    coverage: {require: ['{']}\n    rules: []\n", []string{"f.yaml", "require"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, errs := checkRules("f.yaml", []byte(test.content))
			require.NotEmpty(t, errs)
			for _, want := range test.want {
				require.ErrorContains(t, errs[0], want)
			}
		})
	}
}

func TestTheCommandGoesOnAfterABadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1bad.yaml"), []byte("groups: 3"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2good.yaml"), []byte(good), 0o600))
	for name, test := range map[string]struct {
		args   []string
		out    string
		failed string
	}{
		"all good":           {[]string{"--rules=" + dir + "/2*.yaml"}, dir + "/2good.yaml: 2 rules in 2 groups\n", ""},
		"one bad":            {[]string{"--rules=" + dir + "/*.yaml"}, dir + "/2good.yaml: 2 rules in 2 groups\n", "1 of 2 rule files"},
		"no file":            {[]string{"--rules=" + dir + "/*.yml"}, "", "no file matches"},
		"a file and no file": {[]string{"--rules=" + dir + "/*.yml", "--rules=" + dir + "/2good.yaml"}, "2 rules", "no file matches"},
		"nothing to check":   {nil, "", "--rules"},
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

func FuzzCheckRules(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("groups: ["))
	f.Add([]byte("groups:\n - &a {name: b, rules: [*a]}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, errs := checkRules("f", content)
		require.True(t, len(errs) > 0 || c.groups >= 0)
	})
}
