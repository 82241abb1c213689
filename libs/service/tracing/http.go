package tracing

import (
	"context"
	"net/http"

	"github.com/felixge/httpsnoop"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
)

// noMetrics keeps otelgrpc from measuring: our own metrics do.
var noMetrics = otelgrpc.WithMeterProvider(noop.NewMeterProvider())

func noProvider() trace.TracerProvider { return nooptrace.NewTracerProvider() }

func defaultPropagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// HTTP makes a span called name around h. The trace goes on from the headers of the request;
// ForceHeader makes it sampled; a sampled request is answered with TraceIDHeader.
func (t *Tracing) HTTP(name string, h http.Handler) http.Handler {
	if t == nil || t.sdk == nil {
		return h
	}
	tracer := t.provider.Tracer("github.com/promontory-io/promontory")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if r.Header.Get(ForceHeader) != "" {
			ctx = Force(ctx)
		}
		ctx, span := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("http.request.method", r.Method),
			attribute.String("url.path", r.URL.Path),
			attribute.String("user_agent.original", r.UserAgent()),
		))
		defer span.End()
		if sc := span.SpanContext(); sc.IsSampled() {
			w.Header().Set(TraceIDHeader, sc.TraceID().String())
		}
		status := http.StatusOK
		w = httpsnoop.Wrap(w, httpsnoop.Hooks{WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				status = code
				next(code)
			}
		}})
		h.ServeHTTP(w, r.WithContext(ctx))
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
	})
}

// Exemplar returns the labels that tie a measurement to the trace in ctx; nil when the
// trace is not sampled.
func Exemplar(ctx context.Context) prometheus.Labels {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsSampled() {
		return nil
	}
	return prometheus.Labels{"traceID": sc.TraceID().String()}
}

type forceKey struct{}

// Force makes every span started under the returned context sampled.
func Force(ctx context.Context) context.Context { return context.WithValue(ctx, forceKey{}, true) }

func forced(ctx context.Context) bool {
	v, _ := ctx.Value(forceKey{}).(bool)
	return v
}
