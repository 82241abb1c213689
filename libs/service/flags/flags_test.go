package flags

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

type bound struct {
	name   string
	names  []string
	list   []string
	count  int
	big    int64
	size   int64
	ratio  float64
	ratios []float64
	took   time.Duration
	word   string
	on     bool
	off    bool
	labels []Label
	when   When
	doc    Content
}

func newBound() (*bound, *pflag.FlagSet) {
	b := &bound{
		list: []string{"default"}, count: 7, size: 250 << 20, took: time.Minute, word: "a", on: true,
		ratios: []float64{0.1, 0.5}, when: At(time.Unix(0, 0).UTC()),
	}
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	String(fs, &b.name, "name", "")
	Strings(fs, &b.names, "names", "")
	List(fs, &b.list, "list", "")
	Int(fs, &b.count, "count", "")
	Int64(fs, &b.big, "big", "")
	Bytes(fs, &b.size, "size", "")
	Float64(fs, &b.ratio, "ratio", "")
	Float64s(fs, &b.ratios, "ratios", "")
	Duration(fs, &b.took, "took", "")
	Enum(fs, &b.word, "word", "", "a", "b")
	Bool(fs, &b.on, "on", "")
	Bool(fs, &b.off, "off", "")
	Labels(fs, &b.labels, "label", "")
	Time(fs, &b.when, "when", "")
	BindContent(fs, &b.doc, "doc", "YAML.")
	return b, fs
}

func TestEveryKindKeepsItsDefaultAndTakesItsValue(t *testing.T) {
	t.Parallel()
	b, fs := newBound()
	require.NoError(t, fs.Parse([]string{
		"--name=x y", "--names=a,b", "--names", "c", "--list=r1, r2", "--list", "r3,",
		"--big=9007199254740993", "--size=2GB", "--ratio=0.25", "--ratios=0.9", "--ratios=0.99", "--took=1d", "--word", "b",
		"--no-on", "--off", `--label=cluster="eu,1"`, `--label`, `replica="a=b"`, "--when", "-6w",
		"--doc=a: b",
	}))
	require.NoError(t, Check(fs))
	require.Equal(t, "x y", b.name)
	require.Equal(t, []string{"a,b", "c"}, b.names, "no comma is split")
	require.Equal(t, []string{"r1", "r2", "r3"}, b.list, "the default is replaced")
	require.Equal(t, 7, b.count)
	require.Equal(t, int64(9007199254740993), b.big)
	require.Equal(t, int64(2<<30), b.size)
	require.Equal(t, 0.25, b.ratio)
	require.Equal(t, []float64{0.9, 0.99}, b.ratios)
	require.Equal(t, 24*time.Hour, b.took)
	require.Equal(t, "b", b.word)
	require.False(t, b.on)
	require.True(t, b.off)
	require.Empty(t, cmp.Diff([]Label{{"cluster", "eu,1"}, {"replica", "a=b"}}, b.labels))
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	require.Equal(t, now.Add(-6*7*24*time.Hour).UnixMilli(), b.when.Millis(now))
	require.True(t, b.when.Moves())
	got, err := b.doc.Bytes()
	require.NoError(t, err)
	require.Equal(t, "a: b", string(got))
	require.Empty(t, Warnings(fs))
}

func TestTheLastOfABooleanAndItsOppositeHolds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want bool
	}{
		{nil, true},
		{[]string{"--no-on"}, false},
		{[]string{"--no-on", "--on"}, true},
		{[]string{"--on", "--no-on"}, false},
		{[]string{"--on=false"}, false},
		{[]string{"--no-on=false"}, true},
	} {
		b, fs := newBound()
		require.NoError(t, fs.Parse(tc.args))
		require.Equal(t, tc.want, b.on, "%v", tc.args)
	}
}

