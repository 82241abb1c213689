package run

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

func TestRetentionMarksAndTheMarkCanBeTakenOffUntilTheDelayIsOver(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m := uploadBlock(t, bkt, "a", start, start+2*hour, 1)
	s := setup{keep: retention.Rules{Default: retention.Keep{Raw: 48 * time.Hour}}}
	r := newRun(t, bkt, s)
	require.NoError(t, r.Once(t.Context()))
	mark, err := block.ReadDeletionMark(t.Context(), bkt, m.ULID)
	require.NoError(t, err)
	require.Contains(t, mark.Details, "exceeding retention of 2d")
	require.Empty(t, visible(t, bkt))

	require.NoError(t, block.RemoveMark(t.Context(), nil, bkt, m.ULID, block.DeletionMarkFilename))
	require.Len(t, visible(t, bkt), 1)

	require.NoError(t, r.Once(t.Context()))
	*r.now = r.now.Add(49 * time.Hour)
	require.NoError(t, r.Once(t.Context()))
	require.Empty(t, bkt.Objects(), "the delay is over")
	require.InDelta(t, 1, metric(t, r.reg, "thanos_compact_blocks_cleaned_total"), 0)
}

func TestSourcesAreNotGivenUpForABlockThatIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, bkt objstore.Bucket, big *block.Meta){
		"a segment is missing": func(t *testing.T, bkt objstore.Bucket, big *block.Meta) {
			require.NoError(t, bkt.Delete(t.Context(), block.ObjectName(big.ULID, "chunks/000001")))
		},
		"it is quarantined": func(t *testing.T, bkt objstore.Bucket, big *block.Meta) {
			_, err := block.MarkNoCompact(t.Context(), nil, bkt, big.ULID, block.ReasonManual, "quarantine: a test", time.Now())
			require.NoError(t, err)
		},
		"it is marked for deletion": func(t *testing.T, bkt objstore.Bucket, big *block.Meta) {
			_, err := block.MarkForDeletion(t.Context(), nil, bkt, big.ULID, "a test", time.Now().Add(-time.Hour))
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bkt := objstore.NewInMemBucket()
			small := uploadBlock(t, bkt, "a", start, start+2*hour, 1)
			big := upload(t, bkt, blocktest.Spec{
				ExternalLabels: small.ExternalLabels(), MinTime: start, MaxTime: start + 4*hour, Interval: 5 * time.Minute, Level: 2,
				Sources: append(small.Clone().Compaction.Sources, blocktest.ID(time.UnixMilli(start), 9)),
			})
			spoil(t, bkt, big)
			r := newRun(t, bkt, setup{noVertical: true})
			_ = r.Upkeep(t.Context()) // may complain about the big block
			_, err := block.ReadDeletionMark(t.Context(), bkt, small.ULID)
			require.ErrorIs(t, err, block.ErrMarkNotFound)
		})
	}
}

func TestContainedBlocksAreGarbage(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	small := uploadBlock(t, bkt, "a", start, start+2*hour, 1)
	upload(t, bkt, blocktest.Spec{
		ExternalLabels: small.ExternalLabels(), MinTime: start, MaxTime: start + 4*hour, Interval: 5 * time.Minute, Level: 2,
		Sources: append(small.Clone().Compaction.Sources, blocktest.ID(time.UnixMilli(start), 9)),
	})
	r := newRun(t, bkt, setup{})
	require.NoError(t, r.Once(t.Context()))
	mark, err := block.ReadDeletionMark(t.Context(), bkt, small.ULID)
	require.NoError(t, err)
	require.Equal(t, OutdatedDetails, mark.Details)
	require.InDelta(t, 1, metric(t, r.reg, "thanos_compact_garbage_collected_blocks_total"), 0)
}

func TestManyWorkersComeToTheSameResult(t *testing.T) {
	t.Parallel()
	origin := objstore.NewInMemBucket()
	for i, g := range []string{"a", "b", "c", "d"} {
		for h := int64(0); h < 20; h += 2 {
			uploadBlock(t, origin, g, start+h*hour, start+(h+2)*hour, uint64(i*100)+uint64(h))
		}
	}
	one, many := copyBucket(t, origin), copyBucket(t, origin)
	require.NoError(t, newRun(t, one, setup{}).Once(t.Context()))
	r := newRun(t, many, setup{})
	r.cfg.CompactConcurrency, r.cfg.DownsampleConcurrency = 4, 4
	require.NoError(t, r.Once(t.Context()))
	require.Equal(t, fingerprint(t, one), fingerprint(t, many))
}

func TestRetentionDoesNotOutrunTheCompactionOfABacklog(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	for h := int64(0); h < 50; h += 2 {
		uploadBlock(t, bkt, "a", start+h*hour, start+(h+2)*hour, uint64(h))
	}
	// All of it is older than what is kept raw; 5m is kept for ever.
	s := setup{keep: retention.Rules{Default: retention.Keep{Raw: 48 * time.Hour}}}
	r := newRun(t, bkt, s)
	require.NoError(t, r.Retain(t.Context()))
	require.Len(t, visible(t, bkt), 25, "the newest shows that the two days before it are complete")
	require.NoError(t, r.Compact(t.Context()))
	require.NoError(t, r.Downsample(t.Context()))
	require.NoError(t, r.Retain(t.Context()))
	left := visible(t, bkt)
	require.Len(t, left, 1)
	require.Equal(t, block.Resolution5m, left[0].Thanos.Downsample.Resolution)
	require.EqualValues(t, 24, len(left[0].Compaction.Sources))
}
