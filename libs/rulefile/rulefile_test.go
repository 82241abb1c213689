package rulefile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/rulefile"
)

func TestGroupsSayWhatAnIncompleteAnswerMeans(t *testing.T) {
	t.Parallel()
	groups, err := rulefile.Parse("r.yml", []byte(`
groups:
  - name: default
    rules: [{record: a, expr: up}]
  - name: warn
    partial_response_strategy: warn
    interval: 10s
    limit: 3
    query_offset: 5s
    labels: {team: x}
    rules: [{alert: A, expr: up == 0, for: 5m, keep_firing_for: 1m, labels: {s: p}, annotations: {a: b}}]
  - name: abort
    partial_response_strategy: "Abort"
  - name: covered
    coverage: {require: ['{cluster="eu1"}', 'up{cluster=~"us.*"}']}
`))
	require.NoError(t, err)
	require.Len(t, groups, 4)
	require.Equal(t, rulefile.Abort, groups[0].Strategy)
	require.Equal(t, rulefile.Warn, groups[1].Strategy)
	require.Equal(t, "x", groups[1].Labels["team"])
	require.Equal(t, rulefile.Abort, groups[2].Strategy)
	require.Equal(t, rulefile.Warn, groups[3].Strategy)
	require.Len(t, groups[3].Require, 2)
}

func TestBadFilesAreRefusedWithFileAndLine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"unknown top key":       {"grups: []", `r.yml:1:1: the file has no field "grups"`},
		"unknown group key":     {"groups:\n- name: a\n  intervall: 1m\n", `r.yml:3:3: a group has no field "intervall"`},
		"unknown rule key":      {"groups:\n- name: a\n  rules:\n  - record: a\n    expr: up\n    fro: 5m", `r.yml:6:5: a rule has no field "fro"`},
		"strategy":              {"groups:\n- name: a\n  partial_response_strategy: maybe", `r.yml:3:30: partial_response_strategy: "maybe" is neither WARN nor ABORT`},
		"expression":            {"groups:\n- name: a\n  rules:\n  - record: a\n    expr: up +", "r.yml:5:11:"},
		"two names":             {"groups:\n- name: a\n- name: a", "r.yml:3:3:"},
		"syntax":                {"groups: [", "r.yml:1:"},
		"wrong type":            {"groups:\n- name: a\n  interval: [1]", "r.yml:3:"},
		"template":              {"groups:\n- name: a\n  rules:\n  - alert: A\n    expr: up\n    labels: {x: '{{'}", "r.yml:4:"},
		"coverage selector":     {"groups:\n- name: a\n  coverage: {require: ['{']}", "r.yml:3:13: coverage: require:"},
		"coverage without list": {"groups:\n- name: a\n  coverage: {}", "r.yml:3:13: coverage: needs a list"},
		"coverage and abort":    {"groups:\n- name: a\n  partial_response_strategy: ABORT\n  coverage: {require: ['{a=\"b\"}']}", "r.yml:4:13: coverage: contradicts"},
		"second document":       {"groups: []\n---\ngroups: []", "r.yml:2:1: more than one YAML document"},
		"broken second":         {"groups: []\n---\ngroups: [", "r.yml:"},
		"key twice":             {"groups:\n- name: a\n  name: b", "r.yml:3:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rulefile.Parse("r.yml", []byte(tc.in))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestPatternsSelectFilesAndEachStrategyItsGroups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
		return p
	}
	a := write("a.yml", "groups: [{name: x}, {name: y, partial_response_strategy: WARN}]")
	b := write("b.yml", "groups: [{name: x}]")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "c.yml"), 0o700))
	set, err := rulefile.Read([]string{filepath.Join(dir, "*.yml"), a, filepath.Join(dir, "none*"), dir + "/"})
	require.NoError(t, err)
	require.Len(t, set.Groups, 3)
	require.Equal(t, []string{a, b}, set.Files(rulefile.Abort))
	require.Equal(t, []string{a}, set.Files(rulefile.Warn))
	groups, errs := set.Loader(rulefile.Warn).Load(a, false, model.UTF8Validation)
	require.Empty(t, errs)
	require.Len(t, groups.Groups, 1)
	require.Equal(t, "y", groups.Groups[0].Name)
	require.NotNil(t, set.Group(b, "x"))
	require.Nil(t, set.Group(b, "y"))

	write("b.yml", "groups: [{name: x, nope: 1}]")
	write("d.yml", "nope: 1")
	_, err = rulefile.Read([]string{filepath.Join(dir, "*.yml")})
	require.ErrorContains(t, err, b+":1:")
	require.ErrorContains(t, err, filepath.Join(dir, "d.yml")+":1:1")
	_, err = rulefile.Read([]string{"[a"})
	require.ErrorContains(t, err, `"[a"`)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("groups: [{name: x, partial_response_strategy: WARN, coverage: {require: ['up']}, rules: [{record: a, expr: up}]}]"))
	f.Add([]byte("a: &a [*a]\ngroups: *a"))
	f.Add([]byte("groups: [{<<: {name: x}}]"))
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = rulefile.Parse("f", in) })
}

func TestRulesWhoseResultsAreAlikeAreFound(t *testing.T) {
	t.Parallel()
	groups, err := rulefile.Parse("a.yml", []byte(`groups:
- name: x
  labels: {team: a}
  rules:
  - {record: r, expr: up}
  - {record: r, expr: up == 0}
  - {record: r, expr: up, labels: {team: b}}
  - {alert: r, expr: up}
- name: y
  rules:
  - {record: r, expr: up, labels: {team: a}}
`))
	require.NoError(t, err)
	var got []string
	for _, d := range rulefile.Duplicates(groups) {
		got = append(got, d.String())
	}
	require.Equal(t, []string{
		`a.yml:6: r{team="a"} has the name and labels of the rule in a.yml:5`,
		`a.yml:11: r{team="a"} has the name, labels and expression of the rule in a.yml:5`,
	}, got)
}

func TestAllProblemsAreListed(t *testing.T) {
	t.Parallel()
	_, err := rulefile.Parse("a.yml", []byte("groups:\n- name: x\n  nope: 1\n  neither: 2\n"))
	require.Len(t, rulefile.Problems(err), 2)
	require.Empty(t, rulefile.Problems(nil))
}
