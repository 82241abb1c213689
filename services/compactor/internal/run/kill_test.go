package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
	"github.com/promontory-io/promontory/services/compactor/internal/write"
)

var pairSetup = setup{replicaLabels: []string{"replica"}, dedup: dedup.Penalty}

// fingerprint is what the visible blocks hold, whatever their ULIDs are.
func fingerprint(t *testing.T, bkt objstore.Bucket) []string {
	t.Helper()
	var out []string
	for _, m := range visible(t, bkt) {
		sum, _, err := write.ReadSum(t.Context(), bkt, m, read.DefaultOptions())
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("%d-%d@%d %v %s sources=%d", m.MinTime, m.MaxTime, m.Thanos.Downsample.Resolution, m.Thanos.Labels, sum, len(m.Compaction.Sources)))
	}
	slices.Sort(out)
	return out
}

// requireCovered asserts that every source block is visible, or in a visible block.
func requireCovered(t *testing.T, bkt objstore.Bucket, ids []ulid.ULID, when string) {
	t.Helper()
	have := map[ulid.ULID]bool{}
	for _, m := range visible(t, bkt) {
		if m.Thanos.Downsample.Resolution == 0 {
			for _, s := range m.Compaction.Sources {
				have[s] = true
			}
		}
	}
	for _, id := range ids {
		require.True(t, have[id], "%s: the data of %s cannot be found", when, id)
	}
}

// TestKilledAtAnyRequestItConverges ends the process, as far as the bucket can tell, before
// each of its requests in turn. PROMONTORY_KILL_ALL tries them all, else every 13th.
func TestKilledAtAnyRequestItConverges(t *testing.T) {
	t.Parallel()
	origin := objstore.NewInMemBucket()
	var ids []ulid.ULID
	for _, m := range pairs(t, origin, 50, 2) {
		ids = append(ids, m.ULID)
	}
	reference := copyBucket(t, origin)
	counting := &blocktest.Hooked{Bucket: reference}
	r := newRun(t, counting, pairSetup)
	require.NoError(t, r.Once(t.Context()))
	total := len(counting.Calls())
	want := fingerprint(t, reference)
	require.Len(t, want, 3, "two days raw and in 5m, and the newest pair")

	step := 13
	if os.Getenv("PROMONTORY_KILL_ALL") != "" {
		step = 1
	}
	for n := 1; n <= total; n += step {
		bkt := copyBucket(t, origin)
		killed := newRun(t, &blocktest.Hooked{Bucket: bkt, Hook: blocktest.KillAt(int64(n)), Cut: int64(n % 3 * 100)}, pairSetup)
		if err := killed.Once(t.Context()); err == nil {
			// The last look at the bucket may miss a few markers.
			require.GreaterOrEqual(t, n, total-2*len(ids))
		}
		requireCovered(t, bkt, ids, fmt.Sprintf("killed at request %d of %d", n, total))

		again := newRun(t, bkt, pairSetup)
		require.NoError(t, again.Once(t.Context()), "after a kill at request %d", n)
		require.Equal(t, want, fingerprint(t, bkt), "after a kill at request %d of %d", n, total)

		// Three days later everything that was marked or cut off has gone.
		*again.now = again.now.Add(72 * time.Hour)
		later := pairSetup
		later.now = *again.now
		require.NoError(t, newRun(t, bkt, later).Once(t.Context()))
		require.Equal(t, want, fingerprint(t, bkt))
		require.Empty(t, remains(t, bkt), "after a kill at request %d", n)
	}
}

// remains are folders without meta.json. Where meta.json itself was cut off, as can happen in
// a store without atomic writes, the block is kept and shown as quarantined.
func remains(t *testing.T, bkt objstore.Bucket) []string {
	t.Helper()
	folders := map[string]bool{}
	require.NoError(t, bkt.Iter(t.Context(), "", func(name string) error {
		folders[name] = true
		return nil
	}))
	for _, m := range visible(t, bkt) {
		delete(folders, m.ULID.String()+"/")
	}
	maps.DeleteFunc(folders, func(folder string, _ bool) bool {
		quarantined, err := bkt.Exists(t.Context(), folder+block.NoCompactMarkFilename)
		require.NoError(t, err)
		return quarantined
	})
	return slices.Collect(maps.Keys(folders))
}

func TestBucketThatFailsHalfOfItsReadsOnlySlowsItDown(t *testing.T) {
	t.Parallel()
	origin := objstore.NewInMemBucket()
	pairs(t, origin, 10, 2)
	reference := copyBucket(t, origin)
	require.NoError(t, newRun(t, reference, pairSetup).Once(t.Context()))
	want := fingerprint(t, reference)

	bkt := copyBucket(t, origin)
	faulty, err := faults.Wrap(bkt, faults.Config{Seed: 1, Rules: []faults.Rule{
		{Operations: []string{faults.GetRange}, Share: 0.5, Error: faults.ErrorPlain},
		{Operations: []string{faults.Upload, faults.Attributes, faults.Exists}, Share: 0.02, Error: faults.ErrorPlain},
	}})
	require.NoError(t, err)
	s := pairSetup
	s.attempts = 15
	r := newRun(t, faulty, s)
	deadline := time.Now().Add(time.Minute)
	for r.Once(t.Context()) != nil {
		require.True(t, time.Now().Before(deadline), "does not get through")
		*r.now = r.now.Add(2 * time.Hour) // jobs that rest are tried again
	}
	require.Equal(t, want, fingerprint(t, bkt))
	require.Positive(t, faulty.Injected().Total())
}

func TestLostGuardStopsTheWorkWithoutAnyChange(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	pairs(t, bkt, 10, 2)
	before := fingerprint(t, bkt)
	s := pairSetup
	stop := errors.New("not allowed")
	s.guard = func() error { return stop }
	require.ErrorIs(t, newRun(t, bkt, s).Once(context.Background()), stop)
	require.Equal(t, before, fingerprint(t, bkt))
}
