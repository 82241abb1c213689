package deadline_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/deadline"
)

func TestOnlyTheEndOfTheRequestIsOver(t *testing.T) {
	t.Parallel()
	within := func(d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	theirs := fmt.Errorf("peer: %w", context.DeadlineExceeded)
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want error
	}{
		"peer failed":                        {within(time.Hour), errors.New("x"), nil},
		"peer failed near the end":           {within(100 * time.Millisecond), errors.New("x"), nil},
		"peer's own deadline":                {within(time.Hour), theirs, nil},
		"peer's own deadline, none of ours":  {t.Context(), theirs, nil},
		"our deadline, first seen by a peer": {within(100 * time.Millisecond), theirs, context.DeadlineExceeded},
		"our deadline":                       {within(0), errors.New("x"), context.DeadlineExceeded},
		"caller left":                        {cancelled, errors.New("x"), context.Canceled},
	} {
		require.Equal(t, tc.want, deadline.Over(tc.ctx, tc.err), name)
	}
}
