package strictyaml

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type settings struct {
	Name  string `yaml:"name"`
	Count int    `yaml:"count"`
	List  []struct {
		Key string `yaml:"key"`
	} `yaml:"list"`
}

func TestEveryProblemIsToldWithFileAndLine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":        {"name: a\n\nnmae: b\n", `f.yml:3: unknown key "nmae"`},
		"unknown nested key": {"list:\n- key: a\n- kay: b\n", `f.yml:3: unknown key "kay"`},
		"wrong type":         {"count: x\n", `f.yml:1: "x" is not a whole number`},
		"list for a text":    {"name: [a]\n", `f.yml:1: a list is not a text`},
		"map for a list":     {"list: {a: b}\n", `f.yml:1: a map is not a list`},
		"text for a map":     {"list: [a]\n", `f.yml:1: "a" is not a map of keys`},
		"two problems":       {"count: x\nb: 1\n", "f.yml:1: \"x\" is not a whole number\nf.yml:2: unknown key \"b\""},
		"no YAML":            {"a: [1\n", "f.yml:1: did not find expected ',' or ']'"},
		"never closed":       {"name: a\nlist:\n- {key: a\ncount: 1\n", "f.yml:3: did not find expected ',' or '}'"},
		"indented amiss":     {"count: 1\nlist:\n- key: a\n   kay: b\nname: c\n", "f.yml:4: mapping values are not allowed in this context"},
		"two documents":      {"name: a\n---\nname: b\n", "f.yml:2: more than one YAML document"},
		"twice the same key": {"name: a\nname: b\n", `f.yml:2: mapping key "name" already defined at line 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s settings
			require.EqualError(t, Decode("f.yml", []byte(tc.in), &s), tc.want)
		})
	}
}

func TestGoodAndEmptyContentIsTaken(t *testing.T) {
	t.Parallel()
	s := settings{Name: "kept"}
	for _, in := range []string{"", "\n", "# only a comment\n", "---\n"} {
		require.NoError(t, Decode("f", []byte(in), &s), in)
	}
	require.Equal(t, "kept", s.Name)
	require.NoError(t, Decode("f", []byte("count: 3\nlist: [{key: a}]\n"), &s))
	require.Equal(t, 3, s.Count)
	require.Equal(t, "a", s.List[0].Key)
}

func TestLinesOfAListAreFound(t *testing.T) {
	t.Parallel()
	content := []byte("a:\n  b:\n  - x\n  -\n    y: 1\n  - z\n")
	require.Equal(t, []int{3, 5, 6}, Lines(content, "a", "b"))
	require.Nil(t, Lines(content, "a"))
	require.Nil(t, Lines(content, "a", "c"))
	require.Nil(t, Lines([]byte("a: ["), "a"))
	require.Nil(t, Lines(nil, "a"))
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a", "list: [{key: b}]", "a: &x [*x]", "? - \n: 1", "%YAML 1.2\n---\na", "<<: *a", "a: !!binary x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		var s settings
		if Decode("f", b, &s) == nil {
			Lines(b, "list")
		}
	})
}
