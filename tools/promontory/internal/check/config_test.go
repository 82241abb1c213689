package check

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func runCheck(t *testing.T, args ...string) (out string, exit int, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := NewCommand()
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		exit = coded.ExitCode()
	}
	return stdout.String(), exit, err
}

func TestConfigurationFilesAreReadAsStrictlyAsTheServicesDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ flag, good, bad, line, what string }{
		{"objstore", "type: FILESYSTEM\nconfig:\n  directory: /tmp/x\n", "type: FILESYSTEM\nconfig:\n  folder: /tmp/x\n", "", "folder"},
		{"objstore", "type: FILESYSTEM\nconfig:\n  directory: /tmp/x\n", "type: FILESYSTEM\nprefixx: a\n", ": line 2:", "prefixx"},
		{"relabel", "- source_labels: [a]\n  target_label: b\n", "- source_labels: [a]\n  target: b\n", ":2:", "target"},
		{"selector-relabel", "- source_labels: [a]\n  regex: b\n  action: keep\n", "- target_label: a\n  replacement: b\n", "", "not supported"},
		{"endpoints", "endpoints:\n- address: a:1\n", "endpoints:\n- adress: a:1\n", ":2:", "adress"},
		{"index-cache", "type: IN-MEMORY\nconfig:\n  max_size: 1MB\n", "type: IN-MEMORY\nconfig:\n  max_sizes: 1MB\n", "", "max_sizes"},
		{"caching-bucket", "type: IN-MEMORY\nconfig:\n  max_size: 1MB\n", "type: IN-MEMORY\nconfig:\n  max_size: 1MB\nblocks_iter_tll: 5m\n", "", "blocks_iter_tll"},
		{"relabel", "- action: labeldrop\n  regex: a\n", "- action: explode\n", "", "explode"},
		{"sd-files", "- targets: ['a:1']\n", "- targest: ['a:1']\n", ":1:", "targest"},
		{"sd-files", "- targets: ['a:1']\n", "- targets: ['a:1', '']\n", ": target group 0", "empty target"},
		{"index-cache", "type: REDIS\nconfig:\n  addr: a:1\n", "type: RADISH\n", "", "RADISH"},
		{"hashrings", `[{"hashring": "a", "endpoints": ["n:1"]}]`, "[\n{\"hashring\": \"a\", \"endpoints\": 3}]", ": line 2:", "endpoints"},
		{"hashrings", `[{"endpoints": [{"address": "n:1", "az": "z"}], "algorithm": "ketama"}]`, `[{"hashring": "a", "endpoints": ["n:1"], "algorithm": "hash"}]`, `: hashring 0 "a":`, "hash"},
		{"hashrings", `[{"endpoints": ["n:1"]}]`, `[]`, "", "no hashring"},
		{"limits", "write:\n  default:\n    request:\n      series_limit: 10\n", "write:\n  globals: {}\n", ":2:", "globals"},
		{"limits", "write: {}\n", "write: {default: {request: {series_limit: -1}}}\n", ": write.default.request.series_limit", "-1"},
		{"rules", "groups:\n- name: a\n  rules:\n  - record: b\n    expr: c\n", "groups:\n- name: a\n  rules:\n  - record: b\n    expr: c(\n", ":", "expr"},
		{"deletions", "- matchers: '{a=\"b\"}'\n", "- matchers: '{a=\"b\"'\n", ": deletion 1:", "matchers"},
		{"tracing", "type: OTLP\nconfig:\n  endpoint: a:1\n", "type: OTLP\nconfig:\n  endpiont: a:1\n", ":3:", "endpiont"},
		{"tracing", "type: JAEGER\nconfig:\n  endpoint: http://a:1/x\n", "type: PIGEON\n", "", "PIGEON"},
		{"request-logging", "http:\n  options:\n    level: INFO\n    decision: {log_end: true}\n", "http:\n  option: {}\n", ":2:", "option"},
		{"web", "basic_auth_users:\n  a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\n", "tls_server_confg: {}\n", "", "line 1: field tls_server_confg"},
		{"http-client", "basic_auth:\n  username: a\n  password: b\n", "basic_auth:\n  user: a\n", ":2:", "user"},
	} {
		dir := t.TempDir()
		good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
		require.NoError(t, os.WriteFile(good, []byte(tt.good), 0o600))
		require.NoError(t, os.WriteFile(bad, []byte(tt.bad), 0o600))
		out, _, err := runCheck(t, "config", "--"+tt.flag+"="+good)
		require.NoError(t, err, "%s: %s", tt.flag, out)
		require.Equal(t, good+": is a good "+tt.flag+" configuration\n", out)
		out, exit, err := runCheck(t, "config", "--"+tt.flag+"="+filepath.Join(dir, "*.yaml"))
		require.ErrorContains(t, err, "1 of 2 configuration files have problems")
		require.Equal(t, 1, exit)
		require.Contains(t, out, bad+tt.line, tt.flag)
		require.Contains(t, out, tt.what, tt.flag)
	}
}

func TestACheckOfNoFileIsNoCheck(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"config"}, {"config", "--objstore=/does/not/exist/*"}, {"config", "--nonsense"}, {"bucket"}} {
		_, exit, err := runCheck(t, args...)
		require.Error(t, err, "%v", args)
		require.Equal(t, 2, exit, "%v", args)
	}
}

func TestABucketIsListedAndWrittenTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + dir + "}"
	out, _, err := runCheck(t, "bucket", config)
	require.NoError(t, err)
	require.Contains(t, out, "can be listed")
	out, _, err = runCheck(t, "bucket", config, "--write")
	require.NoError(t, err)
	require.Contains(t, out, "an object can be written, read and deleted")
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		require.True(t, d.IsDir(), path)
		return err
	}))

	_, exit, err := runCheck(t, "bucket", "--objstore.config=type: S3\nconfig: {bucket: b, endpoint: '127.0.0.1:1', insecure: true, access_key: a, secret_key: s}", "--timeout=2s")
	require.Equal(t, 1, exit)
	require.ErrorContains(t, err, "cannot be reached")
}
