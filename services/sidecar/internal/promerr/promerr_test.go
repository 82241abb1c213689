package promerr

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
)

func TestKindsSurviveAndTextsStay(t *testing.T) {
	t.Parallel()
	own := storeapi.Limitf("too much")
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{&promclient.Error{Kind: promclient.Invalid, Message: "bad"}, codes.InvalidArgument},
		{&promclient.Error{Kind: promclient.NotFound}, codes.NotFound},
		{&promclient.Error{Kind: promclient.Execution}, codes.Internal},
		{&promclient.Error{Kind: promclient.Unavailable}, codes.Unavailable},
		{&promclient.Error{Kind: promclient.Internal}, codes.Internal},
		{&promclient.Error{Kind: promclient.Denied}, codes.Internal},
		{fmt.Errorf("ask: %w", &promclient.Error{Kind: promclient.NotFound}), codes.NotFound},
		{fmt.Errorf("read: %w", promclient.ErrTooLarge), codes.ResourceExhausted},
		{fmt.Errorf("ask: %w", context.Canceled), codes.Canceled},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{own, codes.ResourceExhausted},
		{Internal(errors.New("nonsense")), codes.Internal},
		{errors.New("who knows"), codes.Unknown},
	} {
		got := Wrap(tc.err)
		require.Equal(t, tc.want, storeapi.Code(got), "%v", tc.err)
		require.EqualError(t, got, tc.err.Error())
		require.ErrorIs(t, got, tc.err)
	}
	require.NoError(t, Wrap(nil))
}
