package tlsconfig

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// reloader holds a certificate and reads it again when one of its two files has changed.
type reloader struct {
	certFile, keyFile string

	mu              sync.Mutex // guards all below
	certMod, keyMod time.Time
	cert            *tls.Certificate
}

func newReloader(certFile, keyFile string) (*reloader, error) {
	r := &reloader{certFile: certFile, keyFile: keyFile}
	if _, err := r.certificate(); err != nil {
		return nil, err
	}
	return r, nil
}

// certificate returns the pair as it lies on disk. While the files cannot be read or do not
// belong together, as between two writes of a renewal, the last good pair goes on.
func (r *reloader) certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	certMod, err := modTime(r.certFile)
	if err != nil {
		return r.last(fmt.Errorf("read TLS certificate: %w", err))
	}
	keyMod, err := modTime(r.keyFile)
	if err != nil {
		return r.last(fmt.Errorf("read TLS key: %w", err))
	}
	if r.cert != nil && certMod.Equal(r.certMod) && keyMod.Equal(r.keyMod) {
		return r.cert, nil
	}
	pair, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	if err != nil {
		return r.last(fmt.Errorf("load TLS certificate %s with key %s: %w", r.certFile, r.keyFile, err))
	}
	r.cert, r.certMod, r.keyMod = &pair, certMod, keyMod
	return r.cert, nil
}

func (r *reloader) last(err error) (*tls.Certificate, error) {
	if r.cert != nil {
		return r.cert, nil
	}
	return nil, err
}

func modTime(path string) (time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
