package grpcclient

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/tlsconfig"
)

func TestYAMLAndFlagsSayTheSame(t *testing.T) {
	t.Parallel()
	want := Config{
		TLS:        tlsconfig.Client{Enabled: true, InsecureSkipVerify: true, CertFile: "c", KeyFile: "k", CAFile: "ca", MinVersion: "1.2"},
		ServerName: "srv", Compression: "snappy",
	}
	byYAML := DefaultConfig()
	require.NoError(t, flags.DecodeYAML("x", []byte(`
tls_config: {enabled: true, insecure_skip_verify: true, cert_file: c, key_file: k, ca_file: ca, min_version: "1.2"}
server_name: srv
compression: snappy
`), &byYAML))
	require.Equal(t, want, byYAML)
	byFlags := DefaultConfig()
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	byFlags.BindFlags(fs)
	require.NoError(t, fs.Parse([]string{
		"--grpc-client-tls-secure", "--grpc-client-tls-skip-verify", "--grpc-client-tls-cert=c", "--grpc-client-tls-key=k",
		"--grpc-client-tls-ca=ca", "--grpc-client-tls-min-version=1.2", "--grpc-client-server-name=srv", "--grpc-compression=snappy",
	}))
	require.NoError(t, flags.Check(fs))
	require.Equal(t, want, byFlags)
	require.NoError(t, byFlags.ValidateFlags())
}

func TestBadSettingsAreAllNamed(t *testing.T) {
	t.Parallel()
	c := Config{TLS: tlsconfig.Client{CertFile: "c", MinVersion: "9"}, Compression: "zip"}
	err := c.ValidateFlags()
	require.ErrorContains(t, err, "--grpc-client-tls-*")
	require.ErrorContains(t, err, "give both or none")
	require.ErrorContains(t, err, `unknown TLS version "9"`)
	require.ErrorContains(t, err, `unknown compression "zip"`)
	require.NoError(t, (&Config{}).Validate(), "the empty form, as in YAML, is fine")
}
