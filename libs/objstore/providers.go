package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/azure"
	"github.com/thanos-io/objstore/providers/bos"
	"github.com/thanos-io/objstore/providers/cos"
	"github.com/thanos-io/objstore/providers/gcs"
	"github.com/thanos-io/objstore/providers/obs"
	"github.com/thanos-io/objstore/providers/oci"
	"github.com/thanos-io/objstore/providers/oss"
	"github.com/thanos-io/objstore/providers/s3"
	"github.com/thanos-io/objstore/providers/swift"
	"go.yaml.in/yaml/v3"
)

// wrapTransport changes the HTTP transport of a client; nil leaves it alone.
type wrapTransport func(http.RoundTripper) http.RoundTripper

// newClient makes the client of one provider. The upstream factory, client.NewBucket, is not used because it writes the
// configuration anew before the provider sees it: line numbers would be lost.
func (c *Config) newClient(component string, logger log.Logger, wrap wrapTransport) (Bucket, error) {
	switch c.Type {
	case objstore.FILESYSTEM:
		return newFilesystem(c.provider, logger)
	case objstore.S3:
		return s3.NewBucket(logger, c.provider, component, wrap)
	case objstore.GCS:
		// The context reaches into the client's own background work, so it must not be one that ends.
		return gcs.NewBucket(context.Background(), logger, c.provider, component, wrap)
	case objstore.AZURE:
		return azure.NewBucket(logger, c.provider, component, wrap)
	case objstore.SWIFT:
		return swift.NewContainer(logger, c.provider, wrap)
	case objstore.COS:
		return cos.NewBucket(logger, c.provider, component, wrap)
	case objstore.ALIYUNOSS:
		return oss.NewBucket(logger, c.provider, component, wrap)
	case objstore.BOS:
		return bos.NewBucket(logger, c.provider, component)
	case objstore.OCI:
		return oci.NewBucket(logger, c.provider, wrap)
	case objstore.OBS:
		return obs.NewBucket(logger, c.provider)
	default:
		return nil, fmt.Errorf("unknown bucket type %q", c.Type)
	}
}

// hedgeable tells whether the provider's client lets its HTTP transport be changed.
func hedgeable(p Provider) bool {
	switch p {
	case objstore.FILESYSTEM, objstore.BOS, objstore.OBS:
		return false
	}
	return true
}

// filesystemConfig is what a FILESYSTEM bucket can be told.
type filesystemConfig struct {
	Directory string `yaml:"directory"`
}

// newFilesystem is strict about what it cannot work without. A key that it does not know is only worth a warning if the
// directory is there: Thanos ignores such keys, and its configurations must work here.
func newFilesystem(provider []byte, logger log.Logger) (Bucket, error) {
	var cfg filesystemConfig
	dec := yaml.NewDecoder(bytes.NewReader(provider))
	dec.KnownFields(true)
	strictErr := dec.Decode(&cfg)
	if strictErr != nil && !errors.Is(strictErr, io.EOF) {
		cfg = filesystemConfig{}
		if err := yaml.Unmarshal(provider, &cfg); err != nil || cfg.Directory == "" {
			return nil, strictErr
		}
		_ = level.Warn(logger).Log("msg", "part of the bucket configuration is ignored", "reason", plainYAMLError(strictErr))
	}
	if cfg.Directory == "" {
		return nil, errors.New("missing directory for filesystem bucket")
	}
	return filesystem.New(cfg.Directory)
}
