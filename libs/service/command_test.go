package service

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/httpserver"
)

// testSettings stands for the configuration of a service.
type testSettings struct {
	limit int
	dedup bool
	web   httpserver.WebConfig
	call  grpcclient.Config
	store flags.Content
}

func (s *testSettings) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Querier", func(fs *pflag.FlagSet) {
		flags.Int(fs, &s.limit, "query.limit", "Most of them.")
		flags.Bool(fs, &s.dedup, "query.dedup", "Merge replicas.")
		flags.BindContent(fs, &s.store, "store.config", "YAML of stores.")
		flags.Removed(fs, "rule", "use --endpoint")
	})
	flags.Group(fs, "Web", func(fs *pflag.FlagSet) {
		s.web.BindRoutePrefix(fs)
		s.web.BindFlags(fs)
	})
	flags.Group(fs, "gRPC client", s.call.BindFlags)
}

func (s *testSettings) Validate() error {
	if s.limit < 0 {
		return errors.New("--query.limit: negative")
	}
	return nil
}

// execute runs a command with everything on loopback; run is called if it gets that far.
func execute(t *testing.T, run func(context.Context, *Process) error, args ...string) (stdout, logs string, err error) {
	t.Helper()
	common := DefaultConfig("query")
	common.HTTP.Address, common.GRPC.Address = "127.0.0.1:0", "127.0.0.1:0"
	settings := &testSettings{limit: 5, dedup: true, call: grpcclient.DefaultConfig()}
	var out, log bytes.Buffer
	if run == nil {
		run = func(context.Context, *Process) error { return nil }
	}
	cmd := NewCommand(Command{
		Name: "querier", Short: "Answers queries.",
		Words:  [][]string{{"query"}, {"tools", "bucket", "web"}},
		Common: &common, Settings: settings, Run: run, LogOutput: &log,
	})
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	if args == nil {
		args = []string{}
	}
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), log.String(), err
}

func TestLeadingWordsAreAccepted(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"query"},
		{"query", "--query.limit=3"},
		{"--log.level=debug", "query", "--query.limit", "3"},
		{"tools", "bucket", "web", "--no-query.dedup"},
	} {
		_, _, err := execute(t, nil, args...)
		require.NoError(t, err, "%v", args)
	}
	for _, args := range [][]string{{"store"}, {"query", "query"}, {"tools"}, {"tools", "bucket", "webb"}} {
		_, _, err := execute(t, nil, args...)
		require.EqualError(t, err, `unexpected argument "`+strings.Join(args, " ")+`": besides flags only "query" or "tools bucket web" may be given`)
	}
}

func TestAnUnknownFlagIsNamedWithItsNeighbour(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"--query.limt=3":        "unknown flag --query.limt, did you mean --query.limit?",
		"--grpc-adress=x":       "unknown flag --grpc-adress, did you mean --grpc-address?",
		"--nothing.of.the.kind": "unknown flag --nothing.of.the.kind",
		"-x":                    "unknown flag -x",
		"--query.limit":         "flag needs an argument: --query.limit",
	} {
		_, _, err := execute(t, nil, arg)
		require.EqualError(t, err, want)
	}
}

func TestAllProblemsOfTheCommandLineComeAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := execute(t, func(context.Context, *Process) error {
		t.Error("must not run")
		return nil
	}, "--log.level=loud", "--query.limit=-1", "--grpc-grace-period=soon", "--grpc-server-tls-key=k", "--auto-gomemlimit.ratio=2",
		"--store.config=a", "--store.config-file=b", "--http.config=/none.yaml")
	for _, want := range []string{
		`--log.level: "loud": want one of error, warn, info, debug`,
		"--query.limit: negative",
		`--grpc-grace-period: "soon": want a duration`,
		"--grpc-server-tls-cert and --grpc-server-tls-key: give both or none",
		"--auto-gomemlimit.ratio: 2 is not above 0 and up to 1",
		"--store.config: cannot be used together with --store.config-file",
		"--http.config: /none.yaml: ",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestHelpIsGroupedAndHidesOppositesAndRemovedFlags(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"--help", "-h", "--help-long"} {
		out, _, err := execute(t, nil, arg)
		require.NoError(t, err)
		order := regexp.MustCompile(`(?m)^(\S.*):$`).FindAllStringSubmatch(out, -1)
		var titles []string
		for _, m := range order {
			titles = append(titles, m[1])
		}
		require.Equal(t, []string{"Usage", "Querier", "Web", "gRPC client", "Process", "HTTP server", "gRPC server", "Other"}, titles)
		require.Contains(t, out, "\n  --query.limit=<int> (default 5)\n      Most of them.\n")
		require.Contains(t, out, "\n  --query.dedup (on unless --no-query.dedup)\n")
		require.Contains(t, out, "\n  -h, --help\n")
		for _, hidden := range []string{"--debug.name", "--rule", "--no-help", "--no-web.disable-cors"} {
			require.NotContains(t, out, hidden)
		}
		for line := range strings.Lines(out) {
			require.LessOrEqual(t, len(line), 130, line)
		}
	}
}

