package objstore

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/tracing/opentelemetry"
	"go.uber.org/zap"
)

// New opens the bucket that cfgYAML describes (see ParseConfig). The component's name goes into the user agent of
// requests. No request is made, except where a provider's client makes one to start (SWIFT signs in, AZURE may create its
// container): whether the bucket answers is for CheckReachable to say.
//
// Metrics go to reg, which may be nil, under the names thanos_objstore_bucket_*, with the bucket's name as label; two
// buckets of one name need two registries.
//
// Errors are one line, name the source and the line, and never show a secret.
func New(cfgYAML []byte, component string, logger *zap.Logger, reg prometheus.Registerer, opts ...Option) (InstrumentedBucket, error) {
	cfg, err := ParseConfig(cfgYAML, opts...)
	if err != nil {
		return nil, err
	}
	return cfg.Open(component, logger, reg, opts...)
}

// Open opens the bucket: the second half of New, for who needs to look at the configuration first.
func (c *Config) Open(component string, logger *zap.Logger, reg prometheus.Registerer, opts ...Option) (InstrumentedBucket, error) {
	o := newOptions(opts)
	logger = logger.Named("bucket")

	var wrap wrapTransport
	if o.hedge && c.Hedging.Enabled {
		if hedgeable(c.Type) {
			wrap = newHedging(c.Hedging, reg).wrap
		} else {
			logger.Warn("hedged reads are not possible with this bucket type", zap.String("type", string(c.Type)))
		}
	}
	client, err := c.newClient(component, newKitLogger(logger), wrap)
	if err != nil {
		err = scrub(sectionError(err, keyConfig, c.providerLines), c.secrets)
		return nil, fmt.Errorf("%s: open %s bucket: %w", c.source, c.Type, err)
	}
	if client.Name() == "" {
		return nil, fmt.Errorf("%s: open %s bucket: %s: names no bucket", c.source, c.Type, keyConfig)
	}
	bkt, err := c.assemble(client, logger, reg, o)
	if err != nil {
		return nil, fmt.Errorf("%s: open %s bucket: %w", c.source, c.Type, err)
	}
	return bkt, nil
}

// assemble puts the layers around a client, in the order that the package comment gives.
func (c *Config) assemble(client Bucket, logger *zap.Logger, reg prometheus.Registerer, o options) (InstrumentedBucket, error) {
	bkt := objstore.NewPrefixedBucket(&errorBucket{Bucket: client, secrets: c.secrets}, c.Prefix)
	if c.Faults != nil {
		logger.Warn("FAULT INJECTION IS ON: this bucket fails on purpose; remove the key faults from its configuration outside of tests",
			zap.String("bucket", bkt.Name()), zap.Uint64("seed", c.Faults.Seed), zap.Int("rules", len(c.Faults.Rules)))
		faulty, err := faults.Wrap(bkt, *c.Faults)
		if err != nil {
			return nil, err
		}
		bkt = faulty
	}
	return instrument(bkt, reg, o)
}

// Instrument gives a bucket that is already open, in memory for example, the outer layers that New gives to its own:
// errors, spans and metrics.
func Instrument(bkt Bucket, reg prometheus.Registerer, opts ...Option) (InstrumentedBucket, error) {
	return instrument(&errorBucket{Bucket: bkt}, reg, newOptions(opts))
}

func instrument(bkt Bucket, reg prometheus.Registerer, o options) (InstrumentedBucket, error) {
	if o.tracer != nil {
		bkt = opentelemetry.WrapWithTraces(bkt, o.tracer)
	}
	if reg == nil {
		return objstore.WrapWithMetrics(bkt, nil, bkt.Name()), nil
	}
	collected := &firstError{Registerer: prometheus.WrapRegistererWithPrefix("thanos_", reg)}
	instrumented := objstore.WrapWithMetrics(bkt, collected, bkt.Name())
	if collected.err != nil {
		return nil, fmt.Errorf("register metrics of bucket %q: %w", bkt.Name(), collected.err)
	}
	return instrumented, nil
}

// firstError keeps the first error of registrations that would panic otherwise: the same bucket opened twice in one
// process is a matter of configuration.
type firstError struct {
	prometheus.Registerer
	err error
}

// MustRegister registers all that it can.
func (f *firstError) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := f.Register(c); err != nil && f.err == nil {
			f.err = err
		}
	}
}
