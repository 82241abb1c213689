// Package tlsconfig makes TLS settings of flags and files, for both ends of a
// connection.
//
// Certificates are read again at a handshake when their file has changed, so
// that a renewed certificate needs no restart.
package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Server is how a server speaks TLS. Without certificate and key it does not.
type Server struct {
	// CertFile and KeyFile are PEM files; both or none.
	CertFile string
	KeyFile  string
	// ClientCAFile, where set, makes client certificates mandatory: signed by one of these.
	ClientCAFile string
	// MinVersion is 1.0, 1.1, 1.2 or 1.3.
	MinVersion string
	// Ciphers are the names of the cipher suites allowed up to TLS 1.2; none means Go's choice.
	Ciphers []string
	// Curves are the names of the key exchanges allowed; none means Go's choice.
	Curves []string
}

// DefaultServer returns the settings of a server without TLS, ready for a certificate.
func DefaultServer() Server { return Server{MinVersion: "1.3"} }

// Versions are the words for TLS versions.
var versions = map[string]uint16{
	"1.0": tls.VersionTLS10,
	"1.1": tls.VersionTLS11,
	"1.2": tls.VersionTLS12,
	"1.3": tls.VersionTLS13,
}

// versionWords are the keys of versions in the order they are shown.
func versionWords() []string { return []string{"1.0", "1.1", "1.2", "1.3"} }

// curves are the key exchanges under their Go names and their usual ones.
var curves = map[string]tls.CurveID{
	"CurveP256":      tls.CurveP256,
	"CurveP384":      tls.CurveP384,
	"CurveP521":      tls.CurveP521,
	"X25519":         tls.X25519,
	"X25519MLKEM768": tls.X25519MLKEM768,
	"P256":           tls.CurveP256,
	"P384":           tls.CurveP384,
	"P521":           tls.CurveP521,
}

// BindFlags binds --<prefix>-cert, -key, -client-ca, -min-version, -ciphers and -curves.
func (c *Server) BindFlags(fs *pflag.FlagSet, prefix string) {
	flags.String(fs, &c.CertFile, prefix+"-cert", "TLS certificate of the server, a PEM file; empty means no TLS.")
	flags.String(fs, &c.KeyFile, prefix+"-key", "TLS key of the server, a PEM file; empty means no TLS.")
	flags.String(fs, &c.ClientCAFile, prefix+"-client-ca", "CA that client certificates have to be signed by, a PEM file; empty means that none are asked for.")
	flags.Enum(fs, &c.MinVersion, prefix+"-min-version", "Lowest TLS version that is accepted.", versionWords()...)
	flags.List(fs, &c.Ciphers, prefix+"-ciphers", "TLS cipher suite to allow up to TLS 1.2, by its IANA name; may be repeated.")
	flags.List(fs, &c.Curves, prefix+"-curves", "TLS key exchange to allow, for example CurveP256 or X25519; may be repeated.")
}

// Enabled reports whether the server speaks TLS.
func (c *Server) Enabled() bool { return c.CertFile != "" || c.KeyFile != "" }

// Validate returns all that is wrong with the settings, without looking at the files. Prefix is
// that of the flags, for the messages.
func (c *Server) Validate(prefix string) error {
	var errs []error
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, fmt.Errorf("--%s-cert and --%s-key: give both or none", prefix, prefix))
	}
	if c.ClientCAFile != "" && !c.Enabled() {
		errs = append(errs, fmt.Errorf("--%s-client-ca: needs --%s-cert and --%s-key", prefix, prefix, prefix))
	}
	if _, ok := versions[c.MinVersion]; !ok {
		errs = append(errs, fmt.Errorf("--%s-min-version: unknown TLS version %q", prefix, c.MinVersion))
	}
	if _, err := cipherIDs(c.Ciphers); err != nil {
		errs = append(errs, fmt.Errorf("--%s-ciphers: %w", prefix, err))
	}
	if _, err := curveIDs(c.Curves); err != nil {
		errs = append(errs, fmt.Errorf("--%s-curves: %w", prefix, err))
	}
	return errors.Join(errs...)
}

// Config reads the files and returns the settings for crypto/tls, nil when the server does not
// speak TLS.
func (c *Server) Config() (*tls.Config, error) {
	if !c.Enabled() {
		if c.ClientCAFile != "" {
			return nil, errors.New("a client CA needs a certificate and a key")
		}
		return nil, nil
	}
	if c.CertFile == "" || c.KeyFile == "" {
		return nil, errors.New("certificate and key: give both or none")
	}
	min, ok := versions[c.MinVersion]
	if !ok {
		return nil, fmt.Errorf("unknown TLS version %q", c.MinVersion)
	}
	ciphers, err := cipherIDs(c.Ciphers)
	if err != nil {
		return nil, err
	}
	curveList, err := curveIDs(c.Curves)
	if err != nil {
		return nil, err
	}
	pair, err := newReloader(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:       min,
		CipherSuites:     ciphers,
		CurvePreferences: curveList,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return pair.certificate()
		},
	}
	if c.ClientCAFile == "" {
		return cfg, nil
	}
	if cfg.ClientCAs, err = readCA(c.ClientCAFile); err != nil {
		return nil, err
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	return cfg, nil
}

func readCA(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA: no PEM certificate in %s", path)
	}
	return pool, nil
}

func cipherIDs(names []string) ([]uint16, error) {
	all := slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites())
	var ids []uint16
	for _, name := range names {
		i := slices.IndexFunc(all, func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown cipher suite %q", name)
		}
		ids = append(ids, all[i].ID)
	}
	return ids, nil
}

func curveIDs(names []string) ([]tls.CurveID, error) {
	var ids []tls.CurveID
	for _, name := range names {
		id, ok := curves[name]
		if !ok {
			known := slices.Sorted(func(yield func(string) bool) {
				for n := range curves {
					if !yield(n) {
						return
					}
				}
			})
			return nil, fmt.Errorf("unknown curve %q, want one of %s", name, strings.Join(known, ", "))
		}
		ids = append(ids, id)
	}
	return ids, nil
}
