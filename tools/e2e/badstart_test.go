package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// allServices are the processes of the stack by their binaries, with what each needs to start at all.
func allServices(t *testing.T) map[string][]string {
	t.Helper()
	anywhere := []string{"--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"}
	bucket := "--objstore.config={type: FILESYSTEM, config: {directory: " + t.TempDir() + "}}"
	return map[string][]string{
		"querier":       anywhere,
		"sidecar":       append([]string{"--prometheus.url=http://127.0.0.1:1", "--prometheus.ready_timeout=1s", "--tsdb.path=" + t.TempDir()}, anywhere...),
		"store-gateway": append([]string{"--data-dir=" + t.TempDir(), bucket}, anywhere...),
	}
}

// dies demands that a service ends at once with exit code 1 and a last line that has all parts.
func dies(t *testing.T, service string, args []string, parts ...string) {
	t.Helper()
	out, code := harness.Output(t, service, args...)
	require.Equal(t, 1, code, out)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := lines[len(lines)-1]
	require.True(t, strings.HasPrefix(last, service+": "), "the last line is the service's own: %s", out)
	for _, part := range parts {
		require.Contains(t, last, part)
	}
}

// without returns args without the flags of these names.
func without(args []string, names ...string) (left []string) {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		keep := true
		for _, n := range names {
			keep = keep && name != n
		}
		if keep {
			left = append(left, arg)
		}
	}
	return left
}

func TestAServiceThatCannotStartSaysWhyInItsLastLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	open := file("open.yml", "type: FILESYSTEM\nconfig:\n  directory: [x\nprefix: y\n")
	amiss := file("amiss.yml", "options:\n  level: INFO\n   decision: x\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	port := taken.Addr().String()

	for service, args := range allServices(t) {
		for name, tc := range map[string]struct {
			replaced []string
			args     []string
			parts    []string
		}{
			"unknown flag":      {nil, []string{"--htp-address=x"}, []string{"--htp-address"}},
			"unknown word":      {nil, []string{"frobnicate"}, []string{"frobnicate"}},
			"bad log level":     {nil, []string{"--log.level=loud"}, []string{"--log.level", "loud", "error, warn, info, debug"}},
			"bad duration":      {nil, []string{"--http-grace-period=2parsecs"}, []string{"--http-grace-period", "2parsecs"}},
			"bad request log":   {nil, []string{"--request.logging-config-file=" + amiss}, []string{amiss + ":3"}},
			"bad tracing":       {nil, []string{"--tracing.config={type: OTPL}"}, []string{"--tracing.config", "OTPL", "OTLP"}},
			"HTTP port taken":   {[]string{"--http-address"}, []string{"--http-address=" + port}, []string{"--http-address", port, "in use"}},
			"gRPC port taken":   {[]string{"--grpc-address"}, []string{"--grpc-address=" + port}, []string{"--grpc-address", port, "in use"}},
			"no certificate":    {nil, []string{"--grpc-server-tls-cert=/none", "--grpc-server-tls-key=/none"}, []string{"/none"}},
			"half a key pair":   {nil, []string{"--grpc-server-tls-cert=/none"}, []string{"--grpc-server-tls-key"}},
			"no web config":     {nil, []string{"--http.config=/none.yml"}, []string{"--http.config", "/none.yml"}},
			"content and file":  {nil, []string{"--request.logging-config={}", "--request.logging-config-file=" + amiss}, []string{"--request.logging-config", "together"}},
			"value out of type": {nil, []string{"--auto-gomemlimit.ratio=many"}, []string{"--auto-gomemlimit.ratio", "many"}},
		} {
			t.Run(service+" "+name, func(t *testing.T) {
				t.Parallel()
				dies(t, service, append(without(args, tc.replaced...), tc.args...), tc.parts...)
			})
		}
		if service == "querier" {
			continue
		}
		for name, tc := range map[string]struct {
			arg   string
			parts []string
		}{
			"unparsable bucket file":  {"--objstore.config-file=" + open, []string{open, "line 3"}},
			"no bucket file":          {"--objstore.config-file=/none.yml", []string{"--objstore.config-file", "/none.yml"}},
			"unknown bucket type":     {"--objstore.config={type: FLOPPY}", []string{"--objstore.config", "FLOPPY", "FILESYSTEM"}},
			"unknown bucket key":      {"--objstore.config={type: FILESYSTEM, config: {directry: x}}", []string{"--objstore.config", "directry"}},
			"unset variable":          {"--objstore.config={type: $(E2E_NO_SUCH_VARIABLE)}", []string{"--objstore.config", "E2E_NO_SUCH_VARIABLE"}},
			"bucket folder is a file": {"--objstore.config={type: FILESYSTEM, config: {directory: " + open + "}}", []string{open, "not a directory"}},
		} {
			t.Run(service+" "+name, func(t *testing.T) {
				t.Parallel()
				dies(t, service, append(without(args, "--objstore.config"), tc.arg), tc.parts...)
			})
		}
	}
}

func TestAQuerierNamesTheEndpointThatMakesNoSense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := filepath.Join(dir, "endpoints.yml")
	require.NoError(t, os.WriteFile(broken, []byte("endpoints:\n- address: a:1\n- {address: b:1\n- address: c:1\n"), 0o600))
	for name, tc := range map[string]struct{ args, parts []string }{
		"unparsable file": {[]string{"--endpoint.sd-config-file=" + broken}, []string{broken + ":3"}},
		"unknown key":     {[]string{"--endpoint.sd-config=endpoints: [{adress: x}]"}, []string{"querier: --endpoint.sd-config:1", "adress"}},
		"strict with DNS": {[]string{"--endpoint-strict=dns+localhost:1"}, []string{"--endpoint-strict=dns+localhost:1", "strict"}},
		"unknown lookup":  {[]string{"--store=carrier+pigeon:1"}, []string{"carrier", "dnssrv"}},
		"no port":         {[]string{"--endpoint=dns+localhost"}, []string{"dns+localhost", "port"}},
		"unknown engine":  {[]string{"--query.promql-engine=steam"}, []string{"--query.promql-engine", "steam", "prometheus, thanos"}},
		"unknown dedup":   {[]string{"--deduplication.func=coin"}, []string{"--deduplication.func", "coin", "penalty, chain"}},
		"bad label":       {[]string{"--selector-label=foo"}, []string{"--selector-label", "foo"}},
		"bad relabel":     {[]string{"--selector.relabel-config=- {action: paint}"}, []string{"--selector.relabel-config", "paint"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dies(t, "querier", append(allServices(t)["querier"], tc.args...), tc.parts...)
		})
	}
}
