package app

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

func TestTargetsComeFromFlagsConfigurationAndFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sd, files := filepath.Join(dir, "sd.yml"), filepath.Join(dir, "files.yml")
	write := func(path, content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	write(sd, `
default_client_config: {compression: snappy}
endpoints:
  - {address: "sd:1", strict: true}
  - {address: "own:1", client_config: {server_name: other}}
  - {address: "dns+group:1", group: true, service_config: '{"a": 1}'}
`)
	write(files, `[{targets: ["file:1"]}]`)
	cfg := DefaultConfig()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg.BindFlags(fs)
	require.NoError(t, fs.Parse([]string{
		"--endpoint.sd-config-file=" + sd, "--store.sd-files=" + files, "--endpoint=plain:1", "--store=127.0.0.1:7",
		"--endpoint-strict=strict:1", "--endpoint-group=dns+g:1", "--endpoint-group-strict=dns+gs:1", "--grpc-client-server-name=flag",
	}))
	require.NoError(t, flags.Check(fs))
	require.NoError(t, cfg.Validate())
	d, err := newDiscoverer(cfg.Endpoints, cfg.Client, zap.NewNop(), nil)
	require.NoError(t, err)
	require.NoError(t, d.files.Refresh())

	fromFlags := grpcclient.DefaultConfig()
	fromFlags.ServerName = "flag"
	snappy, other := grpcclient.DefaultConfig(), grpcclient.DefaultConfig()
	snappy.Compression, other.ServerName = "snappy", "other"
	snappy.TLS.MinVersion, other.TLS.MinVersion = "", ""
	require.Equal(t, []endpoints.Target{
		{Addr: "sd:1", Strict: true, Client: snappy},
		{Addr: "own:1", Client: other},
		{Addr: "dns+group:1", Group: true, ServiceConfig: `{"a": 1}`, Client: snappy},
		{Addr: "strict:1", Strict: true, Client: fromFlags},
		{Addr: "dns+gs:1", Strict: true, Group: true, Client: fromFlags},
		{Addr: "dns+g:1", Group: true, Client: fromFlags},
		{Addr: "plain:1", Client: fromFlags},
		{Addr: "127.0.0.1:7", Client: fromFlags},
		{Addr: "file:1", Discovered: true, Client: fromFlags},
	}, d.targets())

	// A broken file keeps what was known; a good one replaces it.
	write(sd, "endpoints: [{adress: x}]")
	require.ErrorContains(t, d.reload(t.Context()), sd+":1")
	require.Len(t, d.targets(), 9)
	write(sd, "endpoints: [{address: 'new:1'}]")
	require.NoError(t, d.reload(t.Context()))
	require.Equal(t, "new:1", d.targets()[0].Addr)
	require.Len(t, d.targets(), 7)
}

func TestNamesAreLookedUpAgainWhenTheConfigurationChanges(t *testing.T) {
	t.Parallel()
	sd := filepath.Join(t.TempDir(), "sd.yml")
	require.NoError(t, os.WriteFile(sd, []byte("endpoints: []"), 0o600))
	cfg := DefaultConfig().Endpoints
	cfg.SDConfig = flags.FileContent("endpoint.sd-config", sd)
	d, err := newDiscoverer(cfg, grpcclient.DefaultConfig(), zap.NewNop(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.run(ctx) }()
	// A name that DNS need not be asked for.
	require.NoError(t, os.WriteFile(sd, []byte("endpoints: [{address: '127.0.0.1:7', group: true}]"), 0o600))
	require.NoError(t, d.reload(ctx))
	require.Eventually(t, func() bool { return len(d.groupAddresses("127.0.0.1:7")) == 1 }, 5*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
