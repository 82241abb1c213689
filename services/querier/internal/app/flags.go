package app

import (
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
)

func (c *Config) bindEndpoints(fs *pflag.FlagSet) {
	e := &c.Endpoints
	flags.BindContent(fs, &e.SDConfig, "endpoint.sd-config", "YAML that lists the endpoints to query.", flags.Literal())
	flags.Duration(fs, &e.SDConfigReload, "endpoint.sd-config-reload-interval", "How often that file is read again.")
	flags.Strings(fs, &e.Addresses, "endpoint", "Address of an endpoint to query, host:port, or a name to look up: dns+host:port, dnssrv+name, dnssrvnoa+name. May be repeated.")
	flags.Strings(fs, &e.Strict, "endpoint-strict", "Address of an endpoint that is always queried, even when it does not answer checks; no DNS names to look up. May be repeated.")
	flags.Strings(fs, &e.Groups, "endpoint-group", "Name of a group of endpoints that all have the same data: calls are balanced over what it resolves to. May be repeated.")
	flags.Strings(fs, &e.StrictGroups, "endpoint-group-strict", "Like --endpoint-group, always queried. May be repeated.")
	flags.Strings(fs, &e.Files, "store.sd-files", "Path to a file that lists addresses of endpoints in Prometheus' file_sd format; its last element may hold a *. May be repeated.")
	flags.Duration(fs, &e.FilesInterval, "store.sd-interval", "How often those files are read, besides when they change.")
	flags.Duration(fs, &e.DNSInterval, "store.sd-dns-interval", "How often names are looked up.")
	flags.Enum(fs, &e.DNSResolver, "store.sd-dns-resolver", "How names are looked up.", string(discovery.ResolverGo), string(discovery.ResolverMiekg))
	flags.Duration(fs, &e.UnhealthyTimeout, "store.unhealthy-timeout", "How long an endpoint that does not answer counts as missing from answers before it is forgotten.")
	flags.Duration(fs, &e.InfoTimeout, "endpoint.info-timeout", "How long an endpoint may take to answer a check.")
	flags.Enums(fs, &e.ConnMetricLabels, "query.conn-metric.label", "Label of the metric of connections. May be repeated.",
		endpoints.LabelExternalLabels, endpoints.LabelStoreType, endpoints.LabelIPPort)
	flags.Duration(fs, &c.Query.ResponseTimeout, "store.response-timeout", "How long a store may take for its next message; 0 for any time. A store that takes longer is missing from the answer.")
	flags.Int(fs, &c.Query.Breaker.Failures, "store.breaker-failures", "How many calls to a store must fail in a row until it is not asked for a while; 0 to ask always. Strict endpoints always are.")
	flags.Duration(fs, &c.Query.Breaker.FirstPause, "store.breaker-pause", "How long such a store is not asked at first; twice as long each time that it then fails again.")
	flags.Duration(fs, &c.Query.Breaker.MaxPause, "store.breaker-max-pause", "The longest time that it is not asked.")
	flags.Hide(fs, "store.sd-dns-resolver", "endpoint.info-timeout")

	flags.Alias(fs, "store", "endpoint")
	flags.Alias(fs, "store-strict", "endpoint-strict")
	const advice = "list endpoints in --endpoint.sd-config"
	for _, name := range []string{"endpoint", "endpoint-strict", "endpoint-group", "endpoint-group-strict", "store.sd-files", "store.sd-interval"} {
		flags.Deprecate(fs, name, advice)
	}
}

