package active_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/active"
)

func TestQueriesAreListedOldestFirstAndOnlyToTheirTenant(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	r := active.New(0, nil, func() time.Time { now = now.Add(time.Second); return now }, nil)
	_, a, err := r.Begin(t.Context(), active.Info{Text: "a", Tenant: "x"})
	require.NoError(t, err)
	_, b, err := r.Begin(t.Context(), active.Info{Text: "b", Tenant: "y"})
	require.NoError(t, err)
	require.Equal(t, []*active.Query{a, b}, r.List(""))
	require.Equal(t, []*active.Query{b}, r.List("y"))
	require.Empty(t, r.List("z"))
	require.False(t, a.Running())
	a.Run()
	require.True(t, a.Running())
	a.End()
	require.Equal(t, []*active.Query{b}, r.List(""))
	b.End()
}

func TestACancelledQueryEndsWithThatCause(t *testing.T) {
	t.Parallel()
	r := active.New(0, nil, nil, nil)
	ctx, q, err := r.Begin(t.Context(), active.Info{Tenant: "x"})
	require.NoError(t, err)
	defer q.End()
	require.False(t, r.Cancel("nobody", ""))
	require.False(t, r.Cancel(q.ID, "y"), "it is not theirs")
	require.NoError(t, ctx.Err())
	require.True(t, r.Cancel(q.ID, "x"))
	require.ErrorIs(t, context.Cause(ctx), active.ErrCancelled)
}

func TestAQueryThatReceivesTooMuchIsCutWithTheSelectorNamed(t *testing.T) {
	t.Parallel()
	b := budget.New(1000, nil, budget.WithMaxWait(10*time.Millisecond))
	r := active.New(700, b, nil, nil)
	_, q, err := r.Begin(t.Context(), active.Info{})
	require.NoError(t, err)
	require.NoError(t, q.Spend(t.Context(), `{a="b"}`, 600))
	require.EqualValues(t, 600, b.Used())
	err = q.Spend(t.Context(), `{c="d"}`, 101)
	require.ErrorIs(t, err, storeapi.ErrLimit)
	require.ErrorContains(t, err, `700 bytes`)
	require.ErrorContains(t, err, `{c="d"}`)
	require.EqualValues(t, 701, q.Bytes())

	_, other, err := r.Begin(t.Context(), active.Info{})
	require.NoError(t, err)
	err = other.Spend(t.Context(), `{e="f"}`, 500)
	require.ErrorIs(t, err, storeapi.ErrLimit, "the process has no more")
	require.ErrorContains(t, err, `read {e="f"}: memory budget`)
	q.End()
	require.NoError(t, other.Spend(t.Context(), `{e="f"}`, 100))
	other.End()
	require.Zero(t, b.Used())
}
