package objstore

import (
	"go.opentelemetry.io/otel/trace"
)

// Option changes how a configuration is read or a bucket is opened.
type Option func(*options)

type options struct {
	source string
	tracer trace.Tracer
	hedge  bool
}

func newOptions(opts []Option) options {
	o := options{source: "bucket configuration"}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithSource says where the configuration comes from, a file or a flag: errors begin with it.
func WithSource(source string) Option { return func(o *options) { o.source = source } }

// WithTracer records a span for each operation.
func WithTracer(tracer trace.Tracer) Option { return func(o *options) { o.tracer = tracer } }

// WithHedging lets the key hedging_config take effect. Only a process that waits for many small reads gains by it: the
// store gateway. Others accept the key and do nothing.
func WithHedging() Option { return func(o *options) { o.hedge = true } }
