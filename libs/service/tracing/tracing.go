// Package tracing exports the spans of a process from the YAML of --tracing.config.
//
// All back ends are reached by OTLP. The types that once had a protocol of their own (JAEGER,
// LIGHTSTEP, ELASTIC_APM, GOOGLE_CLOUD) are translated into it, and what cannot be
// translated is said in a warning at start.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

const (
	// ForceHeader makes the process sample a request, whatever the sampler says. As gRPC
	// metadata its name is in lower case.
	ForceHeader = "X-Thanos-Force-Tracing"
	// TraceIDHeader carries the trace id of a sampled request in its answer.
	TraceIDHeader = "X-Thanos-Trace-Id"
)

// Options is what tracing needs to know of the process.
type Options struct {
	Logger *zap.Logger
	// ServiceName is used where the configuration names none.
	ServiceName string
	// Version is the version of the process, part of the resource.
	Version string
}

// Tracing makes spans, or does nothing when no configuration was given. It is safe for
// concurrent use; a nil *Tracing does nothing.
type Tracing struct {
	provider   trace.TracerProvider
	sdk        *sdktrace.TracerProvider // nil when nothing is exported
	propagator propagation.TextMapPropagator
}

// Provider returns the source of tracers; it is never nil.
func (t *Tracing) Provider() trace.TracerProvider {
	if t == nil {
		return noProvider()
	}
	return t.provider
}

// Propagator returns how trace context is put on the wire.
func (t *Tracing) Propagator() propagation.TextMapPropagator {
	if t == nil {
		return defaultPropagator()
	}
	return t.propagator
}

// Start begins a span under the one in ctx.
func (t *Tracing) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.Provider().Tracer("github.com/promontory-io/promontory").Start(ctx, name, opts...)
}

// Shutdown sends what is left and stops exporting.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil || t.sdk == nil {
		return nil
	}
	return t.sdk.Shutdown(ctx)
}