func TestAllProblemsAreReportedAtOnceWithTheirFlags(t *testing.T) {
	t.Parallel()
	b, fs := newBound()
	require.NoError(t, fs.Parse([]string{
		"--count=many", "--size=10XB", "--took=soon", "--word=c", "--on=perhaps", "--no-off=maybe", "--label=a=b", "--label", `0="x"`,
		`--label=x="1"`, `--label=x="2"`, "--when=yesterday", "--doc=x", "--doc-file=y", "--ratio=1e999", "--ratios=x",
	}))
	err := Check(fs)
	require.EqualError(t, err, `--count: "many": want a number
--doc: cannot be used together with --doc-file
--label: "a=b": value of label "a" has to be quoted: want a="value"
--label: "0=\"x\"": "0" is no valid label name
--label: "x=\"2\"": label "x" is given twice
--no-off: "maybe": want true or false
--on: "perhaps": want true or false
--ratio: "1e999": the number is out of range
--ratios: "x": want a number
--size: "10XB": want a size such as 512KB, 250MB or 2GiB
--took: "soon": want a duration such as 30s, 5m, 1h30m or 2d
--when: "yesterday": want a time such as 2026-01-31T00:00:00Z, or a duration relative to now such as 2h or -1d
--word: "c": want one of a, b`)
	require.Equal(t, 7, b.count, "a bad value leaves the default")
}

func TestRequiredContentThatIsMissingIsAProblem(t *testing.T) {
	t.Parallel()
	var c Content
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	BindContent(fs, &c, "objstore.config", "YAML.", Required())
	require.NoError(t, fs.Parse(nil))
	require.EqualError(t, Check(fs), "--objstore.config: required: give --objstore.config or --objstore.config-file")
}

func TestDurationsAreReadInBothWays(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"2m": 2 * time.Minute, "60m": time.Hour, "0ms": 0, "0": 0, "30s": 30 * time.Second, "1d": 24 * time.Hour, "1w2d": 9 * 24 * time.Hour,
		"1.5h": 90 * time.Minute, "-5m": -5 * time.Minute, "1h30m": 90 * time.Minute, "15us": 15 * time.Microsecond,
	} {
		got, err := ParseDuration(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
		again, err := ParseDuration(FormatDuration(got))
		require.NoError(t, err, "%s printed as %s", in, FormatDuration(got))
		require.Equal(t, got, again)
	}
}

func TestByteSizesArePowersOf1024(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"0": 0, "1024": 1024, "512B": 512, "250MB": 250 << 20, "250MiB": 250 << 20, "2GB": 2 << 30, "2GiB": 2 << 30, "1K": 1024,
		"1.5GB": 3 << 29, "1kb": 1024, "7EiB": 7 << 60, "9223372036854775807": 1<<63 - 1,
	} {
		got, err := ParseBytes(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
		again, err := ParseBytes(FormatBytes(got))
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, in := range []string{"", "MB", "-1MB", "1QB", "8EB", "1e3MB", "0x10", "1__0", "NaN", "Inf", "9223372036854775808"} {
		_, err := ParseBytes(in)
		require.Error(t, err, in)
	}
}

func FuzzParseBytesNeverYieldsANegativeSize(f *testing.F) {
	for _, s := range []string{"1KB", "2GiB", "1.5GB", "", "9e18EB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err == nil && n < 0 {
			t.Fatalf("ParseBytes(%q) = %d", s, n)
		}
	})
}

func TestTimesAreFixedOrRelative(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"2026-01-31T00:00:00Z":      time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		"2026-01-31T02:00:00+02:00": time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		"-1d":                       now.Add(-24 * time.Hour),
		"2h":                        now.Add(2 * time.Hour),
		"0000-01-01T00:00:00Z":      time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
		"9999-12-31T23:59:59Z":      time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		w, err := ParseWhen(in)
		require.NoError(t, err, in)
		require.Equal(t, want.UnixMilli(), w.Millis(now), in)
		again, err := ParseWhen(w.String())
		require.NoError(t, err)
		require.Equal(t, w.Millis(now), again.Millis(now))
	}
}

func TestContentFillsInEnvironmentVariables(t *testing.T) {
	t.Setenv("BUCKET", "b1")
	c := InlineContent("objstore.config", "bucket: $(BUCKET) $BUCKET ${BUCKET} $() $(1X)")
	got, err := c.Bytes()
	require.NoError(t, err)
	require.Equal(t, "bucket: b1 $BUCKET ${BUCKET} $() $(1X)", string(got))

	c = InlineContent("objstore.config", "bucket: $(NOT_SET_1) $(NOT_SET_2)")
	_, err = c.Bytes()
	require.EqualError(t, err, "--objstore.config: environment variable not set: NOT_SET_1, NOT_SET_2")

	var literal Content
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	BindContent(fs, &literal, "sd", "YAML.", Literal())
	require.NoError(t, fs.Parse([]string{"--sd=$(NOT_SET_1)"}))
	got, err = literal.Bytes()
	require.NoError(t, err)
	require.Equal(t, "$(NOT_SET_1)", string(got))
}

