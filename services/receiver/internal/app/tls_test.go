package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// issue makes a certificate that signs itself, and writes it and its key.
func issue(t *testing.T, dir, name string, subject pkix.Name) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	require.NoError(t, err)
	rawKey, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(cert, text, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	return cert, key, pool
}

func TestTheCertificateNamesTheTenant(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serverCert, serverKey, pool := issue(t, dir, "server", pkix.Name{CommonName: "receiver"})
	clientCert, clientKey, _ := issue(t, dir, "client", pkix.Name{CommonName: "team-red", Organization: []string{"shop"}})
	r := start(t, func(c *Config) {
		c.Write.TLS.CertFile, c.Write.TLS.KeyFile, c.Write.TLS.ClientCAFile = serverCert, serverKey, clientCert
		c.Tenant.Field = "commonName"
	})
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	require.NoError(t, err)
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(now(), 1, "__name__", "m")}}).Marshal()
	require.NoError(t, err)
	send := func(cfg *tls.Config) (*http.Response, error) {
		tr := &http.Transport{TLSClientConfig: cfg}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequest(http.MethodPost, strings.Replace(r.write, "http://", "https://", 1)+"/api/v1/receive", bytes.NewReader(snappy.Encode(nil, raw)))
		require.NoError(t, err)
		req.Header.Set("THANOS-TENANT", "somebody-else")
		return (&http.Client{Transport: tr}).Do(req)
	}
	resp, err := send(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}})
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Equal(t, []string{`{__name__="m", replica="a", tenant_id="team-red"}`}, r.series())
	_, err = send(&tls.Config{RootCAs: pool})
	require.Error(t, err, "without a certificate")
}
