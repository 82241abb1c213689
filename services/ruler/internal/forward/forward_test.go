package forward

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	config_util "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// fakeTarget takes requests, and answers as it is told.
type fakeTarget struct {
	mu     sync.Mutex
	answer func(n int) error // guarded by mu; n counts from 0
	n      int
	bodies [][]byte
}

func (f *fakeTarget) Store(_ context.Context, req []byte, _ int) (remote.WriteResponseStats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.answer != nil {
		if err := f.answer(f.n - 1); err != nil {
			return remote.WriteResponseStats{}, err
		}
	}
	f.bodies = append(f.bodies, append([]byte(nil), req...))
	return remote.WriteResponseStats{}, nil
}

// values are the samples taken, in order.
func (f *fakeTarget) values(t *testing.T) (out []float64) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.bodies {
		raw, err := snappy.Decode(nil, b)
		require.NoError(t, err)
		var req prompb.WriteRequest
		require.NoError(t, req.Unmarshal(raw))
		for _, ts := range req.Timeseries {
			out = append(out, ts.Samples[0].Value)
		}
	}
	return out
}

// testSegment is small, so that few samples make many segments.
const testSegment = 64 << 10

func record(t *testing.T, l *Log, from, n int) {
	t.Helper()
	app := l.Appender(t.Context())
	for i := from; i < from+n; i++ {
		_, err := app.Append(0, labels.FromStrings("__name__", "x", "i", fmt.Sprint(i)), int64(i), float64(i))
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
}

func start(t *testing.T, dir string, maxBytes int64, message remoteapi.WriteMessageType) (*Log, *Sender, *fakeTarget) {
	t.Helper()
	l, err := open(dir, labels.FromStrings("e", "1"), maxBytes, testSegment, zap.NewNop(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	c := config.DefaultRemoteWriteConfig
	c.URL, c.ProtobufMessage, c.Name = &config_util.URL{URL: &url.URL{Scheme: "http", Host: "x"}}, message, "t/1"
	s, err := NewSender(l, []*config.RemoteWriteConfig{&c}, zap.NewNop(), nil)
	require.NoError(t, err)
	f := &fakeTarget{}
	s.targets[0].client, s.targets[0].batch, s.targets[0].minBackoff = f, 700, time.Millisecond
	return l, s, f
}

func run(t *testing.T, s *Sender, until func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	require.Eventually(t, until, 20*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

func TestSamplesArriveInOrderOverFailuresAndRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var want []float64
	taken := []float64{}
	for round := range 3 {
		l, s, f := start(t, dir, DefaultMaxBytes, remoteapi.WriteV1MessageType)
		f.answer = func(n int) error {
			if n < 3 {
				return remote.RecoverableError{}
			}
			return nil
		}
		record(t, l, round*2000, 1500) // three records
		record(t, l, round*2000+1500, 500)
		for i := range 2000 {
			want = append(want, float64(round*2000+i))
		}
		run(t, s, func() bool { return len(f.values(t)) >= 2000 })
		taken = append(taken, f.values(t)...)
		require.NoError(t, l.Close())
	}
	require.Equal(t, want, taken, "each once, since all stops were clean")
}

func TestWhatIsRefusedForGoodIsPassedOver(t *testing.T) {
	t.Parallel()
	l, s, f := start(t, t.TempDir(), DefaultMaxBytes, remoteapi.WriteV1MessageType)
	f.answer = func(n int) error {
		if n == 0 {
			return errors.New("too old")
		}
		return nil
	}
	record(t, l, 0, 1000)
	record(t, l, 1000, 1)
	run(t, s, func() bool { return len(f.values(t)) == 1 })
	require.Equal(t, []float64{1000}, f.values(t))
}

func TestATornEndOfTheLogCostsOnlyItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _, _ := start(t, dir, DefaultMaxBytes, remoteapi.WriteV1MessageType)
	record(t, l, 0, 10)
	record(t, l, 10, 10)
	require.NoError(t, l.Close())
	path := filepath.Join(dir, "00000000")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	require.NoError(t, os.WriteFile(path, b[:end-20], 0o600))
	l, s, f := start(t, dir, DefaultMaxBytes, remoteapi.WriteV1MessageType)
	record(t, l, 20, 1)
	run(t, s, func() bool { v := f.values(t); return len(v) > 0 && v[len(v)-1] == 20 })
	require.Equal(t, []float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20}, f.values(t))
}

func TestTheLogIsBoundedAndGoesOnWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, s, f := start(t, dir, 2*testSegment, remoteapi.WriteV1MessageType)
	n := 0
	for segments := 0; segments < 6; n += 2000 {
		record(t, l, n, 2000)
		l.mu.Lock()
		segments = l.segment
		l.mu.Unlock()
	}
	size, err := l.wal.Size()
	require.NoError(t, err)
	require.Less(t, size, int64(4*testSegment))
	run(t, s, func() bool { v := f.values(t); return len(v) > 0 && v[len(v)-1] == float64(n-1) })
	require.Greater(t, f.values(t)[0], 0.0, "the oldest are gone")
}

func TestRemoteWrite2(t *testing.T) {
	t.Parallel()
	l, s, f := start(t, t.TempDir(), DefaultMaxBytes, remoteapi.WriteV2MessageType)
	record(t, l, 5, 1)
	run(t, s, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.bodies) == 1 })
	raw, err := snappy.Decode(nil, f.bodies[0])
	require.NoError(t, err)
	var req writev2.Request
	require.NoError(t, req.Unmarshal(raw))
	b := labels.NewScratchBuilder(0)
	lset, err := req.Timeseries[0].ToLabels(&b, req.Symbols)
	require.NoError(t, err)
	require.Equal(t, `{__name__="x", e="1", i="5"}`, lset.String())
	require.Equal(t, []writev2.Sample{{Value: 5, Timestamp: 5}}, req.Timeseries[0].Samples)
}
