package objstore

import (
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestConfigAcceptsWhatThanosDocuments(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig([]byte(`
type: s3
config:
  bucket: b
  endpoint: localhost:9000
prefix: /a/b/
hedging_config:
  enabled: true
  quantile: 0.95
`))
	require.NoError(t, err)
	require.Equal(t, Provider("S3"), cfg.Type)
	require.Equal(t, "a/b", cfg.Prefix)
	require.Equal(t, HedgingConfig{Enabled: true, UpTo: 3, Quantile: 0.95}, cfg.Hedging)
	require.Nil(t, cfg.Faults)
}

func TestConfigReadsFaults(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig([]byte(`
type: FILESYSTEM
config: {directory: /tmp/x}
faults:
  seed: 7
  rules:
  - {operations: [get, get_range], share: 0.5, error: error}
  - {latency: 30ms, name: "chunks/", break_after: 0}
`))
	require.NoError(t, err)
	zero := int64(0)
	require.Equal(t, &faults.Config{Seed: 7, Rules: []faults.Rule{
		{Operations: []string{"get", "get_range"}, Share: 0.5, Error: "error"},
		{Latency: 30 * time.Millisecond, Name: "chunks/", BreakAfter: &zero},
	}}, cfg.Faults)
}

func TestBadConfigIsReportedBySourceAndLine(t *testing.T) {
	t.Parallel()
	const known = "ALIYUNOSS, AZURE, BOS, COS, FILESYSTEM, GCS, OBS, OCI, S3, SWIFT"
	for name, tc := range map[string]struct{ yaml, want string }{
		"empty":            {"", "bkt.yml: is empty"},
		"only a comment":   {"# nothing\n", "bkt.yml: is empty"},
		"null":             {"~\n", "bkt.yml: is empty"},
		"a list":           {"- type: S3\n", "bkt.yml: line 1: not a mapping of keys to values"},
		"broken":           {"type: S3\nconfig: [\n", "bkt.yml: line 2: did not find expected node content"},
		"never closed":     {"type: S3\nconfig:\n  bucket: [b\nprefix: p\n", "bkt.yml: line 3: did not find expected ',' or ']'"},
		"indented amiss":   {"type: S3\nconfig:\n  bucket: b\n  region: r\n endpoint: e\n", "bkt.yml: line 5: did not find expected key"},
		"two documents":    {"type: S3\n---\ntype: GCS\n", "bkt.yml: line 2: a second YAML document"},
		"unknown key":      {"type: S3\nprefx: a\n", `bkt.yml: line 2: unknown key "prefx" (known: type, config, prefix, hedging_config, faults)`},
		"key twice":        {"type: S3\ntype: GCS\n", `bkt.yml: line 2: key "type" is set twice`},
		"no type":          {"config: {bucket: b}\n", "bkt.yml: bucket type is missing (known: " + known + ")"},
		"type is a list":   {"type: [S3]\n", "bkt.yml: line 1: type is not a string"},
		"unknown type":     {"\ntype: S4\n", `bkt.yml: line 2: unknown bucket type "S4" (known: ` + known + ")"},
		"prefix is a map":  {"type: S3\nprefix: {}\n", "bkt.yml: line 2: prefix is not a string"},
		"unknown hedging":  {"type: S3\nhedging_config:\n  enabled: true\n  upto: 2\n", `bkt.yml: line 4: unknown key "upto"`},
		"bad hedging":      {"type: S3\nhedging_config:\n  enabled: true\n  quantile: 2\n", "bkt.yml: line 3: hedging_config: quantile 2 is not between 0 and 1"},
		"unknown fault":    {"type: S3\nfaults:\n  rules:\n  - chance: 1\n", `bkt.yml: line 4: unknown key "chance"`},
		"idle fault":       {"type: S3\nfaults:\n  rules:\n  - share: 1\n", "bkt.yml: line 3: faults: rule 1: does nothing: set error, hang, latency, break_after, truncate or short_reads"},
		"unknown s3 key":   {"type: S3\nconfig:\n  bucket: b\n  # a comment\n  buckett: c\nprefix: p\n", `bkt.yml: open S3 bucket: line 5: unknown key "buckett"`},
		"flow style":       {"type: S3\nconfig: {bucket: b,\n  buckett: c}\nprefix: p\n", `bkt.yml: open S3 bucket: line 3: unknown key "buckett"`},
		"all in one line":  {"{type: S3, config: {bucket: b, buckett: c}, prefix: p}\n", `bkt.yml: open S3 bucket: line 1: unknown key "buckett"`},
		"wrong s3 type":    {"type: S3\nconfig:\n  bucket: b\n  part_size: much\n", "bkt.yml: open S3 bucket: line 4: cannot unmarshal !!str `much` into uint64"},
		"s3 lacks bucket":  {"type: S3\nconfig:\n  endpoint: e\n", "bkt.yml: open S3 bucket: config: names no bucket"},
		"fs lacks all":     {"type: filesystem\n", "bkt.yml: open FILESYSTEM bucket: config: missing directory for filesystem bucket"},
		"fs unknown key":   {"type: filesystem\nconfig:\n  dir: /x\n", `bkt.yml: open FILESYSTEM bucket: line 3: unknown key "dir"`},
		"fs no folder":     {"type: filesystem\nconfig:\n  directory: /dev/null\n", "bkt.yml: open FILESYSTEM bucket: config: bucket directory /dev/null is not a directory"},
		"anchors keep off": {"type: &t S3\nconfig:\n  bucket: *t\n  buckett: c\n", `bkt.yml: open S3 bucket: config: unknown key "buckett"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New([]byte(tc.yaml), "test", zap.NewNop(), nil, WithSource("bkt.yml"))
			require.EqualError(t, err, tc.want)
		})
	}
}

func TestEveryProviderIsWired(t *testing.T) {
	t.Parallel()
	for _, p := range Providers() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			// No provider opens without settings, and each says so itself, not our switch. GCS would look for credentials.
			_, err := New([]byte("type: "+string(p)+"\nconfig:\n  http_config: [1]\n"), "test", zap.NewNop(), nil)
			require.ErrorContains(t, err, "open "+string(p)+" bucket: ")
			require.NotContains(t, err.Error(), "unknown bucket type")
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		"type: S3\nconfig:\n  bucket: b\n  secret_key: hidden-secret\nprefix: p\n",
		"{type: S3, config: {bucket: b}}", "type: &a S3\nconfig: *a\n", "a: &a [*a]", "type: S3\nfaults: {rules: [{share: 1}]}\n",
		"type: S3\nconfig: |\n  x\n", "? [a]\n: b\n", "\ufefftype: S3\r\nconfig:\r\n  bucket: b\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := ParseConfig(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.Contains(t, Providers(), cfg.Type)
		require.NotContains(t, cfg.Redacted(), "hidden-secret")
	})
}
