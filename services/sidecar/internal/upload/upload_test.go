package upload

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

func TestPrometheusMustLeaveItsBlocksUncompacted(t *testing.T) {
	t.Parallel()
	abs, err := filepath.Abs("data/thanos.shipper.json")
	require.NoError(t, err)
	const (
		shortest = "storage.tsdb.min-block-duration"
		longest  = "storage.tsdb.max-block-duration"
		delay    = "storage.tsdb.delay-compact-file.path"
	)
	for _, tc := range []struct {
		name   string
		flags  promclient.Flags
		ignore bool
		notes  []string // parts of each
		err    string
	}{
		{name: "as it should be", flags: promclient.Flags{shortest: "2h", longest: "2h", delay: ""}},
		{name: "compacting", flags: promclient.Flags{shortest: "2h", longest: "1d12h"}, err: "min-block-duration is 2h0m0s and --storage.tsdb.max-block-duration is 36h0m0s"},
		{name: "compacting, ignored", flags: promclient.Flags{shortest: "2h", longest: "1d12h"}, ignore: true, notes: []string{"max-block-duration 36h0m0s"}},
		{name: "compacting later", flags: promclient.Flags{shortest: "2h", longest: "1d12h", delay: "data/thanos.shipper.json"}},
		{name: "compacting later, absolute", flags: promclient.Flags{shortest: "2h", longest: "1d12h", delay: abs}},
		{name: "compacting later, unclean", flags: promclient.Flags{shortest: "2h", longest: "1d12h", delay: "./data//thanos.shipper.json"}},
		{name: "waiting for somebody else", flags: promclient.Flags{shortest: "2h", longest: "1d12h", delay: "/other/thanos.shipper.json"}, err: "/other/thanos.shipper.json, which is not the file this sidecar writes: data/thanos.shipper.json"},
		{name: "waiting for somebody else, ignored", flags: promclient.Flags{shortest: "2h", longest: "2h", delay: "/other"}, ignore: true, err: "/other"},
		{name: "another duration", flags: promclient.Flags{shortest: "1h", longest: "1h"}, notes: []string{"blocks are of 1h0m0s"}},
		{name: "nothing told", flags: promclient.Flags{}, notes: []string{"blocks are of 0s"}},
		{name: "nonsense", flags: promclient.Flags{shortest: "soon", longest: "2h"}, err: "storage.tsdb.min-block-duration"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			notes, err := Guard{Dir: "data", MetaFileName: "thanos.shipper.json", IgnoreUnequal: tc.ignore}.Check(tc.flags)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Len(t, notes, len(tc.notes))
			for i, part := range tc.notes {
				require.Contains(t, notes[i], part)
			}
		})
	}
}

type countingShipper struct {
	syncs atomic.Int64
	err   error
}

func (c *countingShipper) Sync(context.Context) (int, error) {
	c.syncs.Add(1)
	return 0, c.err
}

func TestUploadsBeginWhenLabelsAreKnownAndGoOnWhateverHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shipper := &countingShipper{err: errors.New("bucket is gone")}
		started := make(chan struct{})
		var labelled atomic.Bool
		labelled.Store(true)
		loop := &Loop{
			Shipper: shipper, Started: started, Interval: Interval, Logger: zap.NewNop(),
			Labels: func() (labels.Labels, bool) { return labels.EmptyLabels(), labelled.Load() },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		time.Sleep(time.Hour)
		require.Zero(t, shipper.syncs.Load())
		close(started)
		synctest.Wait()
		require.Equal(t, int64(1), shipper.syncs.Load(), "at once")
		time.Sleep(90 * time.Second)
		synctest.Wait()
		require.Equal(t, int64(4), shipper.syncs.Load(), "and every half minute")
		labelled.Store(false)
		time.Sleep(time.Hour)
		require.Equal(t, int64(4), shipper.syncs.Load(), "but not without labels")
		cancel()
		require.NoError(t, <-done)
	})
}
