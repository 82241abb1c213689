// Package image puts one static binary into an image that holds nothing else but what a program needs of a system: the
// certificate authorities, a user that is not root, and a folder for temporary files.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Spec is what one image is made of.
type Spec struct {
	// Name is the program's; it becomes /bin/<Name> and the entry point.
	Name string
	// Tag is how the image is called when it is loaded.
	Tag string
	// Version and Revision go into the labels.
	Version, Revision string
	// Binary is the program, Certificates a PEM bundle.
	Binary, Certificates []byte
}

// user is nobody, as the manifests have it.
const user = "65534:65534"

// Write makes the image file at path, in the format of `docker save`, and returns the compressed size of the layers in
// bytes. The same spec gives the same bytes: every file and the image are dated with the start of Unix time.
func Write(path string, s Spec) (int64, error) {
	img, err := Build(s)
	if err != nil {
		return 0, err
	}
	tag, err := name.NewTag(s.Tag)
	if err != nil {
		return 0, fmt.Errorf("tag %q: %w", s.Tag, err)
	}
	layers, err := img.Layers()
	if err != nil {
		return 0, err
	}
	var size int64
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, tarball.WriteToFile(path, tag, img)
}

// Build makes the image.
func Build(s Spec) (v1.Image, error) {
	system, err := layer(
		entry{"etc/passwd", 0o644, []byte("nobody:x:65534:65534:nobody:/:/sbin/nologin\n")},
		entry{"etc/group", 0o644, []byte("nogroup:x:65534:\n")},
		entry{"etc/ssl/certs/ca-certificates.crt", 0o644, s.Certificates},
		entry{"tmp/", 0o1777, nil},
	)
	if err != nil {
		return nil, err
	}
	program, err := layer(entry{"bin/" + s.Name, 0o755, s.Binary})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, system, program)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Config = v1.Config{
		Entrypoint: []string{"/bin/" + s.Name}, User: user, WorkingDir: "/",
		Env: []string{"PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels: map[string]string{
			"org.opencontainers.image.title": s.Name, "org.opencontainers.image.version": s.Version, "org.opencontainers.image.revision": s.Revision,
			"org.opencontainers.image.source": "https://github.com/promontory-io/promontory", "org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(img, file)
}

// entry is a file, or a folder when its path ends with a slash.
type entry struct {
	path    string
	mode    int64
	content []byte
}

func layer(entries ...entry) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		kind := byte(tar.TypeReg)
		if e.path[len(e.path)-1] == '/' {
			kind = tar.TypeDir
		}
		err := w.WriteHeader(&tar.Header{Typeflag: kind, Name: e.path, Mode: e.mode, Size: int64(len(e.content)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		if err != nil {
			return nil, fmt.Errorf("add %s: %w", e.path, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("add %s: %w", e.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}
