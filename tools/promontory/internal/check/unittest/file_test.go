package unittest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFilesOfTestsAreReadStrictly(t *testing.T) {
	t.Parallel()
	doc, err := parse("d/t.yml", []byte("rule_files: [a.yml, /b.yml]\ntests: [{alert_rule_test: [{alertname: A, eval_time: 3m}]}]"))
	require.NoError(t, err)
	require.Equal(t, []string{"d/a.yml", "/b.yml"}, doc.RuleFiles)
	require.Equal(t, "test 1", doc.Tests[0].Name)
	require.Equal(t, 3*time.Minute, doc.Tests[0].end())
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key": {"tests:\n- inptu_series: []", "t.yml:2"},
		"order twice": {"group_eval_order: [a, a]", `"a" is there twice`},
		"no name":     {"tests: [{alert_rule_test: [{eval_time: 3m}]}]", "alert_rule_test at 3m has no alertname"},
		"duration":    {"evaluation_interval: often", "t.yml: not a valid duration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse("t.yml", []byte(tc.in))
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, err = (&testCase{Start: "soon"}).start()
	require.ErrorContains(t, err, `"soon"`)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("rule_files: [a]\ntests: [{input_series: [{series: up, values: '1x3'}], promql_expr_test: [{expr: up, eval_time: 1m}]}]"))
	f.Add([]byte("tests: [&a {name: *a}]"))
	f.Fuzz(func(_ *testing.T, in []byte) {
		if doc, err := parse("f", in); err == nil {
			for i := range doc.Tests {
				_, _ = doc.Tests[i].start()
				doc.Tests[i].end()
			}
		}
	})
}
