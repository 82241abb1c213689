package block_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func put(t testing.TB, bkt objstore.Bucket, names ...string) {
	t.Helper()
	for _, n := range names {
		require.NoError(t, bkt.Upload(context.Background(), n, strings.NewReader("x")))
	}
}

func deletions(calls []blocktest.Call) []string {
	var out []string
	for _, c := range calls {
		if c.Op == objstore.OpDelete {
			out = append(out, strings.TrimPrefix(c.Name, idText))
		}
	}
	return out
}

func TestDeleteTakesMetaFirstAndTheMarkLast(t *testing.T) {
	t.Parallel()
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	id := mustID(t, idText)
	p := idText + "/"
	put(t, bkt, p+"chunks/000001", p+"chunks/000002", p+"index", p+"meta.json", p+"no-compact-mark.json",
		p+"deletion-mark.json", p+"stranger", p+"chunks/", p, idText, "01M83WSSPQD8WKNMAJ9NZX48FG/meta.json")
	require.NoError(t, block.Delete(t.Context(), nil, bkt, id))
	require.Equal(t, []string{
		"/meta.json", "/chunks/000001", "/chunks/000002", "/index", "/no-compact-mark.json", "/stranger",
		"/deletion-mark.json", "/chunks/", "/", "",
	}, deletions(bkt.Calls()))
	left := bkt.Bucket.(*objstore.InMemBucket).Objects()
	require.Len(t, left, 1, "other blocks stay")

	require.NoError(t, block.Delete(t.Context(), nil, bkt, id), "a block that is gone is no error")
}

func TestFoldersListedAsObjectsGoAfterTheirContent(t *testing.T) {
	t.Parallel()
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	p := idText + "/"
	put(t, bkt, p+"chunks", p+"chunks/000001", p+"deletion-mark.json", p+"index")
	require.NoError(t, block.Delete(t.Context(), nil, bkt, mustID(t, idText)))
	require.Equal(t, []string{"/chunks/000001", "/index", "/deletion-mark.json", "/chunks"}, deletions(bkt.Calls()))
}

func TestInterruptedDeletionIsResumedAndNeverLooksFresh(t *testing.T) {
	t.Parallel()
	id := mustID(t, idText)
	for n := int64(1); ; n++ {
		inner, err := filesystem.NewBucket(t.TempDir())
		require.NoError(t, err)
		p := idText + "/"
		put(t, inner, p+"chunks/000001", p+"index", p+"meta.json")
		_, err = block.MarkForDeletion(t.Context(), nil, inner, id, "", time.Unix(1, 0))
		require.NoError(t, err)
		bkt := &blocktest.Hooked{Bucket: inner, Hook: blocktest.KillAt(n)}
		killErr := block.Delete(t.Context(), nil, bkt, id)
		names := namesOf(t, inner)
		if len(names) > 0 {
			require.True(t, slices.Contains(names, p+"deletion-mark.json"), "left without a mark: %v", names)
		}
		require.NoError(t, block.Delete(t.Context(), nil, inner, id))
		require.Empty(t, namesOf(t, inner))
		if killErr == nil {
			require.Greater(t, n, int64(6))
			return
		}
	}
}

func namesOf(t testing.TB, bkt objstore.Bucket) []string {
	t.Helper()
	var out []string
	require.NoError(t, bkt.Iter(context.Background(), "", func(n string) error {
		out = append(out, n)
		return nil
	}, objstore.WithRecursiveIter()))
	return out
}

func TestDeleteStopsWhereMetaStays(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied")
	inner := objstore.NewInMemBucket()
	put(t, inner, idText+"/meta.json", idText+"/index")
	bkt := &blocktest.Hooked{Bucket: inner, Hook: func(c blocktest.Call) error {
		if c.Op == objstore.OpDelete {
			return denied
		}
		return nil
	}}
	require.ErrorIs(t, block.Delete(t.Context(), nil, bkt, mustID(t, idText)), denied)
	require.Len(t, inner.Objects(), 2)
}

func TestExistsAndIsPartial(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		objects         []string
		exists, partial bool
	}{
		"absent":       {nil, false, false},
		"whole":        {[]string{"/index", "/meta.json"}, true, false},
		"no meta":      {[]string{"/index"}, false, true},
		"only a mark":  {[]string{"/deletion-mark.json"}, false, true},
		"another name": {[]string{"0/index"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs, err := filesystem.NewBucket(t.TempDir())
			require.NoError(t, err)
			for _, bkt := range []objstore.Bucket{objstore.NewInMemBucket(), fs} {
				for _, o := range tc.objects {
					put(t, bkt, idText+o)
				}
				exists, err := block.Exists(t.Context(), bkt, mustID(t, idText))
				require.NoError(t, err)
				require.Equal(t, tc.exists, exists)
				partial, err := block.IsPartial(t.Context(), bkt, mustID(t, idText))
				require.NoError(t, err)
				require.Equal(t, tc.partial, partial)
			}
		})
	}
}
