package requestctx

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheContextCarriesTenantAndID(t *testing.T) {
	t.Parallel()
	_, ok := Tenant(t.Context())
	require.False(t, ok)
	_, ok = RequestID(t.Context())
	require.False(t, ok)
	require.Equal(t, "default-tenant", TenantOrDefault(t.Context()))
	ctx := WithRequestID(WithTenant(t.Context(), "a"), "id")
	tenant, ok := Tenant(ctx)
	require.True(t, ok)
	require.Equal(t, "a", tenant)
	require.Equal(t, "a", TenantOrDefault(ctx))
	id, ok := RequestID(ctx)
	require.True(t, ok)
	require.Equal(t, "id", id)
}

func TestNewIDsDiffer(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, NewRequestID(), NewRequestID())
	require.Len(t, NewRequestID(), 26)
}
