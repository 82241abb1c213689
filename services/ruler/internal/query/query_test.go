package query

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

type fakeTarget struct {
	name  string
	err   error
	warns []string
	asked int
}

func (f *fakeTarget) Name() string { return f.name }

func (f *fakeTarget) Query(context.Context, string, time.Time, bool) (Answer, error) {
	f.asked++
	return Answer{Value: promql.Scalar{V: 7}, Warnings: f.warns}, f.err
}

func TestOneQuerierThatAnswersSuffices(t *testing.T) {
	t.Parallel()
	bad := &fakeTarget{name: "bad", err: errors.New("down")}
	good := &fakeTarget{name: "good", warns: []string{"PromQL info: x", "store gone", "PromQL warning: y"}}
	c := New(func() []Target { return []Target{bad, good} }, zap.NewNop())
	for range 50 {
		r, err := c.Query(t.Context(), "up", time.Now(), true)
		require.NoError(t, err)
		require.Equal(t, "good", r.From)
		require.Equal(t, []string{"store gone"}, r.Missing)
		v, err := r.Vector(time.UnixMilli(1234))
		require.NoError(t, err)
		require.Equal(t, promql.Vector{{T: 1234, F: 7}}, v)
	}
	require.LessOrEqual(t, bad.asked, 1, "whoever failed is asked last for a while")
}

func TestErrorsNameEachQuerierAndAWrongQueryIsAskedOnce(t *testing.T) {
	t.Parallel()
	a, b := &fakeTarget{name: "a", err: errors.New("down")}, &fakeTarget{name: "b", err: errors.New("burning")}
	c := New(func() []Target { return []Target{a, b} }, zap.NewNop())
	_, err := c.Query(t.Context(), "up", time.Now(), false)
	require.ErrorContains(t, err, "query a: down")
	require.ErrorContains(t, err, "query b: burning")
	wrong := &fakeTarget{name: "w", err: errInvalid}
	other := &fakeTarget{name: "o", err: errInvalid}
	_, err = New(func() []Target { return []Target{wrong, other} }, zap.NewNop()).Query(t.Context(), "up", time.Now(), false)
	require.ErrorIs(t, err, errInvalid)
	require.Equal(t, 1, wrong.asked+other.asked)
	_, err = New(func() []Target { return nil }, zap.NewNop()).Query(t.Context(), "up", time.Now(), false)
	require.ErrorIs(t, err, ErrNoQuerier)
}