func (c *Config) bindQuery(fs *pflag.FlagSet) {
	q := &c.Query
	flags.Duration(fs, &q.Timeout, "query.timeout", "Longest time a query may take.")
	flags.Enum(fs, &q.Engine, "query.promql-engine", "Engine that evaluates queries whose request names none.", string(promapi.EnginePrometheus), string(promapi.EngineThanos))
	flags.Bool(fs, &q.DisableFallback, "query.disable-fallback", "Fail queries that the thanos engine cannot evaluate, where they would go to the prometheus engine.")
	flags.Bool(fs, &q.XFunctions, "query.enable-x-functions", "Know the functions xrate, xincrease and xdelta; needs the thanos engine.")
	flags.Enum(fs, &q.Mode, "query.mode", "Where queries are evaluated: here, or by the endpoints that offer the Query API, each for the part of the data that its external labels name, wherever that gives the same answer.", engine.ModeLocal, engine.ModeDistributed)
	flags.Int(fs, &q.MaxConcurrent, "query.max-concurrent", "How many queries run at once; further ones wait.")
	flags.Bytes(fs, &q.MaxBytes, "query.max-bytes", "Most bytes of series that one query may receive from stores; it is ended at that, with an error that names the selector. 0 for any number.")
	flags.Bytes(fs, &q.MemoryBudget, "query.memory-budget", "Most bytes of series that all queries together may hold; queries wait for each other at that. 0 for half of the memory that the process may have.")
	flags.Strings(fs, &q.Deny, "query.deny", "Series selector; requests are refused that have a selector which says what all of its matchers accept, a missing matcher counting as an empty value. May be repeated.")
	flags.Duration(fs, &q.SlowerThan, "query.log-slower-than", "Log requests that take at least this long, with the receipt of their answer; 0 logs none.")
	flags.Int(fs, &q.MaxConcurrentSelects, "query.max-concurrent-select", "How many selects of one query are opened at once.")
	flags.Duration(fs, &q.LookbackDelta, "query.lookback-delta", "How old a sample may be to count at an instant; 0 leaves it to the engine: 5m.")
	flags.Bool(fs, &q.DynamicLookbackDelta, "query.dynamic-lookback-delta", "Look back further where downsampled data may be served.")
	flags.Enum(fs, &q.DedupFunc, "deduplication.func", "How the replicas of a series are merged: exact keeps values that were really scraped, fills gaps and shows each reset once; penalty chooses the samples that Thanos would; chain keeps every sample of every replica.", dedup.Funcs()...)
	flags.List(fs, &q.ReplicaLabels, "query.replica-label", "Label that tells replicas apart. May be repeated or comma separated.")
	flags.List(fs, &q.PartitionLabels, "query.partition-label", "Label that tells which part of the data an engine owns, for distributed queries. May be repeated or comma separated.")
	flags.Bool(fs, &q.OverlappingInterval, "query.distributed-with-overlapping-interval", "Allow engines of distributed queries to overlap in time.")
	flags.Duration(fs, &q.InstantMaxSourceResolution, "query.instant.default.max_source_resolution", "Coarsest downsampled data that instant queries use where the request does not say.")
	flags.Duration(fs, &q.MetadataRange, "query.metadata.default-time-range", "How far back calls for labels and series look that do not say; 0 for all time.")
	flags.Bool(fs, &q.AutoDownsampling, "query.auto-downsampling", "Use downsampled data of a fifth of the step where the request does not say.")
	flags.String(fs, &q.ActiveQueryPath, "query.active-query-path", "Directory of the log of running queries; empty for none.")
	flags.List(fs, &q.Features, "enable-feature", "Feature to switch on: "+FeatureExperimentalFunctions+". May be repeated or comma separated.")
	flags.Duration(fs, &q.DefaultEvaluationInterval, "query.default-evaluation-interval", "Step of subqueries that do not say theirs.")
	flags.Duration(fs, &q.DefaultStep, "query.default-step", "Smallest step of range queries that do not say theirs.")
	flags.Enum(fs, &q.ProxyStrategy, "grpc.proxy-strategy", "Accepted for compatibility: answers of stores are always read ahead by a bounded number of messages.", proxyEager, proxyLazy)
	flags.Int(fs, &q.MaxBufferedResponses, "query.lazy-retrieval-max-buffered-responses", "How many messages of each store are read ahead.")
	flags.Labels(fs, &c.SelectorLabels, "selector-label", "External label of this querier: queries that reject it have no answer here. May be repeated.")
	flags.BindContent(fs, &c.SelectorRelabel, "selector.relabel-config", "YAML with relabel rules that pick which databases of the stores are queried, by their labels.")
	flags.Uint64(fs, &c.SeriesLimit, "store.limits.request-series", "How many series one call of this querier's own Store API may fetch; 0 for any number.")
	flags.Uint64(fs, &c.SamplesLimit, "store.limits.request-samples", "How many samples one such call may fetch, a chunk counted as 120; 0 for any number.")
	flags.Hide(fs, "query.disable-fallback", "query.dynamic-lookback-delta", "query.distributed-with-overlapping-interval",
		"query.instant.default.max_source_resolution", "grpc.proxy-strategy", "query.lazy-retrieval-max-buffered-responses")
}

func (c *Config) bindPartial(fs *pflag.FlagSet) {
	p := &c.Partial
	flags.Bool(fs, &p.Query, "query.partial-response", "Answer without the stores that fail, with a warning, where the request does not say.")
	flags.Bool(fs, &p.Rules, "rule.partial-response", "The same for rules.")
	flags.Bool(fs, &p.Targets, "target.partial-response", "The same for targets.")
	flags.Bool(fs, &p.Metadata, "metric-metadata.partial-response", "The same for metadata of metrics.")
	flags.Bool(fs, &p.Exemplars, "exemplar.partial-response", "The same for exemplars.")
	flags.Bool(fs, &p.Status, "status.partial-response", "The same for statistics of databases.")
	flags.Hide(fs, "rule.partial-response", "target.partial-response", "metric-metadata.partial-response", "exemplar.partial-response", "status.partial-response")
}

func (c *Config) bindTenancy(fs *pflag.FlagSet) {
	t := &c.Tenancy
	flags.String(fs, &t.Header, "query.tenant-header", "Header that names the tenant of a request.")
	flags.String(fs, &t.DefaultTenant, "query.default-tenant-id", "Tenant of requests that name none.")
	flags.Enum(fs, &t.CertificateField, "query.tenant-certificate-field", "Field of the client's certificate that names the tenant, in place of the header.",
		"", "organization", "organizationalUnit", "commonName")
	flags.Bool(fs, &t.Enforce, "query.enforce-tenancy", "Restrict all requests to series that carry the tenant.")
	flags.String(fs, &t.Label, "query.tenant-label-name", "Label in which series carry their tenant.")
}

func (c *Config) bindTelemetry(fs *pflag.FlagSet) {
	t := &c.Telemetry
	flags.Float64s(fs, &t.Durations, "query.telemetry.request-duration-seconds-quantiles", "Bucket of the histograms of query durations. May be repeated.")
	flags.Float64s(fs, &t.Samples, "query.telemetry.request-samples-quantiles", "Bound of a class of queries by their samples. May be repeated.")
	flags.Float64s(fs, &t.Series, "query.telemetry.request-series-seconds-quantiles", "Bound of a class of queries by their series. May be repeated.")
}

// bindRemoved binds what older manifests may still carry.
func bindRemoved(fs *pflag.FlagSet) {
	const advice = "what an endpoint serves is found out by asking it; list it with --endpoint"
	for _, name := range []string{"rule", "target", "metadata", "exemplar"} {
		flags.Removed(fs, name, advice)
	}
	flags.RemovedEverywhere(fs)
}