func TestVersionIsPrintedWithoutRunning(t *testing.T) {
	t.Parallel()
	out, _, err := execute(t, func(context.Context, *Process) error { return errors.New("ran") }, "--version")
	require.NoError(t, err)
	require.Contains(t, out, "querier, version")
}

func TestStartIsLoggedWithWarningsAndConfigurationButNoSecrets(t *testing.T) {
	t.Parallel()
	_, logs, err := execute(t, nil, "--rule=x", "--store.config=password: hunter2", "--enable-auto-gomemlimit")
	require.NoError(t, err)
	require.Contains(t, logs, "msg=starting service=querier")
	require.Contains(t, logs, `level=warn msg=flag note="--rule is accepted but does nothing: use --endpoint"`)
	require.Contains(t, logs, `\"query.limit\":\"5\"`)
	require.Contains(t, logs, "store.config")
	require.NotContains(t, logs, "hunter2")
	require.Regexp(t, "GOMEMLIMIT is (not )?set", logs)
}

func TestTheErrorOfTheServiceIsThatOfTheCommand(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	_, _, err := execute(t, func(context.Context, *Process) error { return boom })
	require.ErrorIs(t, err, boom)
}

func TestUnusableContentIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "t.yaml")
	require.NoError(t, os.WriteFile(path, []byte("type: OTLP\nconfig:\n  endpont: x\n"), 0o600))
	_, _, err := execute(t, nil, "--tracing.config-file="+path)
	require.EqualError(t, err, "tracing: "+path+":3: unknown key endpont")
	_, _, err = execute(t, nil, "--request.logging-config=options: {level: LOUD}")
	require.ErrorContains(t, err, `request log: --request.logging-config: http.options.level: unknown level "LOUD"`)
}

// readTSV returns the rows of a recorded table.
func readTSV(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	require.NoError(t, err)
	require.NotEmpty(t, rows)
	return rows
}

var recordedFlag = regexp.MustCompile(`^(?:-\w, )?--(\[no-\])?([\w.-]+)(?:=(.*))?$`)

func TestRecordedFlagsExistWithTheirDefaults(t *testing.T) {
	t.Parallel()
	common := DefaultConfig("query")
	settings := &testSettings{call: grpcclient.DefaultConfig()}
	fs := NewCommand(Command{Name: "querier", Common: &common, Settings: settings}).Flags()
	for _, row := range readTSV(t, "flags.tsv") {
		m := recordedFlag.FindStringSubmatch(row[1])
		require.NotNil(t, m, row[1])
		negatable, name, want := m[1] != "", m[2], strings.Trim(m[3], `"`)
		f := fs.Lookup(name)
		require.NotNil(t, f, "--%s", name)
		if negatable {
			require.NotNil(t, fs.Lookup("no-"+name), "--no-%s", name)
			want = "false"
		}
		// A placeholder stands for a flag without a default.
		if strings.HasPrefix(want, "<") || want == strings.ToUpper(name) {
			want = ""
		}
		got := f.DefValue
		if d, err := model.ParseDuration(want); err == nil && f.Value.Type() == "duration" {
			want = flags.FormatDuration(timeDuration(d))
		}
		if name == "help-long" {
			want = "false"
		}
		require.Equal(t, want, got, "default of --%s", name)
	}
}
