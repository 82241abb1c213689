package objstore

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	kitlog "github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore/providers/filesystem"
	"go.uber.org/zap"
)

// BenchmarkGetRange reads 16 KB out of a segment file of 64 MB through all layers of New, through none, and through the
// upstream provider for comparison.
func BenchmarkGetRange(b *testing.B) {
	const (
		objectSize = 64 << 20
		rangeSize  = 16_000
	)
	dir := b.TempDir()
	stack, err := New(fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %q}\n", dir), "bench", zap.NewNop(), prometheus.NewRegistry())
	require.NoError(b, err)
	require.NoError(b, stack.Upload(b.Context(), "block/chunks/000001", bytes.NewReader(make([]byte, objectSize))))
	ours, err := newFilesystem([]byte("directory: "+dir), kitlog.NewNopLogger())
	require.NoError(b, err)
	theirs, err := filesystem.NewBucket(dir)
	require.NoError(b, err)

	for _, bench := range []struct {
		name string
		bkt  Bucket
	}{{"whole stack", stack}, {"filesystem", ours}, {"upstream filesystem", theirs}} {
		b.Run(bench.name, func(b *testing.B) {
			buf := make([]byte, rangeSize)
			b.SetBytes(rangeSize)
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				rc, err := bench.bkt.GetRange(b.Context(), "block/chunks/000001", off, rangeSize)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(rc, buf); err != nil {
					b.Fatal(err)
				}
				if err := rc.Close(); err != nil {
					b.Fatal(err)
				}
				off = (off + 1<<20) % (objectSize - rangeSize)
			}
		})
	}
}
