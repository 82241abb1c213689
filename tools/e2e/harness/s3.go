package harness

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"
)

// S3Bucket starts an S3 server and returns the configuration file of a bucket in it and the folder where the server keeps
// the bucket's objects. Extra lines follow the configuration as they are.
func (s *Stack) S3Bucket(name, extra string) (config, dir string) {
	s.t.Helper()
	server, addr := name+"-s3", Addrs(s.t, 1)[0]
	config, dir = s.Dir(name+".yml"), filepath.Join(s.Dir(server), name)
	require.NoError(s.t, os.MkdirAll(dir, 0o755))
	s.Start(procs.Spec{
		Name: server, Binary: Peer(s.t, "versitygw"), Source: "make peers",
		Args:   []string{"--port", addr, "--health", "/health", "--quiet", "posix", s.Dir(server)},
		Env:    []string{"ROOT_ACCESS_KEY=test", "ROOT_SECRET_KEY=testsecret"},
		Listen: []procs.Address{{Purpose: "S3", Addr: addr}},
		Ready:  "http://" + addr + "/health",
	})
	text := fmt.Sprintf(`type: S3
config:
  bucket: %s
  endpoint: %q
  access_key: test
  secret_key: testsecret
  insecure: true
  region: us-east-1
  bucket_lookup_type: path
  part_size: 5242880
%s`, name, addr, extra)
	require.NoError(s.t, os.WriteFile(config, []byte(text), 0o600))
	return config, dir
}