func TestAFileThatIsMissingIsNamedWithItsFlag(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.yaml")
	c := FileContent("objstore.config", path)
	_, err := c.Bytes()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "--objstore.config-file: open "+path)
}

func TestYAMLErrorsNameFileAndLine(t *testing.T) {
	t.Parallel()
	type inner struct {
		Port int `yaml:"port"`
	}
	type doc struct {
		Type   string `yaml:"type"`
		Config inner  `yaml:"config"`
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", "type: S3\nconfig:\n  prot: 1\n", path + ":3: unknown key prot"},
		{"wrong type", "config:\n  port: many\n", path + ":2: cannot use str `many` as int"},
		{"both", "typ: a\nconfig:\n  port: many\n", path + ":1: unknown key typ\n" + path + ":3: cannot use str `many` as int"},
		{"syntax", "type: S3\nconfig: [\n", path + ":2: did not find expected node content"},
		{"never closed", "type: S3\nconfig:\n  port: [1\nx: y\n", path + ":3: did not find expected ',' or ']'"},
		{"same key twice", "type: a\ntype: b\n", path + `:2: key "type" is already given at line 1`},
		{"two documents", "type: a\n---\ntype: b\n", path + ": more than one YAML document"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
			c := FileContent("x", path)
			var d doc
			require.EqualError(t, c.Decode(&d), tc.want)
		})
	}
	d := doc{Type: "kept"}
	empty := InlineContent("x", "# nothing\n")
	require.NoError(t, empty.Decode(&d))
	require.Equal(t, "kept", d.Type)
}

func TestOldFlagsAreAcceptedAndWarned(t *testing.T) {
	t.Parallel()
	var endpoints []string
	var lookback time.Duration
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	Group(fs, "Endpoints", func(fs *pflag.FlagSet) {
		Strings(fs, &endpoints, "endpoint", "Address.")
		Alias(fs, "store", "endpoint")
		Duration(fs, &lookback, "lookback", "Time.")
		Deprecate(fs, "lookback", "use --better")
		Removed(fs, "old", "it is automatic")
		RemovedBool(fs, "switch", "it is always on")
	})
	require.NoError(t, fs.Parse([]string{"--store=a:1", "--endpoint=b:1", "--store", "c:1", "--lookback=x", "--old=5", "--no-switch"}))
	require.Equal(t, []string{"a:1", "b:1", "c:1"}, endpoints)
	require.EqualError(t, Check(fs), `--lookback: "x": want a duration such as 30s, 5m, 1h30m or 2d`)
	require.Equal(t, []string{
		"--lookback is deprecated: use --better",
		"--no-switch is accepted but does nothing: it is always on",
		"--old is accepted but does nothing: it is automatic",
		"--store is deprecated: use --endpoint",
	}, Warnings(fs))
	require.Equal(t, "Endpoints", GroupOf(fs.Lookup("endpoint")))
}

func TestEffectiveValuesHideSecrets(t *testing.T) {
	t.Parallel()
	_, fs := newBound()
	require.NoError(t, fs.Parse([]string{"--doc=password: x", "--took=90s"}))
	got := Effective(fs)
	require.Equal(t, Redacted, got["doc"])
	require.Equal(t, "1m30s", got["took"])
	require.Equal(t, "250MiB", got["size"])
	require.NotContains(t, got, "no-on")
}

func TestPlainBooleansGetTheirOppositeToo(t *testing.T) {
	t.Parallel()
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	on := fs.Bool("plain", true, "")
	AddNegations(fs)
	AddNegations(fs)
	require.NoError(t, fs.Parse([]string{"--no-plain"}))
	require.False(t, *on)
}

func FuzzDecodeYAMLNamesItsSource(f *testing.F) {
	f.Add("type: S3\nconfig: {a: b}\n")
	f.Add("a: [")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, text string) {
		var d struct {
			Type   string         `yaml:"type"`
			Config map[string]any `yaml:"config"`
		}
		if err := DecodeYAML("src", []byte(text), &d); err != nil {
			require.ErrorContains(t, err, "src:")
		}
	})
}
