package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

func spec() Spec {
	return Spec{
		Name: "querier", Tag: "promontory/querier:1.2.3", Version: "1.2.3", Revision: "abc",
		Binary: []byte("a program"), Certificates: []byte("authorities"),
	}
}

func TestImageHoldsTheProgramAndWhatItNeeds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "querier.tar")
	size, err := Write(path, spec())
	require.NoError(t, err)
	require.Positive(t, size)
	img, err := tarball.ImageFromPath(path, nil)
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, []string{"/bin/querier"}, file.Config.Entrypoint)
	require.Equal(t, "65534:65534", file.Config.User)
	require.Equal(t, "1.2.3", file.Config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "linux", file.OS)

	flat := mutate.Extract(img)
	defer flat.Close()
	got := map[string]int64{}
	r := tar.NewReader(flat)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got[h.Name] = h.Mode
		if h.Name == "bin/querier" {
			content, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Equal(t, "a program", string(content))
		}
	}
	require.Equal(t, map[string]int64{
		"bin/querier": 0o755, "etc/passwd": 0o644, "etc/group": 0o644, "etc/ssl/certs/ca-certificates.crt": 0o644, "tmp": 0o1777,
	}, got)
}

func TestSameSourcesMakeTheSameImage(t *testing.T) {
	t.Parallel()
	var files [2][]byte
	for i := range files {
		path := filepath.Join(t.TempDir(), "image.tar")
		_, err := Write(path, spec())
		require.NoError(t, err)
		files[i], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	require.Equal(t, files[0], files[1])
	other := spec()
	other.Binary = []byte("another program")
	a, err := Build(spec())
	require.NoError(t, err)
	b, err := Build(other)
	require.NoError(t, err)
	first, err := a.Digest()
	require.NoError(t, err)
	second, err := b.Digest()
	require.NoError(t, err)
	require.NotEqual(t, first, second)
}

// Both ways to an image make the same of a program.
func TestDockerfileSaysTheSame(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..", "..")
	text, err := os.ReadFile(filepath.Join(root, "deploy", "images", "Dockerfile"))
	require.NoError(t, err)
	img, err := Build(spec())
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	for label := range file.Config.Labels {
		require.Contains(t, string(text), label+"=")
	}
	require.Contains(t, string(text), "\nUSER "+file.Config.User+"\n")
	require.Contains(t, string(text), "\nFROM scratch\n")
	require.Contains(t, string(text), "-trimpath")
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(work)
	require.NotNil(t, version)
	require.Contains(t, string(text), "ARG GO=golang:"+string(version[1])+"\n")
}
