package tracing

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// RoundTripper makes a span called name around each request sent through next, and sends the trace
// along. The span ends when the headers of the answer are there.
func (t *Tracing) RoundTripper(name string, next http.RoundTripper) http.RoundTripper {
	if t == nil || t.sdk == nil {
		return next
	}
	return roundTripper{tracing: t, name: name, next: next}
}

type roundTripper struct {
	tracing *Tracing
	name    string
	next    http.RoundTripper
}

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := rt.tracing.Start(r.Context(), rt.name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", r.Method),
		attribute.String("server.address", r.URL.Host),
		attribute.String("url.path", r.URL.Path),
	))
	defer span.End()
	// A round tripper must not change the request it is given.
	r = r.Clone(ctx)
	rt.tracing.propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	if forced(ctx) {
		r.Header.Set(ForceHeader, "true")
	}
	resp, err := rt.next.RoundTrip(r)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if resp.StatusCode >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, resp.Status)
	}
	return resp, nil
}
