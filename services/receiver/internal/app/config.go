// Package app puts the receiver together: its configuration, its command, and the wiring of all other
// packages.
package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/service/tlsconfig"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

const (
	component         = "receive"
	protocolProtobuf  = "protobuf"
	protocolCapnProto = "capnproto"
)

// Config is all that can be said to the receiver from outside.
type Config struct {
	Common service.Config
	Write  WriteConfig
	Ring   RingConfig
	Tenant TenantConfig
	TSDB   TSDBConfig
	Upload UploadConfig
	OTLP   OTLPConfig
	// Client is how other nodes are called.
	Client grpcclient.Config
	// Labels are the external labels.
	Labels []flags.Label
	Limits flags.Content
	// LimitsInterval is how often the limits are read again.
	LimitsInterval time.Duration
	// SeriesLimit and SamplesLimit bound one Series answer; 0 is no bound.
	SeriesLimit, SamplesLimit uint64
	// ReadBytes is the memory that reads may hold together; 0 is a share of what the process may have besides
	// Write.MaxBytes.
	ReadBytes int64
	Features  []string
}

// WriteConfig is where and how writes come in.
type WriteConfig struct {
	Address string
	TLS     tlsconfig.Server
	Relabel flags.Content
	// MaxBody bounds a compressed body, MaxBytes all requests under way together.
	MaxBody, MaxBytes int64
}

// RingConfig is who owns what.
type RingConfig struct {
	File, Content   string
	Algorithm       string
	RefreshInterval time.Duration
	// Local is our own address in the rings; without it a node with rings keeps nothing.
	Local      string
	Replicas   int
	Protocol   string
	ServiceCfg flags.Content
	// Timeout is how long a node may take, MaxBackoff how long it is left alone at most.
	Timeout, MaxBackoff time.Duration
	ReplicaHeader       string
}

// TenantConfig is whose a request is.
type TenantConfig struct {
	Header, Default, Field string
	SplitLabel, Label      string
}

// TSDBConfig is how samples are kept.
type TSDBConfig struct {
	Path                       string
	Retention                  time.Duration
	MaxBytes                   int64
	MinBlock, MaxBlock         time.Duration
	TooFarInFuture, OutOfOrder time.Duration
	OutOfOrderCapMax           int64
	MaxExemplars               int64
	WALCompression, NoLockfile bool
	WriteQueueSize             int
	Snapshot                   bool
	// OpenWait is how long a write waits for a TSDB that opens before it goes to the journal.
	OpenWait time.Duration
}

// UploadConfig is where blocks go.
type UploadConfig struct {
	Bucket                    flags.Content
	HashFunc                  string
	Concurrency               int
	OutOfOrder, SkipCorrupted bool
}

// OTLPConfig is how OTLP metrics become series.
type OTLPConfig struct {
	TargetInfo bool
	Promote    []string
}

// DefaultConfig returns all defaults.
func DefaultConfig() Config {
	o := tenants.DefaultOptions()
	client := grpcclient.DefaultConfig()
	client.Compression = grpcclient.CompressionSnappy
	return Config{
		Common: service.DefaultConfig(component),
		Write:  WriteConfig{Address: "0.0.0.0:19291", TLS: tlsconfig.DefaultServer(), MaxBody: 32 << 20, MaxBytes: 512 << 20},
		Ring: RingConfig{
			Algorithm: hashring.AlgorithmHashmod, RefreshInterval: 5 * time.Minute, Replicas: 1, Protocol: protocolProtobuf,
			Timeout: 5 * time.Second, MaxBackoff: 5 * time.Second, ReplicaHeader: "THANOS-REPLICA",
		},
		Tenant: TenantConfig{Header: requestctx.TenantHeader, Default: requestctx.DefaultTenant, Label: o.TenantLabel},
		TSDB: TSDBConfig{
			Path: o.Dir, Retention: o.Retention, MinBlock: o.BlockDuration, MaxBlock: o.MaxBlockDuration, WALCompression: o.WALCompression,
			OpenWait: o.OpenWait,
		},
		OTLP: OTLPConfig{TargetInfo: true}, Client: client, LimitsInterval: time.Second,
	}
}

