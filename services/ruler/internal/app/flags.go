package app

import (
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// BindFlags gives names and help texts.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Rules", c.bindRules)
	flags.Group(fs, "Queriers", c.bindQuery)
	flags.Group(fs, "Alertmanagers", c.bindAlerts)
	flags.Group(fs, "Storage", c.bindStorage)
	flags.Group(fs, "Uploads", c.bindUploads)
	flags.Group(fs, "Store API", func(fs *pflag.FlagSet) {
		flags.Uint64(fs, &c.SeriesLimit, "store.limits.request-series", "How many series one Series call may fetch; 0 for any number.")
		flags.Uint64(fs, &c.SamplesLimit, "store.limits.request-samples", "How many samples one Series call may fetch, a chunk counted as 120; 0 for any number.")
	})
	flags.Group(fs, "Web", func(fs *pflag.FlagSet) {
		c.Web.BindRoutePrefix(fs)
		c.Web.BindFlags(fs)
	})
	bindRemoved(fs)
}

func (c *Config) bindRules(fs *pflag.FlagSet) {
	r := &c.Rules
	flags.Labels(fs, &c.Labels, "label", "External label of all that this ruler records. May be repeated.")
	flags.Strings(fs, &c.RuleFiles, "rule-file", "File with rules; may be a pattern with *, and may be repeated.")
	flags.Duration(fs, &r.Interval, "eval-interval", "How often groups are evaluated that do not say it themselves.")
	flags.Duration(fs, &r.QueryOffset, "rule-query-offset", "How far back from the present rules are evaluated whose group does not say it.")
	flags.Duration(fs, &r.ResendDelay, "resend-delay", "How long to wait before a firing alert is sent again.")
	flags.Duration(fs, &r.OutageTolerance, "for-outage-tolerance", "How long the ruler may have been away for the state of alerts to be restored.")
	flags.Duration(fs, &r.GracePeriod, "for-grace-period", "How long an alert stays pending at least after an outage; for rules that wait longer than this.")
	flags.Strings(fs, &r.IgnoredLabels, "restore-ignored-label", "Label that is left out when the state of alerts is restored through queriers. May be repeated.")
	flags.Int64(fs, &r.Concurrency, "rule-concurrent-evaluation", "How many rules of a group that do not depend on each other are evaluated at once.")
	flags.List(fs, &r.Features, "enable-feature", "Feature to switch on: "+featureExperimentalFunctions+". May be repeated or comma separated.")
	flags.Bool(fs, &r.XFunctions, "query.enable-x-functions", "Know the functions xrate, xincrease and xdelta; queriers have to know them too.")
}

func (c *Config) bindQuery(fs *pflag.FlagSet) {
	q := &c.Query
	flags.Strings(fs, &q.Addresses, "query", "Address of a querier's HTTP API: host:port, a URL, or either behind dns+, dnssrv+ or dnssrvnoa+ as a name to look up. May be repeated.")
	flags.BindContent(fs, &q.Config, "query.config", "YAML that lists queriers and how they are asked.")
	flags.Strings(fs, &q.Files, "query.sd-files", "Path to a file that lists queriers in Prometheus' file_sd format; its last element may hold a *. May be repeated.")
	flags.Duration(fs, &q.FilesInterval, "query.sd-interval", "How often those files are read, besides when they change.")
	flags.Duration(fs, &q.DNSInterval, "query.sd-dns-interval", "How often names of queriers are looked up.")
	flags.Enum(fs, &q.DNSResolver, "query.sd-dns-resolver", "How names are looked up.", string(discovery.ResolverGo), string(discovery.ResolverMiekg))
	flags.Enum(fs, &q.Method, "query.http-method", "Method of queries over HTTP.", methodPost, methodGet)
	flags.Duration(fs, &q.DefaultStep, "query.default-step", "Accepted for compatibility: the state of alerts is restored from samples as they are, not at steps.")
	flags.Bool(fs, &q.OnlyPrometheusParams, "query.only-prometheus-params", "Send only parameters that a Prometheus knows.")
	flags.Strings(fs, &q.GRPCEndpoints, "grpc-query-endpoint", "Address of a querier's gRPC API, host:port or a name to look up as with --query. May be repeated.")
	flags.Hide(fs, "query.only-prometheus-params", "query.sd-dns-resolver")
}

