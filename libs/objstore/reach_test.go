package objstore

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func openS3(t *testing.T, endpoint string) Bucket {
	t.Helper()
	bkt, err := New(fmt.Appendf(nil, `
type: S3
config:
  bucket: metrics
  endpoint: %s
  access_key: test
  secret_key: the-secret-key
  insecure: true
  region: us-east-1
  bucket_lookup_type: path
  max_retries: 1
`, endpoint), "test", zap.NewNop(), nil)
	require.NoError(t, err)
	return bkt
}

func TestReachableBucketsPass(t *testing.T) {
	t.Parallel()
	bkt, dir := openFilesystem(t, "", nil)
	require.NoError(t, CheckReachable(t.Context(), bkt))
	require.NoError(t, bkt.Upload(t.Context(), "a/b", strings.NewReader("x")))
	require.NoError(t, CheckReachable(t.Context(), bkt))
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, CheckReachable(t.Context(), bkt), "the folder is made by the first upload")
}

func TestUnreachableBucketIsNamedWithTheReason(t *testing.T) {
	t.Parallel()
	answer := func(status int, code, message string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
		}))
		t.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for name, tc := range map[string]struct{ endpoint, reason string }{
		"missing": {answer(404, "NoSuchBucket", "The specified bucket does not exist"), "it does not exist"},
		"denied":  {answer(403, "AccessDenied", "no, the-secret-key is wrong"), "access denied"},
		"nobody":  {closed.Addr().String(), "no connection"},
		"trouble": {answer(400, "Strange", "whatever"), "it answers with an error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckReachable(t.Context(), openS3(t, tc.endpoint))
			require.ErrorContains(t, err, `bucket "metrics" of type S3 cannot be reached: `+tc.reason+": ")
			require.NotContains(t, err.Error(), "the-secret-key")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestBucketThatNeverAnswersIsReportedInTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, CheckReachable(ctx, openS3(t, srv.Listener.Addr().String())), "no answer in time")
}

func TestUnreadableFolderIsAccessDenied(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may read any folder")
	}
	bkt, dir := openFilesystem(t, "", nil)
	require.NoError(t, os.Chmod(dir, 0))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	require.ErrorContains(t, CheckReachable(t.Context(), bkt), "access denied")
}

func TestFolderTurnedFileIsReported(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "f")
	cfg := []byte("type: FILESYSTEM\nconfig: {directory: " + dir + "}\n")
	bkt, err := New(cfg, "test", zap.NewNop(), nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	err = bkt.Upload(t.Context(), "a", strings.NewReader("x"))
	require.ErrorContains(t, err, "not a directory")
	_, err = New(cfg, "test", zap.NewNop(), nil)
	require.ErrorContains(t, err, "is not a directory")
	require.NotErrorIs(t, err, io.EOF)
}
