package gate_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/gate"
)

func TestOnlySoManyPassAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		g := gate.NewFactory(reg, "x", 2).New()
		var leave []func()
		for range 2 {
			l, err := g.Enter(t.Context())
			require.NoError(t, err)
			leave = append(leave, l)
		}
		passed := false
		go func() {
			l, err := g.Enter(t.Context())
			if err == nil {
				passed = true
				l()
			}
		}()
		synctest.Wait()
		require.False(t, passed)
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP x_in_flight How many have passed and are not yet done.
# TYPE x_in_flight gauge
x_in_flight 2
# HELP x_max How many may pass at once.
# TYPE x_max gauge
x_max 2
# HELP x_total How many have passed.
# TYPE x_total counter
x_total 2
`), "x_in_flight", "x_max", "x_total"))
		leave[0]()
		synctest.Wait()
		require.True(t, passed)
		leave[1]()
	})
}

func TestWhoIsCancelledDoesNotPass(t *testing.T) {
	t.Parallel()
	g := gate.NewFactory(nil, "x", 1).New()
	leave, err := g.Enter(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = g.Enter(ctx)
	require.ErrorIs(t, err, context.Canceled)
	leave()
	_, err = g.Enter(ctx)
	require.ErrorIs(t, err, context.Canceled, "even when there is room")
}

func TestZeroIsNoLimit(t *testing.T) {
	t.Parallel()
	g := gate.NewFactory(nil, "x", 0).New()
	for range 100 {
		_, err := g.Enter(t.Context())
		require.NoError(t, err)
	}
}
