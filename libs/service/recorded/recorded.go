// Package recorded holds a process against what was recorded of another one that does the same job: its flags with their
// defaults, and the metric families that it exposes. It is for tests.
//
// Tables are lines of values separated by tabs. One of flags has them in its last column, as help texts show them: --name=default,
// --name="default", --name=PLACEHOLDER, --[no-]name, -h, --name. One of metrics has component, family, type and the names of labels.
package recorded

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Families are metric families by name.
type Families map[string]*dto.MetricFamily

// Table reads the table in a file.
func Table(t testing.TB, path string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	require.NotEmpty(t, rows)
	return rows
}

// RequireFlags requires that fs knows each flag of the table with the same default, durations and sizes in any unit. Switches are
// off by default. own has the defaults that are to be others than the table says, or that it does not say.
func RequireFlags(t testing.TB, fs *pflag.FlagSet, table [][]string, own map[string]string) {
	t.Helper()
	for _, row := range table {
		name, want, toggle := flag(row[len(row)-1])
		f := fs.Lookup(name)
		if f == nil {
			t.Errorf("--%s is missing", name)
			continue
		}
		if name == "help" || name == "help-long" || name == "version" || f.Hidden && f.DefValue == "" {
			continue // what does nothing has no default
		}
		if f.Value.Type() == "bool" && want == "" {
			want = "false"
		}
		if toggle {
			require.Equal(t, "bool", f.Value.Type(), "--%s", name)
			require.NotNil(t, fs.Lookup("no-"+name), "--no-%s", name)
		}
		if mine, ok := own[name]; ok {
			require.False(t, same(want, mine), "--%s is not our own", name)
			want = mine
		}
		got := f.DefValue
		if first, repeated := strings.CutSuffix(want, "..."); repeated {
			want = first
			got, _, _ = strings.Cut(got, ",")
		}
		if !same(want, got) {
			t.Errorf("--%s is %q by default, recorded %q", name, got, want)
		}
	}
}

// flag takes the text of a flag apart; a value that only says what to give is empty.
func flag(text string) (name, value string, toggle bool) {
	if _, long, short := strings.Cut(text, ", --"); short && !strings.HasPrefix(text, "--") {
		text = long
	}
	text, toggle = strings.CutPrefix(strings.TrimPrefix(text, "--"), "[no-]")
	name, value, _ = strings.Cut(text, "=")
	if strings.HasPrefix(value, `"`) {
		return name, strings.Trim(value, `"`), toggle
	}
	upper := strings.ToUpper(name)
	if strings.HasPrefix(value, "<") || value == upper || value == strings.ReplaceAll(upper, ".", "-") {
		value = ""
	}
	return name, value, toggle
}

// same compares defaults that may be written in different ways.
func same(a, b string) bool {
	if a == b || a == "" && slices.Contains([]string{"[]", "0", "0s"}, b) {
		return true
	}
	x, errX := flags.ParseDuration(a)
	y, errY := flags.ParseDuration(b)
	if errX == nil && errY == nil && x == y {
		return true
	}
	n, errN := flags.ParseBytes(a)
	m, errM := flags.ParseBytes(b)
	return errN == nil && errM == nil && n == m && (n > 0 || a == "0") // a fraction is no size
}

// Scraped reads the families of an answer of /metrics.
func Scraped(t testing.TB, text string) Families {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err)
	return families
}

// Gathered reads the families of a registry.
func Gathered(t testing.TB, from prometheus.Gatherer) Families {
	t.Helper()
	list, err := from.Gather()
	require.NoError(t, err)
	out := Families{}
	for _, f := range list {
		out[f.GetName()] = f
	}
	return out
}

// RequireMetrics requires that each family of the table is there, of the same type and with labels of the same names.
func RequireMetrics(t testing.TB, families Families, table [][]string) {
	t.Helper()
	for _, row := range table {
		name, kind, names := row[1], row[2], ""
		if len(row) > 3 {
			names = row[3]
		}
		f := families[name]
		if f == nil {
			t.Errorf("metric %s is not exposed", name)
			continue
		}
		if have := strings.ToLower(f.GetType().String()); have != kind {
			t.Errorf("metric %s is a %s, recorded as a %s", name, have, kind)
		}
		found := map[string]struct{}{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				found[l.GetName()] = struct{}{}
			}
		}
		if have := strings.Join(slices.Sorted(maps.Keys(found)), ","); have != names {
			t.Errorf("metric %s has labels %s, recorded with %s", name, have, names)
		}
	}
}
