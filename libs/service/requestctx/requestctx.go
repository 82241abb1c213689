// Package requestctx carries what belongs to one request through a process:
// the tenant it is made for and the id it is logged under.
//
// Servers put both into the context before a handler runs and clients copy both
// to the peers they call, so that one id and one tenant follow a request
// through every process it touches.
package requestctx

import (
	"context"
	"crypto/rand"

	"github.com/oklog/ulid/v2"
)

// Names of the two values on the wire.
const (
	// DefaultTenant is the tenant of a request that names none.
	DefaultTenant = "default-tenant"
	// TenantHeader is the HTTP header that names the tenant unless configured otherwise.
	TenantHeader = "THANOS-TENANT"
	// TenantMetadata is the gRPC metadata key of the tenant.
	TenantMetadata = "thanos-tenant"
	// RequestIDHeader is the HTTP header of the request id.
	RequestIDHeader = "X-Request-ID"
	// RequestIDMetadata is the gRPC metadata key of the request id.
	RequestIDMetadata = "request-id"
)

type (
	tenantKey    struct{}
	requestIDKey struct{}
)

// WithTenant returns a context that carries tenant. The name is not checked
// here: whoever reads it from outside has to.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

// Tenant returns the tenant in ctx, and false where none was set.
func Tenant(ctx context.Context) (string, bool) {
	tenant, ok := ctx.Value(tenantKey{}).(string)
	return tenant, ok
}

// TenantOrDefault returns the tenant in ctx, or DefaultTenant where none was set.
func TenantOrDefault(ctx context.Context) string {
	if tenant, ok := Tenant(ctx); ok {
		return tenant
	}
	return DefaultTenant
}

// WithRequestID returns a context that carries the request id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the request id in ctx, and false where none was set.
func RequestID(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(requestIDKey{}).(string)
	return id, ok
}

// NewRequestID returns a fresh id: a ULID, so ids sort by the time they were made.
func NewRequestID() string {
	return ulid.MustNew(ulid.Now(), rand.Reader).String()
}
