package triage

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/lease"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
	"github.com/promontory-io/promontory/services/compactor/internal/write"
)

func TestLadder(t *testing.T) {
	t.Parallel()
	id := ulid.ULID{1}
	corrupt := func(object string, err error) error {
		return fmt.Errorf("job: %w", &read.CorruptError{Block: id, Object: object, Offset: 5, Err: err})
	}
	for name, tc := range map[string]struct {
		err  error
		age  time.Duration
		want Action
	}{
		"bucket trouble":          {errors.New("503"), 0, Retry},
		"deadline":                {context.DeadlineExceeded, 0, Retry},
		"read back wrong":         {write.ErrVerify, 0, Retry},
		"cancelled":               {fmt.Errorf("x: %w", context.Canceled), 0, Stop},
		"lease lost":              {fmt.Errorf("x: %w", lease.ErrLost), 0, Stop},
		"missing, young":          {corrupt("chunks/000001", read.ErrMissing), time.Hour, Wait},
		"missing, old":            {corrupt("chunks/000001", read.ErrMissing), WaitAge, Salvage},
		"index missing, young":    {corrupt("index", read.ErrMissing), time.Hour, Wait},
		"index missing, old":      {corrupt("index", read.ErrMissing), WaitAge, Quarantine},
		"checksum":                {corrupt("index", errors.New("checksum")), time.Hour, Salvage},
		"unsorted":                {corrupt("index", read.ErrUnsorted), time.Hour, Salvage},
		"undecodable, who knows?": {fmt.Errorf("%w: series x", block.ErrCorrupt), time.Hour, Probe},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Decide(tc.err, func(ulid.ULID) time.Duration { return tc.age })
			require.Equal(t, tc.want, v.Action)
			require.NotEmpty(t, v.Reason)
			if tc.want == Wait || tc.want == Salvage || tc.want == Quarantine {
				require.Equal(t, id, v.Block)
			}
		})
	}
	require.Equal(t, Salvage, Decide(corrupt("chunks/000001", read.ErrMissing), nil).Action, "without ages all are old")
	require.Equal(t, Quarantine, AfterSalvage(id, block.ErrCorrupt).Action)
	require.Equal(t, Retry, AfterSalvage(id, errors.New("503")).Action)
	require.Equal(t, block.ReasonIndexOutOfOrderChunk, MarkReason(read.ErrUnsorted.Error()))
	require.Equal(t, block.ReasonManual, MarkReason("checksum"))
}

func TestBackoffDoublesUpToAnHour(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Minute, Backoff(1))
	require.Equal(t, 2*time.Minute, Backoff(2))
	require.Equal(t, time.Hour, Backoff(7))
	require.Equal(t, time.Hour, Backoff(1000))
	require.Equal(t, time.Minute, Backoff(0))
}
