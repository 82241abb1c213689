package grpcapi

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

func TestReadsWaitForTheirMemoryAndGiveItBack(t *testing.T) {
	t.Parallel()
	o := tenants.DefaultOptions()
	o.Dir = t.TempDir()
	m := tenants.New(o, tenants.Deps{Logger: zap.NewNop()})
	require.NoError(t, m.Start())
	t.Cleanup(func() { require.NoError(t, m.Stop(context.Background())) })
	require.NoError(t, m.Create("t"))
	b := budget.New(bytesPerTenant*3/2, nil, budget.WithMaxWait(20*time.Millisecond))
	s := &store{tenants: m, slots: make(chan struct{}, 2), budget: b}

	first, err := s.admit(t.Context(), m.Tenants(), nil)
	require.NoError(t, err)
	require.EqualValues(t, bytesPerTenant, b.Used())
	_, err = s.admit(t.Context(), m.Tenants(), nil)
	require.ErrorIs(t, err, storeapi.ErrLimit)
	require.Len(t, s.slots, 1, "who is refused holds nothing")
	first()
	require.Zero(t, b.Used())
	again, err := s.admit(t.Context(), m.Tenants(), nil)
	require.NoError(t, err)
	again()
	require.Empty(t, s.slots)

	// What would never fit is let in alone.
	small := budget.New(bytesPerTenant/2, nil)
	s.budget = small
	alone, err := s.admit(t.Context(), m.Tenants(), nil)
	require.NoError(t, err)
	require.Equal(t, small.Largest(), small.Used())
	alone()
}
