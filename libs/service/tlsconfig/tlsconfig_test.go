package tlsconfig

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/internal/testcert"
)

// handshake connects client and server and returns what the client saw, and the error of either side.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if err = s.Handshake(); err == nil {
			// A TLS 1.3 client learns only by reading that its certificate was accepted.
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	c := tls.Client(conn, client)
	clientErr := c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	if clientErr != nil {
		conn.Close()
	}
	return c.ConnectionState(), <-done, clientErr
}

type pki struct {
	ca                    *testcert.CA
	dir                   string
	serverCert, serverKey string
	clientCert, clientKey string
}

func newPKI(t *testing.T) pki {
	t.Helper()
	dir := t.TempDir()
	p := pki{
		ca: testcert.NewCA(t, dir), dir: dir,
		serverCert: filepath.Join(dir, "server.crt"), serverKey: filepath.Join(dir, "server.key"),
		clientCert: filepath.Join(dir, "client.crt"), clientKey: filepath.Join(dir, "client.key"),
	}
	p.ca.Issue(t, p.serverCert, p.serverKey, "server.test")
	p.ca.Issue(t, p.clientCert, p.clientKey, "client.test")
	return p
}

func (p pki) server() Server {
	s := DefaultServer()
	s.CertFile, s.KeyFile = p.serverCert, p.serverKey
	return s
}

func (p pki) client() Client {
	c := DefaultClient()
	c.Enabled, c.CAFile = true, p.ca.File
	return c
}

func TestARenewedCertificateIsUsedByTheNextHandshake(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s, c := p.server(), p.client()
	server, err := s.Config()
	require.NoError(t, err)
	client, err := c.Config("server.test")
	require.NoError(t, err)

	state, serverErr, clientErr := handshake(t, server, client)
	require.NoError(t, serverErr)
	require.NoError(t, clientErr)
	require.Equal(t, uint16(tls.VersionTLS13), state.Version)
	old := state.PeerCertificates[0].SerialNumber.Int64()

	serial := p.ca.Issue(t, p.serverCert, p.serverKey, "server.test")
	state, _, clientErr = handshake(t, server, client)
	require.NoError(t, clientErr)
	require.Equal(t, serial, state.PeerCertificates[0].SerialNumber.Int64())
	require.NotEqual(t, old, serial)

	require.NoError(t, os.WriteFile(p.serverCert, []byte("half writ"), 0o600))
	state, _, clientErr = handshake(t, server, client)
	require.NoError(t, clientErr, "the last good certificate goes on")
	require.Equal(t, serial, state.PeerCertificates[0].SerialNumber.Int64())

	require.NoError(t, os.Remove(p.serverKey))
	_, _, clientErr = handshake(t, server, client)
	require.NoError(t, clientErr)
}

func TestAClientCAMakesClientCertificatesMandatory(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s, c := p.server(), p.client()
	s.ClientCAFile = p.ca.File
	server, err := s.Config()
	require.NoError(t, err)

	without, err := c.Config("server.test")
	require.NoError(t, err)
	_, serverErr, clientErr := handshake(t, server, without)
	require.Error(t, serverErr)
	require.Error(t, clientErr)

	c.CertFile, c.KeyFile = p.clientCert, p.clientKey
	with, err := c.Config("server.test")
	require.NoError(t, err)
	_, serverErr, clientErr = handshake(t, server, with)
	require.NoError(t, serverErr)
	require.NoError(t, clientErr)

	otherDir := t.TempDir()
	other := testcert.NewCA(t, otherDir)
	other.Issue(t, p.clientCert, p.clientKey, "client.test")
	_, serverErr, _ = handshake(t, server, with)
	require.Error(t, serverErr, "signed by a stranger")
}

func TestTheServerIsVerifiedUnlessToldNotTo(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s, c := p.server(), p.client()
	server, err := s.Config()
	require.NoError(t, err)

	wrongName, err := c.Config("other.test")
	require.NoError(t, err)
	_, _, clientErr := handshake(t, server, wrongName)
	require.ErrorContains(t, clientErr, "other.test")

	c.InsecureSkipVerify = true
	blind, err := c.Config("other.test")
	require.NoError(t, err)
	_, _, clientErr = handshake(t, server, blind)
	require.NoError(t, clientErr)
}

