package discovery

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTargetFilesAreReadInBothFormats(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"a.json": `[{"targets": ["a:1", "dns+b:2"], "labels": {"x": "y"}}, {"targets": ["c:3"]}]`,
		"a.yml":  "- targets: ['a:1', 'dns+b:2']\n  labels: {x: y, n: 1}\n- targets:\n  - c:3\n",
		"a.YAML": `[{"targets": ["a:1", "dns+b:2"]}, {"targets": ["c:3"], "labels": {}}]`,
	} {
		got, err := ParseTargets(name, []byte(content))
		require.NoError(t, err, name)
		require.Equal(t, []string{"a:1", "dns+b:2", "c:3"}, got, name)
	}
	for _, name := range []string{"e.yml", "e.json"} {
		got, err := ParseTargets(name, []byte("[]"))
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func TestWrongTargetFilesAreNamedWithTheLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, content, want string }{
		{"f.json", "[\n{\"targets\": [\"a\"],\n\"lables\": {}}]", `f.json:3: unknown field "lables"`},
		{"f.json", "[\n{\"targets\": [1]}]", `f.json:2: cannot unmarshal number into Go struct field targetGroup.targets of type string`},
		{"f.json", "[{\"targets\":\n[", `f.json:2: unexpected end of JSON input`},
		{"f.json", "", `f.json:1: unexpected end of JSON input`},
		{"f.json", "[]\n[]", `f.json:2: more than one JSON value`},
		{"f.json", "[null]", `f.json: target group 0 is empty`},
		{"f.yml", "- targets: [a]\n  lables: {}\n", `f.yml:2: unknown key "lables"`},
		{"f.yml", "- targets: [a]\n-\n", `f.yml: target group 1 is empty`},
		{"f.yml", "- targets: ['']\n", `f.yml: target group 0 has an empty target`},
		{"f.yml", "targets: [a]\n", "f.yml:1: a map is not a list"},
		{"f.txt", "a", `f.txt: unknown ending ".txt", want .json, .yml or .yaml`},
	} {
		_, err := ParseTargets(tc.name, []byte(tc.content))
		require.EqualError(t, err, tc.want)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	// As well-behaved writers do: never half a file.
	require.NoError(t, os.WriteFile(path+".tmp", []byte(content), 0o600))
	require.NoError(t, os.Rename(path+".tmp", path))
}

func newFiles(t testing.TB, opts FilesOptions) *Files {
	t.Helper()
	f, err := NewFiles(opts)
	require.NoError(t, err)
	return f
}

func TestFilesOfAPatternAreFollowedAndBrokenOnesKeepTheirTargets(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	a, b := filepath.Join(dir, "a.yml"), filepath.Join(dir, "b.yml")
	f := newFiles(t, FilesOptions{Patterns: []string{filepath.Join(dir, "*.yml"), a}, Now: c.Now})
	write(t, a, "- targets: [x:1]")
	write(t, b, "- targets: [y:1, x:1]")
	require.NoError(t, f.Refresh())
	both := []FileTarget{{"x:1", a}, {"y:1", b}, {"x:1", b}}
	require.Equal(t, both, f.Targets())
	await(t, f.Changed())

	good, failed := c.Now(), c.advance(time.Minute)
	write(t, b, "- targets: [y:1")
	require.ErrorContains(t, f.Refresh(), "b.yml:1: ")
	c.advance(time.Minute)
	require.Error(t, f.Refresh())
	require.Equal(t, both, f.Targets())
	require.Empty(t, f.Changed())
	state := f.State()[1]
	require.Equal(t, failed, state.FailingSince)
	require.Equal(t, good, state.LastSuccess)
	require.Error(t, state.Err)

	write(t, b, "- targets: [z:1]")
	require.NoError(t, f.Refresh())
	require.Equal(t, []FileTarget{{"x:1", a}, {"z:1", b}}, f.Targets())
	require.NoError(t, f.State()[1].Err)
	await(t, f.Changed())
}

