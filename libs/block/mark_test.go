package block_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
)

func TestMarkersEqualTheRecordedOnes(t *testing.T) {
	t.Parallel()
	ctx, bkt := t.Context(), objstore.NewInMemBucket()
	for _, tc := range []struct {
		file, id string
		mark     func(id string) (bool, error)
	}{
		{block.DeletionMarkFilename, "01M83WT0F8G3MZ54XJ27KXDAFY", func(id string) (bool, error) {
			return block.MarkForDeletion(ctx, nil, bkt, mustID(t, id), "a test", time.Unix(1795427407, 5))
		}},
		{block.NoCompactMarkFilename, "01M83WT0G6AKFDXXHR8FNQV95H", func(id string) (bool, error) {
			return block.MarkNoCompact(ctx, nil, bkt, mustID(t, id), block.ReasonManual, "a test", time.Unix(1795427408, 0))
		}},
		{block.NoDownsampleMarkFilename, "01M83WT0GQ4Z6ND4511TP90F38", func(id string) (bool, error) {
			return block.MarkNoDownsample(ctx, nil, bkt, mustID(t, id), block.ReasonManual, "a test", time.Unix(1795427408, 0))
		}},
	} {
		written, err := tc.mark(tc.id)
		require.NoError(t, err)
		require.True(t, written)
		want, err := os.ReadFile("testdata/markers/" + tc.file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(bkt.Objects()[tc.id+"/"+tc.file]))

		written, err = tc.mark(tc.id)
		require.NoError(t, err)
		require.False(t, written, "a mark that exists stays as it is")
	}
	d, err := block.ReadDeletionMark(ctx, bkt, mustID(t, "01M83WT0F8G3MZ54XJ27KXDAFY"))
	require.NoError(t, err)
	require.Equal(t, time.Unix(1795427407, 0), d.Time())
	c, err := block.ReadNoCompactMark(ctx, bkt, mustID(t, "01M83WT0G6AKFDXXHR8FNQV95H"))
	require.NoError(t, err)
	require.Equal(t, block.ReasonManual, c.Reason)
	n, err := block.ReadNoDownsampleMark(ctx, bkt, mustID(t, "01M83WT0GQ4Z6ND4511TP90F38"))
	require.NoError(t, err)
	require.EqualValues(t, 1795427408, n.NoDownsampleTime)
}

func TestOldMarkKeepsItsTime(t *testing.T) {
	t.Parallel()
	ctx, bkt, id := t.Context(), objstore.NewInMemBucket(), mustID(t, idText)
	_, err := block.MarkForDeletion(ctx, nil, bkt, id, "first", time.Unix(100, 0))
	require.NoError(t, err)
	_, err = block.MarkForDeletion(ctx, nil, bkt, id, "second", time.Unix(200, 0))
	require.NoError(t, err)
	m, err := block.ReadDeletionMark(ctx, bkt, id)
	require.NoError(t, err)
	require.EqualValues(t, 100, m.DeletionTime)
	require.Equal(t, "first", m.Details)
}

