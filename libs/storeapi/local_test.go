package storeapi_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// countingStore writes n series and a warning, then ends with err.
type countingStore struct {
	storeapi.Store
	n   int
	err error
}

func (s countingStore) Series(_ context.Context, _ *thanos.SeriesRequest, _ []*labels.Matcher, w *storeapi.Writer) error {
	for i := range s.n {
		if err := w.Series(labels.FromStrings("i", fmt.Sprintf("%06d", i)), nil); err != nil {
			return err
		}
	}
	if err := w.Warning("half of it"); err != nil {
		return err
	}
	return s.err
}

func TestALocalStreamIsTheStoresAnswer(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk gone")
	s := storeapi.Local(t.Context(), countingStore{n: 1000, err: broken}, &thanos.SeriesRequest{}, nil)
	defer s.Close()
	n := 0
	for s.Next() {
		require.Equal(t, fmt.Sprintf("%06d", n), s.At().Labels.Get("i"))
		n++
	}
	require.Equal(t, 1000, n)
	require.ErrorIs(t, s.Err(), broken)
	require.Equal(t, []string{"half of it"}, s.Warnings())
}

func TestALocalStreamMayBeLeftAtAnyTime(t *testing.T) {
	t.Parallel()
	s := storeapi.Local(t.Context(), countingStore{n: 1 << 30}, &thanos.SeriesRequest{}, nil)
	require.True(t, s.Next())
	s.Close() // waits for the store, which has to stop
	require.False(t, s.Next())
}
