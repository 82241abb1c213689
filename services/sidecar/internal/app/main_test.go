package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

// asSidecar makes the test binary be the sidecar itself, so that it can be killed.
const asSidecar = "SIDECAR_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asSidecar) != "" {
		ctx, cancel := context.WithCancel(context.Background())
		if err := NewCommand().ExecuteContext(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "sidecar:", err)
			cancel()
			os.Exit(1)
		}
		cancel()
		os.Exit(0)
	}
	// The client of one bucket provider starts its logger when it is loaded.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

// sidecar is one that runs within the test.
type sidecar struct {
	grpcAddr, httpAddr string
	logs               *lockedBuffer
	cancel             context.CancelFunc
	done               chan struct{}
	err                error // valid when done is closed
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// launch starts a sidecar with the flags that Thanos' own takes.
func launch(t testing.TB, prometheusURL, tsdbPath string, args ...string) *sidecar {
	t.Helper()
	addrs, err := procs.FreeAddrs(2)
	require.NoError(t, err)
	s := &sidecar{grpcAddr: addrs[0], httpAddr: addrs[1], logs: &lockedBuffer{}, done: make(chan struct{})}
	cmd := newCommand(s.logs)
	cmd.SetArgs(append(s.args(prometheusURL, tsdbPath), args...))
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		s.err = cmd.ExecuteContext(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-s.done
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Log(s.logs.String())
		}
	})
	return s
}

func (s *sidecar) args(prometheusURL, tsdbPath string) []string {
	return []string{
		"sidecar", "--tsdb.path=" + tsdbPath, "--prometheus.url=" + prometheusURL, "--grpc-address=" + s.grpcAddr, "--http-address=" + s.httpAddr,
	}
}

// start is launch that waits until the sidecar is ready.
func start(t testing.TB, prom *promtest.Server, args ...string) *sidecar {
	t.Helper()
	s := launch(t, prom.URL.String(), prom.DataDir(), args...)
	s.waitReady(t, http.StatusOK)
	return s
}

// waitReady waits for a status of the readiness probe.
func (s *sidecar) waitReady(t testing.TB, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		select {
		case <-s.done:
			t.Fatalf("sidecar ended: %v\n%s", s.err, s.logs)
		default:
		}
		code, _ := s.get("/-/ready")
		return code == want
	}, promtest.Wait, 20*time.Millisecond)
}

func (s *sidecar) get(path string) (int, string) {
	resp, err := http.Get("http://" + s.httpAddr + path) //nolint:noctx // a test's probe
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// metric is the value of a series as it stands on /metrics, "" when it is not there.
func (s *sidecar) metric(t testing.TB, series string) string {
	t.Helper()
	_, body := s.get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fails waits for the sidecar to end with an error and returns its text.
func (s *sidecar) fails(t testing.TB) string {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(promtest.Wait):
		t.Fatalf("sidecar goes on:\n%s", s.logs)
	}
	require.Error(t, s.err)
	return s.err.Error()
}

func (s *sidecar) dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// writeTSDB makes a TSDB in dir that holds data in its head, or in a block.
func writeTSDB(t testing.TB, dir string, data storeapitest.Data, toBlock bool) {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = 0
	db, err := tsdb.Open(dir, nil, nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	data.Append(t, db.Appender(t.Context()))
	if toBlock {
		require.NoError(t, db.CompactHead(tsdb.NewRangeHead(db.Head(), storeapitest.Start, storeapitest.End)))
	}
	require.NoError(t, db.Close())
}

var testLabels = labels.FromStrings("cluster", "eu1", "replica", "a")
