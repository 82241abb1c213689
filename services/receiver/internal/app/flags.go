package app

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
)

// NewCommand returns the command of the receiver.
func NewCommand() *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:   "receiver",
		Short:  "Takes metrics that are pushed to it, replicates them and keeps them for their tenants.",
		Words:  [][]string{{"receive"}},
		Common: &cfg.Common, Settings: &cfg,
		Run: func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
	})
}

// BindFlags gives names and help texts to all settings but the common ones.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Writes", c.bindWrite)
	flags.Group(fs, "Hashrings", c.bindRing)
	flags.Group(fs, "Tenants", c.bindTenant)
	flags.Group(fs, "Database", c.bindTSDB)
	flags.Group(fs, "Uploads", c.bindUpload)
	flags.Group(fs, "Limits", func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.Limits, "receive.limits-config", "YAML with the limits of tenants' writes.")
		flags.Duration(fs, &c.LimitsInterval, "receive.limits-config-reload-timer", "How often that file is looked at.")
		flags.Uint64(fs, &c.SeriesLimit, "store.limits.request-series", "How many series one Series call may fetch; 0 for any number.")
		flags.Uint64(fs, &c.SamplesLimit, "store.limits.request-samples", "How many samples one Series call may fetch, a chunk counted as 120; 0 for any number.")
		flags.Bytes(fs, &c.ReadBytes, "receive.max-read-bytes", "How many bytes all reads under way may hold, apart from what writes have; further ones wait. 0 is a share of the process' memory.")
		flags.Hide(fs, "receive.limits-config-reload-timer", "receive.max-read-bytes")
	})
	c.bindRemoved(fs)
}

func (c *Config) bindWrite(fs *pflag.FlagSet) {
	w := &c.Write
	flags.String(fs, &w.Address, "remote-write.address", "Address to take writes on.")
	w.TLS.BindFlags(fs, "remote-write.server-tls")
	flags.BindContent(fs, &w.Relabel, "receive.relabel-config", "YAML with relabel rules for incoming series.")
	flags.Bytes(fs, &w.MaxBody, "receive.max-body-bytes", "Largest body of a request, compressed.")
	flags.Bytes(fs, &w.MaxBytes, "receive.max-bytes", "How many bytes all requests under way may hold; further ones wait.")
	flags.Bool(fs, &c.OTLP.TargetInfo, "receive.otlp-enable-target-info", "Make a series target_info of each OTLP resource.")
	flags.Strings(fs, &c.OTLP.Promote, "receive.otlp-promote-resource-attributes", "Resource attribute that becomes a label of each OTLP series. May be repeated.")
	flags.Hide(fs, "receive.max-body-bytes", "receive.max-bytes")
}

func (c *Config) bindRing(fs *pflag.FlagSet) {
	r := &c.Ring
	flags.String(fs, &r.File, "receive.hashrings-file", "Path to the JSON file with the hashrings. It is read again when it changes.")
	flags.String(fs, &r.Content, "receive.hashrings", "The hashrings themselves, where there is no file.")
	flags.Enum(fs, &r.Algorithm, "receive.hashrings-algorithm", "How owners are found in hashrings that do not say.", hashring.AlgorithmHashmod, hashring.AlgorithmKetama)
	flags.Duration(fs, &r.RefreshInterval, "receive.hashrings-file-refresh-interval", "How often the file is applied, besides when it changes.")
	flags.String(fs, &r.Local, "receive.local-endpoint", "Address of this node as the hashrings have it. A node with hashrings and without it keeps nothing and only forwards.")
	flags.Int(fs, &r.Replicas, "receive.replication-factor", "How many nodes each series goes to.")
	flags.Enum(fs, &r.Protocol, "receive.replication-protocol", "How series are sent to other nodes.", protocolProtobuf, protocolCapnProto)
	flags.BindContent(fs, &r.ServiceCfg, "receive.grpc-service-config", "gRPC service configuration (JSON) for calls to other nodes.")
	flags.Duration(fs, &r.Timeout, "receive-forward-timeout", "How long another node may take.")
	flags.Duration(fs, &r.MaxBackoff, "receive-forward-max-backoff", "How long a node that failed is left alone at most.")
	flags.String(fs, &r.ReplicaHeader, "receive.replica-header", "Header with the number of the copy that a request is.")
	flags.Enum(fs, &c.Client.Compression, "receive.grpc-compression", "How calls to other nodes are compressed.", grpcclient.CompressionSnappy, grpcclient.CompressionNone)
	c.Client.TLS.BindFlags(fs, "remote-write.client-tls")
	flags.String(fs, &c.Client.ServerName, "remote-write.client-server-name", "Name that the certificates of other nodes have to be made out to.")
	flags.Hide(fs, "receive-forward-timeout", "receive-forward-max-backoff")
}

