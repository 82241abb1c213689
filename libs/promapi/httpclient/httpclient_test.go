package httpclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/config"
	"github.com/stretchr/testify/require"
)

func TestAllKeysAreReadAndMissingOnesHaveDefaults(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", nil)
	require.NoError(t, err)
	require.Equal(t, DefaultConfig(), c)

	c, err = Parse("f", []byte(`
basic_auth: {username: u, password_file: p}
proxy_url: http://proxy:3128
tls_config: {ca_file: ca, cert_file: c, key_file: k, server_name: s, insecure_skip_verify: true}
transport_config:
  max_idle_conns: 1
  max_idle_conns_per_host: 2
  idle_conn_timeout: 3000000000
  response_header_timeout: 4000000000
  expect_continue_timeout: 5s
  max_conns_per_host: 6
  disable_compression: true
  tls_handshake_timeout: 1
`))
	require.NoError(t, err)
	require.Equal(t, Config{
		BasicAuth: BasicAuth{Username: "u", PasswordFile: "p"},
		ProxyURL:  "http://proxy:3128",
		TLS:       TLS{CAFile: "ca", CertFile: "c", KeyFile: "k", ServerName: "s", InsecureSkipVerify: true},
		Transport: Transport{
			MaxIdleConns: 1, MaxIdleConnsPerHost: 2, IdleConnTimeout: Duration(3 * time.Second), ResponseHeaderTimeout: Duration(4 * time.Second),
			ExpectContinueTimeout: Duration(5 * time.Second), MaxConnsPerHost: 6, DisableCompression: true, TLSHandshakeTimeout: 1,
			DialerTimeout: Duration(5 * time.Second),
		},
	}, c)
}

func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"basic_atuh: {}\n":                                         `f:1: unknown key "basic_atuh"`,
		"transport_config:\n  idle_timeout: 1\n":                   `f:2: unknown key "idle_timeout"`,
		"transport_config:\n  idle_conn_timeout: soon\n":           `f:2: "soon" is neither nanoseconds nor a duration such as 90s`,
		"transport_config: {max_idle_conns: -1}":                   `f: transport_config: max_idle_conns must not be negative`,
		"basic_auth: {username: u, password: p, password_file: f}": `f: basic_auth: only one of password and password_file may be given`,
		"{bearer_token: a, bearer_token_file: b}":                  `f: only one of bearer_token and bearer_token_file may be given`,
		"{bearer_token: a, basic_auth: {username: u}}":             `f: only one of basic_auth and bearer_token or bearer_token_file may be given`,
		"tls_config: {cert_file: c}":                               `f: tls_config: cert_file and key_file must be given together`,
		"proxy_url: '::'":                                          `f: proxy_url: parse "::": missing protocol scheme`,
		"proxy_url: proxy":                                         `f: proxy_url: "proxy" is not an absolute URL`,
	} {
		_, err := Parse("f", []byte(in))
		require.EqualError(t, err, want)
	}
	_, err := New(Config{TLS: TLS{CAFile: "/does/not/exist"}}, "")
	require.ErrorContains(t, err, "/does/not/exist")
}

// echo answers with the headers that matter here.
func echo(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s|%s", r.Header.Get("Authorization"), r.UserAgent())
}

func get(t testing.TB, c *http.Client, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b), nil
}

func TestCredentialsAreSentAndReadAnewFromFiles(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(echo))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("one\n"), 0o600))
	for name, tc := range map[string]struct {
		mod         func(*Config)
		want, after string
	}{
		"none":           {func(*Config) {}, "|agent/1", "|agent/1"},
		"basic":          {func(c *Config) { c.BasicAuth = BasicAuth{Username: "u", Password: "p"} }, "Basic dTpw|agent/1", "Basic dTpw|agent/1"},
		"basic by file":  {func(c *Config) { c.BasicAuth = BasicAuth{Username: "u", PasswordFile: file} }, "Basic dTpvbmU=|agent/1", "Basic dTp0d28=|agent/1"},
		"bearer":         {func(c *Config) { c.BearerToken = config.Secret("t") }, "Bearer t|agent/1", "Bearer t|agent/1"},
		"bearer by file": {func(c *Config) { c.BearerTokenFile = file }, "Bearer one|agent/1", "Bearer two|agent/1"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, []byte("one\n"), 0o600))
			conf := DefaultConfig()
			tc.mod(&conf)
			c, err := New(conf, "agent/1")
			require.NoError(t, err)
			got, err := get(t, c, srv.URL)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
			require.NoError(t, os.WriteFile(file, []byte("two\n"), 0o600))
			got, err = get(t, c, srv.URL)
			require.NoError(t, err)
			require.Equal(t, tc.after, got)
		})
	}
}

func TestRequestsGoThroughTheProxy(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "via proxy: ", r.URL) }))
	defer proxy.Close()
	conf := DefaultConfig()
	conf.ProxyURL = proxy.URL
	c, err := New(conf, "")
	require.NoError(t, err)
	got, err := get(t, c, "http://prometheus.invalid/x")
	require.NoError(t, err)
	require.Equal(t, "via proxy: http://prometheus.invalid/x", got)
}

func TestServersAndClientsAreVerifiedByCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clientCert, clientKey := writeCertificate(t, dir, "client")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close) // after the parallel sub-tests
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))

	for name, tc := range map[string]struct {
		tls     TLS
		wantErr string
	}{
		"right CA":       {TLS{CAFile: ca, CertFile: clientCert, KeyFile: clientKey}, ""},
		"server name":    {TLS{CAFile: ca, CertFile: clientCert, KeyFile: clientKey, ServerName: "example.com"}, ""},
		"not verified":   {TLS{CertFile: clientCert, KeyFile: clientKey, InsecureSkipVerify: true}, ""},
		"unknown CA":     {TLS{CertFile: clientCert, KeyFile: clientKey}, "certificate signed by unknown authority"},
		"other name":     {TLS{CAFile: ca, CertFile: clientCert, KeyFile: clientKey, ServerName: "other.test"}, "not other.test"},
		"no certificate": {TLS{CAFile: ca}, "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := DefaultConfig()
			conf.TLS = tc.tls
			c, err := New(conf, "")
			require.NoError(t, err)
			got, err := get(t, c, srv.URL)
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "client", got)
		})
	}
}

func writeCertificate(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
	return certFile, keyFile
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("basic_auth: {username: u}"))
	f.Add([]byte("transport_config: {idle_conn_timeout: 90s, max_idle_conns: 1}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("f", b)
		if err == nil {
			require.NoError(t, c.Validate())
		}
	})
}