func TestAFileThatVanishedStaysInTheStateForAWhile(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	a := filepath.Join(dir, "a.json")
	f := newFiles(t, FilesOptions{Patterns: []string{a}, Now: c.Now, ForgetAfter: time.Hour})

	require.ErrorContains(t, f.Refresh(), "a.json: no such file")
	require.Equal(t, a, f.State()[0].Path)
	require.False(t, f.State()[0].Vanished)

	write(t, a, `[{"targets":["x:1"]}]`)
	require.NoError(t, f.Refresh())
	await(t, f.Changed())
	require.NoError(t, os.Remove(a))
	gone := c.advance(time.Minute)
	require.NoError(t, f.Refresh())
	await(t, f.Changed())
	require.Empty(t, f.Targets())
	state := f.State()[0]
	require.True(t, state.Vanished)
	require.Equal(t, []string{"x:1"}, state.Targets)
	require.Equal(t, gone, state.FailingSince)
	require.ErrorContains(t, state.Err, "no such file any more")

	write(t, a, `[{"targets":["x:1"]}]`)
	require.NoError(t, f.Refresh())
	await(t, f.Changed())
	require.Len(t, f.Targets(), 1)
	require.False(t, f.State()[0].Vanished)

	require.NoError(t, os.Remove(a))
	require.NoError(t, f.Refresh())
	c.advance(time.Hour)
	require.NoError(t, f.Refresh())
	require.Empty(t, f.State(), "forgotten")
}

func TestChangesAreSeenWithoutWaitingForTheInterval(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := filepath.Join(dir, "a.yml")
	write(t, a, "- targets: [x:1]")
	f := newFiles(t, FilesOptions{Patterns: []string{filepath.Join(dir, "*.yml")}, Interval: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	await(t, f.Changed())
	require.Len(t, f.Targets(), 1)

	write(t, filepath.Join(dir, "b.yml"), "- targets: [y:1]")
	await(t, f.Changed())
	require.Len(t, f.Targets(), 2)
	require.NoError(t, os.Remove(a))
	await(t, f.Changed())
	require.Equal(t, []FileTarget{{"y:1", filepath.Join(dir, "b.yml")}}, f.Targets())
	cancel()
	require.NoError(t, <-done)
}

func TestAFolderThatIsReplacedByALinkIsFollowed(t *testing.T) {
	t.Parallel()
	// This is how Kubernetes updates a mounted config map.
	dir := t.TempDir()
	for _, v := range []string{"1", "2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, "..v"+v), 0o700))
		write(t, filepath.Join(dir, "..v"+v, "a.yml"), "- targets: [x:"+v+"]")
	}
	require.NoError(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/a.yml", filepath.Join(dir, "a.yml")))
	f := newFiles(t, FilesOptions{Patterns: []string{filepath.Join(dir, "a.yml")}, Interval: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	await(t, f.Changed())
	require.Equal(t, "x:1", f.Targets()[0].Addr)
	require.NoError(t, os.Symlink("..v2", filepath.Join(dir, "..tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	await(t, f.Changed())
	require.Equal(t, "x:2", f.Targets()[0].Addr)
	cancel()
	require.NoError(t, <-done)
}

func TestWithoutAFolderToWatchTheIntervalDoes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	f := newFiles(t, FilesOptions{Patterns: []string{filepath.Join(dir, "a.yml")}, Interval: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	require.NoError(t, os.Mkdir(dir, 0o700))
	write(t, filepath.Join(dir, "a.yml"), "- targets: [x:1]")
	await(t, f.Changed())
	require.Len(t, f.Targets(), 1)
	cancel()
	require.NoError(t, <-done)
}

func TestPatternsOfAWrongFormAreRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a.txt", "a*/b.yml", "a", ""} {
		_, err := NewFiles(FilesOptions{Patterns: []string{bad}})
		require.ErrorContains(t, err, `file pattern "`+bad+`"`)
	}
}

func FuzzParseTargets(f *testing.F) {
	for _, s := range []string{`[{"targets":["a:1"],"labels":{"a":"b"}}]`, "- targets: [a]\n  labels: {a: b}\n", "[null]", "- &x {targets: [a]}\n- *x\n", ""} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, asJSON bool) {
		name := "f.yml"
		if asJSON {
			name = "f.json"
		}
		targets, err := ParseTargets(name, b)
		if err != nil {
			require.Empty(t, targets)
			require.ErrorContains(t, err, name+":")
			return
		}
		require.NotContains(t, targets, "")
	})
}