func TestMarkThatSaysNothingIsReplacedAndOneFromTheFutureIsNot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content string
		written bool
	}{
		"empty":           {"", true},
		"cut off":         {`{"id":"` + idText + `","ver`, true},
		"another block's": {`{"id":"` + strings.Replace(idText, "41G", "41H", 1) + `","version":1}`, true},
		"good":            {`{"id":"` + idText + `","version":1,"deletion_time":7}`, false},
		"version 2":       {`{"id":"` + idText + `","version":2}`, false},
	} {
		for marker, set := range map[string]func(objstore.Bucket, ulid.ULID) (bool, error){
			block.DeletionMarkFilename: func(bkt objstore.Bucket, id ulid.ULID) (bool, error) {
				return block.MarkForDeletion(t.Context(), nil, bkt, id, "new", time.Unix(100, 0))
			},
			block.NoCompactMarkFilename: func(bkt objstore.Bucket, id ulid.ULID) (bool, error) {
				return block.MarkNoCompact(t.Context(), nil, bkt, id, block.ReasonManual, "new", time.Unix(100, 0))
			},
			block.NoDownsampleMarkFilename: func(bkt objstore.Bucket, id ulid.ULID) (bool, error) {
				return block.MarkNoDownsample(t.Context(), nil, bkt, id, block.ReasonManual, "new", time.Unix(100, 0))
			},
		} {
			t.Run(name+" "+marker, func(t *testing.T) {
				t.Parallel()
				bkt, id := objstore.NewInMemBucket(), mustID(t, idText)
				object := block.ObjectName(id, marker)
				require.NoError(t, bkt.Upload(t.Context(), object, strings.NewReader(tc.content)))
				written, err := set(bkt, id)
				require.NoError(t, err)
				require.Equal(t, tc.written, written)
				got := string(bkt.Objects()[object])
				if tc.written {
					require.Contains(t, got, `"details":"new"`)
				} else {
					require.Equal(t, tc.content, got)
				}
			})
		}
	}
}

func TestReadingAMarkTellsKindsOfTroubleApart(t *testing.T) {
	t.Parallel()
	good := `{"id":"` + idText + `","version":1,"deletion_time":1}`
	for name, tc := range map[string]struct {
		content string
		want    error
	}{
		"truncated":       {good[:20], block.ErrMarkCorrupt},
		"empty":           {"", block.ErrMarkCorrupt},
		"version 2":       {strings.Replace(good, `"version":1`, `"version":2`, 1), block.ErrMarkVersion},
		"no version":      {strings.Replace(good, `"version":1`, `"v":1`, 1), block.ErrMarkVersion},
		"another block's": {strings.Replace(good, "41G", "41H", 1), block.ErrMarkCorrupt},
		"huge":            {good + strings.Repeat(" ", 2<<20), block.ErrMarkCorrupt},
		"unknown member":  {strings.Replace(good, `"version":1`, `"version":1,"new":[]`, 1), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bkt := objstore.NewInMemBucket()
			require.NoError(t, bkt.Upload(t.Context(), idText+"/"+block.DeletionMarkFilename, strings.NewReader(tc.content)))
			_, err := block.ReadDeletionMark(t.Context(), bkt, mustID(t, idText))
			require.ErrorIs(t, err, tc.want)
			if tc.want != nil {
				require.ErrorContains(t, err, idText)
			}
		})
	}
}

func TestRemoveMark(t *testing.T) {
	t.Parallel()
	ctx, bkt, id := t.Context(), objstore.NewInMemBucket(), mustID(t, idText)
	require.ErrorIs(t, block.RemoveMark(ctx, nil, bkt, id, block.NoCompactMarkFilename), block.ErrMarkNotFound)
	require.ErrorContains(t, block.RemoveMark(ctx, nil, bkt, id, block.IndexFilename), "is no marker file")
	_, err := block.MarkNoCompact(ctx, nil, bkt, id, block.ReasonManual, "", time.Unix(1, 0))
	require.NoError(t, err)
	require.NoError(t, block.RemoveMark(ctx, nil, bkt, id, block.NoCompactMarkFilename))
	_, err = block.ReadNoCompactMark(ctx, bkt, id)
	require.ErrorIs(t, err, block.ErrMarkNotFound)
}

func FuzzReadMark(f *testing.F) {
	f.Add([]byte(`{"id":"` + idText + `","version":1,"deletion_time":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bkt := objstore.NewInMemBucket()
		id := mustID(t, idText)
		require.NoError(t, bkt.Upload(context.Background(), block.ObjectName(id, block.DeletionMarkFilename), strings.NewReader(string(b))))
		if m, err := block.ReadDeletionMark(context.Background(), bkt, id); err == nil {
			require.Equal(t, id, m.ID)
			require.Equal(t, block.MarkVersion, m.Version)
		}
	})
}
