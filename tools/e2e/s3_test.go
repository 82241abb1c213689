package e2e

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/stretchr/testify/require"
	upstream "github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

func TestARealS3ServerPassesTheAcceptanceSuite(t *testing.T) {
	t.Parallel()
	config, _ := harness.New(t).S3Bucket("history", "")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	bucket, err := objstore.New(text, "test", zap.NewNop(), nil, objstore.WithSource(config))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bucket.Close()) })
	require.NoError(t, objstore.CheckReachable(t.Context(), bucket))
	upstream.AcceptanceTest(t, bucket)

	t.Run("in parts", func(t *testing.T) {
		// Three parts, and their size not known beforehand.
		want := bytes.Repeat([]byte("promontory "), 1<<20)
		require.NoError(t, bucket.Upload(t.Context(), "large", io.MultiReader(bytes.NewReader(want))))
		attributes, err := bucket.Attributes(t.Context(), "large")
		require.NoError(t, err)
		require.EqualValues(t, len(want), attributes.Size)
		reader, err := bucket.GetRange(t.Context(), "large", 6<<20, 1<<20)
		require.NoError(t, err)
		got, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		require.True(t, bytes.Equal(want[6<<20:7<<20], got))
	})
	t.Run("wrong secret", func(t *testing.T) {
		bucket, err := objstore.New([]byte(strings.Replace(string(text), "testsecret", "guessed", 1)), "test", zap.NewNop(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, bucket.Close()) })
		err = objstore.CheckReachable(t.Context(), bucket)
		require.ErrorContains(t, err, `bucket "history" of type S3 cannot be reached`)
		require.NotContains(t, err.Error(), "guessed")
	})
	t.Run("no such bucket", func(t *testing.T) {
		bucket, err := objstore.New([]byte(strings.Replace(string(text), "bucket: history", "bucket: nowhere", 1)), "test", zap.NewNop(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, bucket.Close()) })
		err = objstore.CheckReachable(t.Context(), bucket)
		require.ErrorContains(t, err, `bucket "nowhere" of type S3 cannot be reached: it does not exist`)
	})
}