// hasRing reports whether hashrings are configured.
func (c *Config) hasRing() bool { return c.Ring.File != "" || c.Ring.Content != "" }

// keeps reports whether this node keeps samples.
func (c *Config) keeps() bool { return !c.hasRing() || c.Ring.Local != "" }

// source is where a request says its tenant.
func (c *Config) source() tenancy.Source {
	return tenancy.Source{Header: c.Tenant.Header, Default: c.Tenant.Default, Field: tenancy.CertificateField(c.Tenant.Field)}
}

// Validate returns all problems at once; contents of files are checked when they are loaded.
func (c *Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(c.Ring.Replicas >= 1 && c.Ring.Replicas <= 255, "--receive.replication-factor: %d is not between 1 and 255", c.Ring.Replicas)
	add(c.Ring.Protocol != protocolCapnProto, "--receive.replication-protocol: %s is not spoken by this release, only %s", protocolCapnProto, protocolProtobuf)
	add(c.Ring.Timeout > 0, "--receive-forward-timeout: %s is not positive", c.Ring.Timeout)
	add(c.Ring.MaxBackoff > 0, "--receive-forward-max-backoff: %s is not positive", c.Ring.MaxBackoff)
	add(c.Ring.RefreshInterval > 0, "--receive.hashrings-file-refresh-interval: %s is not positive", c.Ring.RefreshInterval)
	add(!c.keeps() || len(c.Labels) > 0, "--label: at least one external label has to tell this node's data from that of others")
	add(c.Tenant.Label != "", "--receive.tenant-label-name: empty")
	for _, l := range c.Labels {
		add(model.UTF8Validation.IsValidLabelName(l.Name), "--label: %q is no label name", l.Name)
		add(l.Name != c.Tenant.Label, "--label: %s is the label of the tenant", l.Name)
	}
	if err := c.source().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--receive.tenant-*: %w", err))
	}
	if err := c.Write.TLS.Validate("remote-write.server-tls"); err != nil {
		errs = append(errs, err)
	}
	if err := c.Client.TLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--remote-write.client-tls-*: %w", err))
	}
	if _, err := block.ParseHashFunc(c.Upload.HashFunc); err != nil {
		errs = append(errs, fmt.Errorf("--hash-func: %w", err))
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"tsdb.retention", c.TSDB.Retention},
		{"tsdb.too-far-in-future.time-window", c.TSDB.TooFarInFuture},
		{"tsdb.out-of-order.time-window", c.TSDB.OutOfOrder},
	} {
		add(d.value >= 0, "--%s: %s is negative", d.flag, d.value)
	}
	add(c.TSDB.MinBlock > 0 && c.TSDB.MaxBlock >= c.TSDB.MinBlock, "--tsdb.max-block-duration: %s is shorter than --tsdb.min-block-duration %s", c.TSDB.MaxBlock, c.TSDB.MinBlock)
	add(c.TSDB.MaxBytes >= 0, "--tsdb.max-retention-bytes: %d is negative", c.TSDB.MaxBytes)
	add(c.ReadBytes >= 0, "--receive.max-read-bytes: %d is negative", c.ReadBytes)
	add(c.TSDB.MaxExemplars >= 0, "--tsdb.max-exemplars: %d is negative", c.TSDB.MaxExemplars)
	add(c.Upload.Concurrency >= 0, "--shipper.upload-concurrency: %d is negative", c.Upload.Concurrency)
	add(c.Write.MaxBody > 0 && c.Write.MaxBytes >= c.Write.MaxBody, "--receive.max-bytes: %d is less than --receive.max-body-bytes %d", c.Write.MaxBytes, c.Write.MaxBody)
	return errors.Join(errs...)
}
