package clean

import (
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func allow() error { return nil }

func cleaner(bkt objstore.Bucket, now time.Time) *Cleaner {
	return New(zap.NewNop(), bkt, 48*time.Hour, func() time.Time { return now }, allow)
}

func empty(t *testing.T, bkt objstore.Bucket) bool {
	t.Helper()
	n := 0
	require.NoError(t, bkt.Iter(t.Context(), "", func(string) error { n++; return nil }, objstore.WithRecursiveIter()))
	return n == 0
}

func TestMarkedBlockGoesAfterTheDelayAndNotBefore(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m := blocktest.Upload(t, bkt, blocktest.Spec{})
	now := time.Now()
	_, err := block.MarkForDeletion(t.Context(), nil, bkt, m.ULID, "", now)
	require.NoError(t, err)
	mark, err := block.ReadDeletionMark(t.Context(), bkt, m.ULID)
	require.NoError(t, err)
	marks := map[ulid.ULID]*block.DeletionMark{m.ULID: mark}

	r, err := cleaner(bkt, now.Add(47*time.Hour)).Marked(t.Context(), marks)
	require.NoError(t, err)
	require.Zero(t, r.Deleted)
	r, err = cleaner(bkt, now.Add(49*time.Hour)).Marked(t.Context(), marks)
	require.NoError(t, err)
	require.Equal(t, 1, r.Deleted)
	require.True(t, empty(t, bkt))
}

func TestBlockWhoseMarkWasTakenOffOrSetAnewSinceTheListingStays(t *testing.T) {
	t.Parallel()
	bkt, now := objstore.NewInMemBucket(), time.Now()
	listed := map[ulid.ULID]*block.DeletionMark{}
	for _, again := range []bool{false, true} {
		id := blocktest.Upload(t, bkt, blocktest.Spec{Floats: 1}).ULID
		listed[id] = &block.DeletionMark{ID: id, DeletionTime: now.Add(-100 * time.Hour).Unix()}
		if again {
			_, err := block.MarkForDeletion(t.Context(), nil, bkt, id, "", now)
			require.NoError(t, err)
		}
	}
	before := len(bkt.Objects())
	r, err := cleaner(bkt, now).Marked(t.Context(), listed)
	require.NoError(t, err)
	require.Equal(t, Report{}, r)
	require.Len(t, bkt.Objects(), before)
}

func TestOneBlockThatCannotBeDeletedDoesNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	marks := map[ulid.ULID]*block.DeletionMark{}
	var stuck ulid.ULID
	for range 3 {
		stuck = blocktest.Upload(t, bkt, blocktest.Spec{Floats: 1}).ULID
		_, err := block.MarkForDeletion(t.Context(), nil, bkt, stuck, "", time.Now().Add(-49*time.Hour))
		require.NoError(t, err)
		marks[stuck] = &block.DeletionMark{ID: stuck}
	}
	hooked := &blocktest.Hooked{Bucket: bkt, Hook: func(c blocktest.Call) error {
		if c.Op == objstore.OpDelete && strings.HasPrefix(c.Name, stuck.String()) {
			return blocktest.ErrKilled
		}
		return nil
	}}
	r, err := cleaner(hooked, time.Now()).Marked(t.Context(), marks)
	require.ErrorIs(t, err, blocktest.ErrKilled)
	require.Equal(t, Report{Deleted: 2, Failed: 1}, r)
}

func TestPartialUploads(t *testing.T) {
	t.Parallel()
	id := blocktest.ID(time.Now().Add(-1000*time.Hour), 1)
	for name, tc := range map[string]struct {
		objects map[string]string
		ahead   time.Duration
		gone    bool
	}{
		"young":                        {map[string]string{"chunks/000001": "x"}, 47 * time.Hour, false},
		"old":                          {map[string]string{"chunks/000001": "x", "index": "y"}, 49 * time.Hour, true},
		"whole by now":                 {map[string]string{"chunks/000001": "x", "meta.json": "{}"}, 49 * time.Hour, false},
		"deletion under way, young":    {map[string]string{"chunks/000001": "x", block.DeletionMarkFilename: mark(t, id, time.Now())}, 47 * time.Hour, false},
		"deletion under way, due":      {map[string]string{"chunks/000001": "x", block.DeletionMarkFilename: mark(t, id, time.Now().Add(-47*time.Hour))}, 2 * time.Hour, true},
		"with an unusable mark, young": {map[string]string{block.DeletionMarkFilename: "{"}, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bkt := objstore.NewInMemBucket()
			for rel, content := range tc.objects {
				require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id, rel), strings.NewReader(content)))
			}
			r, err := cleaner(bkt, time.Now().Add(tc.ahead)).Partials(t.Context(), []ulid.ULID{id})
			require.NoError(t, err)
			require.Equal(t, tc.gone, r.PartialsDeleted == 1)
			require.Equal(t, tc.gone, empty(t, bkt))
		})
	}
}

func mark(t *testing.T, id ulid.ULID, at time.Time) string {
	t.Helper()
	bkt := objstore.NewInMemBucket()
	_, err := block.MarkForDeletion(t.Context(), nil, bkt, id, "", at)
	require.NoError(t, err)
	return string(bkt.Objects()[block.ObjectName(id, block.DeletionMarkFilename)])
}