func (c *Config) bindTenant(fs *pflag.FlagSet) {
	t := &c.Tenant
	flags.String(fs, &t.Header, "receive.tenant-header", "Header that names the tenant of a request.")
	flags.Enum(fs, &t.Field, "receive.tenant-certificate-field", "Field of the client's certificate that names the tenant, in place of the header.",
		"", "organization", "organizationalUnit", "commonName")
	flags.String(fs, &t.Default, "receive.default-tenant-id", "Tenant of requests that name none.")
	flags.String(fs, &t.SplitLabel, "receive.split-tenant-label-name", "Label whose value is the tenant of its series; the label is removed.")
	flags.String(fs, &t.Label, "receive.tenant-label-name", "External label that holds the tenant.")
}

func (c *Config) bindTSDB(fs *pflag.FlagSet) {
	t := &c.TSDB
	flags.Labels(fs, &c.Labels, "label", "External label of all series kept here, as name=\"value\". May be repeated.")
	flags.String(fs, &t.Path, "tsdb.path", "Folder of the tenants' databases.")
	flags.Duration(fs, &t.Retention, "tsdb.retention", "How long blocks stay here; 0 for ever.")
	flags.Bytes(fs, &t.MaxBytes, "tsdb.max-retention-bytes", "How many bytes of blocks a tenant may have here; 0 for any number.")
	flags.Duration(fs, &t.MinBlock, "tsdb.min-block-duration", "Time that a block covers.")
	flags.Duration(fs, &t.MaxBlock, "tsdb.max-block-duration", "Time that a merged block covers at most.")
	flags.Duration(fs, &t.TooFarInFuture, "tsdb.too-far-in-future.time-window", "How far ahead of the clock a sample may lie; 0 for any time.")
	flags.Duration(fs, &t.OutOfOrder, "tsdb.out-of-order.time-window", "How far behind the newest sample another may come; 0 for not at all. The compactor then has to merge overlapping blocks.")
	flags.Int64(fs, &t.OutOfOrderCapMax, "tsdb.out-of-order.cap-max", "How many samples a chunk of late samples holds; 0 for 32.")
	flags.Int64(fs, &t.MaxExemplars, "tsdb.max-exemplars", "How many exemplars a tenant's database keeps; 0 for none.")
	flags.Bool(fs, &t.WALCompression, "tsdb.wal-compression", "Compress the log.")
	flags.Bool(fs, &t.NoLockfile, "tsdb.no-lockfile", "Do not make a lock file in the folders of databases.")
	flags.Int(fs, &t.WriteQueueSize, "tsdb.write-queue-size", "Length of the queue of chunks on their way to disk.")
	flags.Bool(fs, &t.Snapshot, "tsdb.memory-snapshot-on-shutdown", "Write what is in memory to disk when stopping, for a faster start.")
	flags.Hide(fs, "tsdb.min-block-duration", "tsdb.max-block-duration", "tsdb.write-queue-size", "tsdb.memory-snapshot-on-shutdown")
}

func (c *Config) bindUpload(fs *pflag.FlagSet) {
	u := &c.Upload
	flags.BindContent(fs, &u.Bucket, "objstore.config", "YAML that says where the bucket for blocks is. Without it nothing is uploaded.")
	flags.Enum(fs, &u.HashFunc, "hash-func", "How files of uploaded blocks are hashed.", string(block.HashNone), string(block.HashSHA256))
	flags.Int(fs, &u.Concurrency, "shipper.upload-concurrency", "How many files of a block are uploaded at once; 0 for one after the other.")
	flags.Bool(fs, &u.OutOfOrder, "shipper.allow-out-of-order-uploads", "Go on with newer blocks where an older one cannot be uploaded.")
	flags.Bool(fs, &u.SkipCorrupted, "shipper.skip-corrupted-blocks", "Pass over blocks that cannot be read.")
	flags.Hide(fs, "shipper.allow-out-of-order-uploads", "shipper.skip-corrupted-blocks")
}

// bindRemoved binds what manifests may carry that has nothing to set here.
func (c *Config) bindRemoved(fs *pflag.FlagSet) {
	flags.List(fs, &c.Features, "enable-feature", "Feature to switch on; none has an effect at the moment.")
	flags.Hide(fs, "enable-feature")
	flags.Removed(fs, "receive.forward.async-workers", "messages to a node are bounded in bytes, not in workers")
	flags.Removed(fs, "receive.capnproto-address", "only the protocol protobuf is served")
	flags.Removed(fs, "receive.artificial-max-delay", "there is no artificial delay")
	flags.Removed(fs, "receive.lazy-retrieval-max-buffered-responses", "databases are read as fast as the caller takes the answer")
	flags.Removed(fs, "tsdb.head.expanded-postings-cache-size", "the database has no such cache")
	flags.Removed(fs, "tsdb.block.expanded-postings-cache-size", "the database has no such cache")
	flags.Removed(fs, "matcher-cache-size", "matchers are not cached")
	flags.RemovedBool(fs, "tsdb.allow-overlapping-blocks", "blocks may always overlap")
	flags.RemovedBool(fs, "tsdb.enable-native-histograms", "native histograms are always kept")
	flags.RemovedBool(fs, "compact.enable-vertical-compaction", "overlapping blocks are merged by the compactor")
	flags.Removed(fs, "log.request.decision", "use --request.logging-config")
}