func TestVersionsCiphersAndCurvesAreKept(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s := p.server()
	s.MinVersion, s.Ciphers, s.Curves = "1.2", []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, []string{"CurveP384"}
	require.NoError(t, s.Validate("grpc-server-tls"))
	server, err := s.Config()
	require.NoError(t, err)
	c := p.client()
	c.MinVersion = "1.2"
	client, err := c.Config("server.test")
	require.NoError(t, err)
	client.MaxVersion = tls.VersionTLS12
	state, _, clientErr := handshake(t, server, client)
	require.NoError(t, clientErr)
	require.Equal(t, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, state.CipherSuite)

	client.CurvePreferences = []tls.CurveID{tls.CurveP256}
	_, _, clientErr = handshake(t, server, client)
	require.Error(t, clientErr, "no curve in common")

	s.MinVersion, s.Curves = "1.3", nil
	server, err = s.Config()
	require.NoError(t, err)
	client.CurvePreferences = nil
	_, _, clientErr = handshake(t, server, client)
	require.Error(t, clientErr, "the client speaks 1.2 at most")
}

func TestBadServerSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		change func(*Server)
		want   string
	}{
		{func(s *Server) { s.CertFile = "c" }, "--p-cert and --p-key: give both or none"},
		{func(s *Server) { s.KeyFile = "k" }, "--p-cert and --p-key: give both or none"},
		{func(s *Server) { s.ClientCAFile = "ca" }, "--p-client-ca: needs --p-cert and --p-key"},
		{func(s *Server) { s.MinVersion = "1.4" }, `--p-min-version: unknown TLS version "1.4"`},
		{func(s *Server) { s.Ciphers = []string{"ROT13"} }, `--p-ciphers: unknown cipher suite "ROT13"`},
		{func(s *Server) { s.Curves = []string{"round"} }, `--p-curves: unknown curve "round"`},
	} {
		s := DefaultServer()
		tc.change(&s)
		require.ErrorContains(t, s.Validate("p"), tc.want)
		_, err := s.Config()
		if s.Enabled() || s.ClientCAFile != "" {
			require.Error(t, err)
		}
	}
	off := DefaultServer()
	cfg, err := off.Config()
	require.NoError(t, err)
	require.Nil(t, cfg)
}

func TestFilesThatCannotBeReadAreNamed(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	none := filepath.Join(p.dir, "none")
	s := p.server()
	s.CertFile = none
	_, err := s.Config()
	require.ErrorContains(t, err, none)
	s = p.server()
	s.ClientCAFile = p.serverKey
	_, err = s.Config()
	require.ErrorContains(t, err, "no PEM certificate in "+p.serverKey)
	c := p.client()
	c.CAFile = none
	_, err = c.Config("")
	require.ErrorContains(t, err, none)
	c = p.client()
	c.KeyFile = p.clientKey
	_, err = c.Config("")
	require.ErrorContains(t, err, "give both or none")
}

func TestFlagsReachTheSettings(t *testing.T) {
	t.Parallel()
	s, c := DefaultServer(), DefaultClient()
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	s.BindFlags(fs, "grpc-server-tls")
	c.BindFlags(fs, "grpc-client-tls")
	require.NoError(t, fs.Parse([]string{
		"--grpc-server-tls-cert=a", "--grpc-server-tls-key=b", "--grpc-server-tls-client-ca=c", "--grpc-server-tls-min-version=1.2",
		"--grpc-server-tls-ciphers=X", "--grpc-server-tls-ciphers=Y", "--grpc-server-tls-curves=P256,X25519",
		"--grpc-client-tls-secure", "--grpc-client-tls-skip-verify", "--grpc-client-tls-cert=d", "--grpc-client-tls-key=e",
		"--grpc-client-tls-ca=f", "--grpc-client-tls-min-version=1.0",
	}))
	require.NoError(t, flags.Check(fs))
	require.Equal(t, Server{"a", "b", "c", "1.2", []string{"X", "Y"}, []string{"P256", "X25519"}}, s)
	require.Equal(t, Client{true, true, "d", "e", "f", "1.0"}, c)
}
