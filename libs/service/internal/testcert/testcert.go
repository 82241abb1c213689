// Package testcert makes certificates for tests of TLS.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// CA signs certificates.
type CA struct {
	// File is the certificate of the CA.
	File string

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// NewCA returns a CA whose certificate lies in dir.
func NewCA(t testing.TB, dir string) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := template(1, "test CA")
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	ca := &CA{File: filepath.Join(dir, "ca.pem"), cert: cert, key: key, next: 2}
	write(t, ca.File, "CERTIFICATE", der)
	return ca
}

// Issue writes a certificate for name, 127.0.0.1 and localhost, and its key. The certificate's serial
// number is returned to tell it from others of the same name.
func (ca *CA) Issue(t testing.TB, certFile, keyFile, name string) (serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial = ca.next
	ca.next++
	tmpl := template(serial, name)
	tmpl.DNSNames, tmpl.IPAddresses = []string{name, "localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, &key.PublicKey, ca.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	write(t, certFile, "CERTIFICATE", der)
	write(t, keyFile, "EC PRIVATE KEY", keyDER)
	return serial
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}

// write puts a file in place whole, and with a modification time of its own: file systems with coarse
// times would make two writes of one test look like one.
func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	mod := time.Now()
	if old, err := os.Stat(path); err == nil && !mod.After(old.ModTime()) {
		mod = old.ModTime().Add(time.Second)
	}
	require.NoError(t, os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	require.NoError(t, os.Chtimes(path+".new", mod, mod))
	require.NoError(t, os.Rename(path+".new", path))
}
