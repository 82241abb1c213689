package grpcsnappy

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/encoding"
)

func TestTheCompressorIsRegisteredUnderItsName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "snappy", encoding.GetCompressor(Name).Name())
}

// The other implementation stands for a peer.
func TestTheFormatIsTheFramedOneOfPeers(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("frames ", 100_000)
	c := encoding.GetCompressor(Name)

	var ours bytes.Buffer
	w, err := c.Compress(&ours)
	require.NoError(t, err)
	_, err = io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close(), "a second close does nothing")
	require.Equal(t, "\xff\x06\x00\x00sNaPpY", ours.String()[:10], "stream identifier")
	got, err := io.ReadAll(snappy.NewReader(&ours))
	require.NoError(t, err)
	require.Equal(t, text, string(got))

	var theirs bytes.Buffer
	sw := snappy.NewBufferedWriter(&theirs)
	_, err = io.WriteString(sw, text)
	require.NoError(t, err)
	require.NoError(t, sw.Close())
	r, err := c.Decompress(&theirs)
	require.NoError(t, err)
	got, err = io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
	n, err := r.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Equal(t, io.EOF, err, "reading on after the end must not touch a reader that is another's by now")
}

func TestPooledStateIsNeverShared(t *testing.T) {
	t.Parallel()
	c := encoding.GetCompressor(Name)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			text := strings.Repeat(string(rune('a'+i)), 70_000)
			for range 50 {
				var buf bytes.Buffer
				w, err := c.Compress(&buf)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(w, text)
				_ = w.Close()
				r, err := c.Decompress(&buf)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := io.ReadAll(r); err != nil || string(got) != text {
					t.Errorf("got %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecompressNeverPanics(f *testing.F) {
	f.Add([]byte("\xff\x06\x00\x00sNaPpY"))
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, data []byte) {
		r, err := encoding.GetCompressor(Name).Decompress(bytes.NewReader(data))
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		}
	})
}