func (c *Config) bindAlerts(fs *pflag.FlagSet) {
	m, a := &c.Alertmanagers, &c.Alert
	flags.Strings(fs, &m.URLs, "alertmanagers.url", "URL of an Alertmanager; a name behind dns+ or dnssrv+ is looked up. May be repeated.")
	flags.BindContent(fs, &m.Config, "alertmanagers.config", "YAML that lists Alertmanagers and how they are called.")
	flags.Duration(fs, &m.SendTimeout, "alertmanagers.send-timeout", "How long an Alertmanager of --alertmanagers.url may take.")
	flags.Duration(fs, &m.DNSInterval, "alertmanagers.sd-dns-interval", "How often names of Alertmanagers are looked up.")
	flags.String(fs, &a.QueryURL, "alert.query-url", "URL under which users reach a querier's pages, for links in alerts.")
	flags.String(fs, &a.QueryTemplate, "alert.query-template", "Template of what follows it in such a link; {{.Expr}} is the expression.")
	flags.Strings(fs, &a.LabelDrop, "alert.label-drop", "Label that alerts lose before they are sent, such as the one that tells replicas of the ruler apart. May be repeated.")
	flags.BindContent(fs, &a.Relabel, "alert.relabel-config", "YAML with relabel rules for alerts.")
	flags.Secret(fs, "alertmanagers.url")
}

func (c *Config) bindStorage(fs *pflag.FlagSet) {
	t := &c.TSDB
	flags.String(fs, &c.DataDir, "data-dir", "Folder for the database and the state of alerts.")
	flags.BindContent(fs, &c.RemoteWrite, "remote-write.config", "YAML with remote_write targets. With it the ruler has no database and sends what it records there.")
	flags.Duration(fs, &t.BlockDuration, "tsdb.block-duration", "Duration of the database's blocks.")
	flags.Duration(fs, &t.Retention, "tsdb.retention", "How long blocks stay here.")
	flags.Bool(fs, &t.WALCompression, "tsdb.wal-compression", "Compress the database's log.")
	flags.Bool(fs, &t.NoLockfile, "tsdb.no-lockfile", "Make no lock file in the data folder.")
}

func (c *Config) bindUploads(fs *pflag.FlagSet) {
	s := &c.Shipper
	flags.BindContent(fs, &c.Bucket, "objstore.config", "YAML that says where the bucket for blocks is. Without it nothing is uploaded.")
	flags.Enum(fs, &c.HashFunc, "hash-func", "How files of uploaded blocks are hashed.", string(block.HashNone), string(block.HashSHA256))
	flags.Bool(fs, &s.UploadCompacted, "shipper.upload-compacted", "Upload blocks too that have been compacted here.")
	flags.Bool(fs, &s.AllowOutOfOrder, "shipper.allow-out-of-order-uploads", "Go on with newer blocks where an older one cannot be uploaded.")
	flags.Bool(fs, &s.SkipCorrupted, "shipper.skip-corrupted-blocks", "Pass over blocks that cannot be read.")
	flags.String(fs, &s.MetaFileName, "shipper.meta-file-name", "Name of the file in --data-dir that lists the blocks that were uploaded.")
	flags.Int(fs, &s.Concurrency, "shipper.upload-concurrency", "How many files of a block are uploaded at once; 0 for one after the other.")
	flags.Hide(fs, "shipper.allow-out-of-order-uploads", "shipper.skip-corrupted-blocks")
}

// bindRemoved binds what older manifests may still carry.
func bindRemoved(fs *pflag.FlagSet) {
	flags.RemovedEverywhere(fs)
	flags.RemovedBool(fs, "tsdb.enable-native-histograms", "native histograms are always on")
}
