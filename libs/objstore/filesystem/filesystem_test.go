package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newBucket(t testing.TB) *Bucket {
	t.Helper()
	bkt, err := New(t.TempDir())
	require.NoError(t, err)
	return bkt
}

func upload(t testing.TB, bkt *Bucket, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, bkt.Upload(t.Context(), name, strings.NewReader(name)))
	}
}

func read(t testing.TB, bkt *Bucket, name string) string {
	t.Helper()
	rc, err := bkt.Get(t.Context(), name)
	require.NoError(t, err)
	defer func() { require.NoError(t, rc.Close()) }()
	content, err := io.ReadAll(rc)
	require.NoError(t, err)
	return string(content)
}

func list(t testing.TB, bkt *Bucket, dir string, opts ...objstore.IterOption) []string {
	t.Helper()
	names := []string{}
	require.NoError(t, bkt.Iter(t.Context(), dir, func(name string) error { names = append(names, name); return nil }, opts...))
	return names
}

// stepReader gives its parts one by one and runs a check before each.
type stepReader struct {
	parts []string
	check func(part int)
	next  int
	err   error // after the last part; nil: io.EOF
}

func (s *stepReader) Read(p []byte) (int, error) {
	s.check(s.next)
	if s.next == len(s.parts) {
		if s.err != nil {
			return 0, s.err
		}
		return 0, io.EOF
	}
	n := copy(p, s.parts[s.next])
	s.next++
	return n, nil
}

func TestObjectIsInvisibleUntilItIsWhole(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	checks := 0
	require.NoError(t, bkt.Upload(t.Context(), "block/meta.json", &stepReader{parts: []string{"{", "}"}, check: func(int) {
		checks++
		ok, err := bkt.Exists(t.Context(), "block/meta.json")
		require.NoError(t, err)
		require.False(t, ok)
		require.Empty(t, list(t, bkt, ""))
		require.Empty(t, list(t, bkt, "", objstore.WithRecursiveIter()))
	}}))
	require.Equal(t, 3, checks)
	require.Equal(t, "{}", read(t, bkt, "block/meta.json"))
	require.Equal(t, []string{"block/meta.json"}, list(t, bkt, "", objstore.WithRecursiveIter()))
}

func TestReplacedObjectStaysWholeForItsReaders(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	require.NoError(t, bkt.Upload(t.Context(), "o", strings.NewReader("the former content")))
	early, err := bkt.Get(t.Context(), "o")
	require.NoError(t, err)
	require.NoError(t, bkt.Upload(t.Context(), "o", &stepReader{parts: []string{"new"}, check: func(int) {
		require.Equal(t, "the former content", read(t, bkt, "o"))
	}}))
	content, err := io.ReadAll(early)
	require.NoError(t, err)
	require.NoError(t, early.Close())
	require.Equal(t, "the former content", string(content))
	require.Equal(t, "new", read(t, bkt, "o"))
}

func TestFailedUploadChangesNothingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("source broken")
	for name, fail := range map[string]func(*Bucket) error{
		"the source fails": func(bkt *Bucket) error {
			return bkt.Upload(t.Context(), "o", &stepReader{parts: []string{"half"}, check: func(int) {}, err: errBroken})
		},
		"the context ends": func(bkt *Bucket) error {
			ctx, cancel := context.WithCancel(t.Context())
			return bkt.Upload(ctx, "o", &stepReader{parts: []string{"half", "whole"}, check: func(part int) {
				if part == 1 {
					cancel()
				}
			}})
		},
		"the place is a folder": func(bkt *Bucket) error {
			return bkt.Upload(t.Context(), "dir", strings.NewReader("x"))
		},
		"a parent is an object": func(bkt *Bucket) error {
			return bkt.Upload(t.Context(), "o/below", strings.NewReader("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bkt := newBucket(t)
			upload(t, bkt, "o", "dir/x")
			require.Error(t, fail(bkt))
			require.Equal(t, "o", read(t, bkt, "o"))
			left, err := os.ReadDir(filepath.Join(bkt.Root(), UploadsDir))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestRemainsOfKilledUploadsAreSweptOnceTheyAreOld(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	dir := filepath.Join(bkt.Root(), UploadsDir)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	old, young := filepath.Join(dir, "OLD"), filepath.Join(dir, "YOUNG")
	for _, path := range []string{old, young} {
		require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
	}
	then := time.Now().Add(-25 * time.Hour)
	require.NoError(t, os.Chtimes(old, then, then))

	require.Empty(t, list(t, bkt, ""), "unfinished uploads are not part of the bucket")
	upload(t, bkt, "o")
	require.NoFileExists(t, old)
	require.FileExists(t, young, "another process may be filling it")
}

func TestNamesThatLeaveTheBucketAreRefusedByEveryOperation(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	secret := filepath.Join(filepath.Dir(bkt.Root()), "outside")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	for _, name := range []string{"../outside", "a/../../outside", "/etc/passwd", "", UploadsDir + "/x", "./" + UploadsDir + "/x", UploadsDir} {
		_, err := bkt.Get(t.Context(), name)
		require.Error(t, err, name)
		require.False(t, bkt.IsObjNotFoundErr(err), "a wrong name is the caller's mistake")
		_, err = bkt.GetRange(t.Context(), name, 0, 1)
		require.Error(t, err, name)
		_, err = bkt.Exists(t.Context(), name)
		require.Error(t, err, name)
		_, err = bkt.Attributes(t.Context(), name)
		require.Error(t, err, name)
		require.Error(t, bkt.Upload(t.Context(), name, strings.NewReader("x")), name)
		require.Error(t, bkt.Delete(t.Context(), name), name)
	}
	require.Error(t, bkt.Iter(t.Context(), "..", func(string) error { return nil }))
	require.Empty(t, list(t, bkt, UploadsDir))
	require.FileExists(t, secret)
}

func TestListingLooksLikeAnObjectStore(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	upload(t, bkt, "b/1", "b/2/3", "b-x", "a", "link-target/deep")
	require.NoError(t, os.MkdirAll(filepath.Join(bkt.Root(), "empty"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(bkt.Root(), "link-target"), filepath.Join(bkt.Root(), "linked")))
	require.NoError(t, os.Symlink(filepath.Join(bkt.Root(), "nowhere"), filepath.Join(bkt.Root(), "broken")))

	require.Equal(t, []string{"a", "b-x", "b/", "link-target/", "linked/"}, list(t, bkt, ""))
	for _, dir := range []string{"b", "b/", "/b/", "./b"} {
		require.Equal(t, []string{"b/1", "b/2/"}, list(t, bkt, dir), dir)
	}
	require.Equal(t, []string{"a", "b-x", "b/1", "b/2/3", "link-target/deep", "linked/deep"}, list(t, bkt, "", objstore.WithRecursiveIter()))
	require.Empty(t, list(t, bkt, "nowhere"))
	require.Empty(t, list(t, bkt, "a"), "an object is no folder")
	require.Empty(t, list(t, bkt, "a/below"))

	require.NoError(t, bkt.IterWithAttributes(t.Context(), "b", func(attrs objstore.IterObjectAttributes) error {
		modified, ok := attrs.LastModified()
		require.True(t, ok)
		require.WithinDuration(t, time.Now(), modified, time.Minute)
		return nil
	}, objstore.WithUpdatedAt()))

	errEnough := errors.New("enough")
	calls := 0
	require.ErrorIs(t, bkt.Iter(t.Context(), "", func(string) error { calls++; return errEnough }), errEnough)
	require.Equal(t, 1, calls)
}

func TestWhatDisappearsWhileListingIsLeftOut(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	upload(t, bkt, "a/1", "b/1", "c/1")
	var names []string
	require.NoError(t, bkt.IterWithAttributes(t.Context(), "", func(attrs objstore.IterObjectAttributes) error {
		names = append(names, attrs.Name)
		return os.RemoveAll(filepath.Join(bkt.Root(), "b"))
	}, objstore.WithRecursiveIter(), objstore.WithUpdatedAt()))
	require.Equal(t, []string{"a/1", "c/1"}, names)
}

func TestFoldersAreNoObjects(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	upload(t, bkt, "dir/o")
	ok, err := bkt.Exists(t.Context(), "dir")
	require.NoError(t, err)
	require.False(t, ok)
	_, err = bkt.Get(t.Context(), "dir")
	require.True(t, bkt.IsObjNotFoundErr(fmt.Errorf("wrapped: %w", err)))
	_, err = bkt.Attributes(t.Context(), "dir")
	require.True(t, bkt.IsObjNotFoundErr(err))
	_, err = bkt.Get(t.Context(), "dir/o/deeper")
	require.True(t, bkt.IsObjNotFoundErr(err), "%v", err)
	ok, err = bkt.Exists(t.Context(), "dir/o/deeper")
	require.NoError(t, err)
	require.False(t, ok)

	require.NoError(t, bkt.Delete(t.Context(), "dir"))
	require.Equal(t, "dir/o", read(t, bkt, "dir/o"), "deleting a folder's name deletes no tree")
	require.NoError(t, bkt.Delete(t.Context(), "nowhere"))
	require.NoError(t, bkt.Delete(t.Context(), "dir/o"))
	require.NoDirExists(t, filepath.Join(bkt.Root(), "dir"), "emptied folders go")

	upload(t, bkt, "target/1", "target/2")
	require.NoError(t, os.Symlink(filepath.Join(bkt.Root(), "target"), filepath.Join(bkt.Root(), "linked")))
	require.NoError(t, bkt.Delete(t.Context(), "linked/1"))
	require.Equal(t, []string{"linked/2", "target/2"}, list(t, bkt, "", objstore.WithRecursiveIter()))
	require.DirExists(t, bkt.Root())
}

func TestRanges(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	require.NoError(t, bkt.Upload(t.Context(), "o", strings.NewReader("0123456789")))
	for _, tc := range []struct {
		off, length int64
		want        string
	}{
		{0, -1, "0123456789"},
		{3, -1, "3456789"},
		{3, 4, "3456"},
		{3, 100, "3456789"},
		{3, 1<<63 - 1, "3456789"},
		{3, 0, ""},
		{10, 5, ""},
		{1 << 40, 5, ""},
	} {
		for _, copyOut := range []bool{false, true} {
			rc, err := bkt.GetRange(t.Context(), "o", tc.off, tc.length)
			require.NoError(t, err)
			size, err := objstore.TryToGetSize(rc)
			require.NoError(t, err)
			require.EqualValues(t, len(tc.want), size)
			var got bytes.Buffer
			if copyOut {
				_, err = rc.(io.WriterTo).WriteTo(&got)
			} else {
				_, err = got.ReadFrom(struct{ io.Reader }{rc})
			}
			require.NoError(t, err)
			require.NoError(t, rc.Close())
			require.Equal(t, tc.want, got.String())
		}
	}
	for _, bad := range [][2]int64{{-1, 3}, {0, -2}} {
		_, err := bkt.GetRange(t.Context(), "o", bad[0], bad[1])
		require.Error(t, err)
	}
}

func TestFileCutUnderAReaderIsNoCleanEnd(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	upload(t, bkt, "a-long-name")
	for _, read := range []func(io.Reader) error{
		func(r io.Reader) error { _, err := io.ReadAll(r); return err },
		func(r io.Reader) error { _, err := r.(io.WriterTo).WriteTo(io.Discard); return err },
	} {
		rc, err := bkt.Get(t.Context(), "a-long-name")
		require.NoError(t, err)
		require.NoError(t, os.Truncate(filepath.Join(bkt.Root(), "a-long-name"), 3))
		require.ErrorIs(t, read(rc), io.ErrUnexpectedEOF)
		require.NoError(t, rc.Close())
		upload(t, bkt, "a-long-name")
	}
}

func TestUploadsAndDeletionsInOneFolderDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("block/chunks/%d", worker)
			for range 50 {
				if err := bkt.Upload(t.Context(), name, strings.NewReader(name)); err != nil {
					t.Errorf("upload: %v", err)
				}
				if err := bkt.Iter(t.Context(), "", func(string) error { return nil }, objstore.WithRecursiveIter()); err != nil {
					t.Errorf("list: %v", err)
				}
				if err := bkt.Delete(t.Context(), name); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, list(t, bkt, ""))
}

func TestEndedContextStopsEveryOperation(t *testing.T) {
	t.Parallel()
	bkt := newBucket(t)
	upload(t, bkt, "o")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bkt.Get(ctx, "o")
	require.ErrorIs(t, err, context.Canceled)
	_, err = bkt.Exists(ctx, "o")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, bkt.Upload(ctx, "o", strings.NewReader("")), context.Canceled)
	require.ErrorIs(t, bkt.Delete(ctx, "o"), context.Canceled)
	require.ErrorIs(t, bkt.Iter(ctx, "", func(string) error { return nil }), context.Canceled)
	require.Equal(t, "o", read(t, bkt, "o"))
}

func TestFolderIsCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	_, err := New("")
	require.EqualError(t, err, "missing directory for filesystem bucket")
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = New(file)
	require.ErrorContains(t, err, file+" is not a directory")
	_, err = New(filepath.Join(file, "below"))
	require.NoError(t, err)
	bkt, err := New(filepath.Join(t.TempDir(), "not", "yet"))
	require.NoError(t, err)
	require.Empty(t, list(t, bkt, ""))
	upload(t, bkt, "a/b")
	require.Equal(t, "a/b", read(t, bkt, "a/b"))
}

func BenchmarkUpload(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			bkt := newBucket(b)
			content := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				if err := bkt.Upload(b.Context(), fmt.Sprintf("block-%d/meta.json", n), bytes.NewReader(content)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
