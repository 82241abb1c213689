package app

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/storeapi"
)

func TestMain(m *testing.M) {
	// A cloud SDK starts a goroutine for its logger when it is imported.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

// logBuffer gathers log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// gateway is a running store gateway.
type gateway struct {
	conn *grpc.ClientConn
	http string // base URL
	logs *logBuffer
	p    *service.Process
}

var grpcAddr = regexp.MustCompile(`logger=grpc msg=listening address=(\S+)`)

// start runs a store gateway over the bucket that yaml describes until the test ends.
func start(t testing.TB, yaml string, change func(*Config)) *gateway {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Bucket = flags.InlineContent("objstore.config", yaml)
	cfg.DataDir = t.TempDir()
	cfg.Common.HTTP.Address, cfg.Common.GRPC.Address = "127.0.0.1:0", "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	require.NoError(t, cfg.Validate())
	logs := &logBuffer{}
	p, err := service.NewProcess(cfg.Common, logs)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- Run(ctx, cfg, p)
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close())
		http.DefaultClient.CloseIdleConnections()
	})
	g := &gateway{http: "http://" + p.HTTP.Addr().String(), logs: logs, p: p}
	var addr string
	require.Eventually(t, func() bool {
		m := grpcAddr.FindStringSubmatch(logs.String())
		if m != nil {
			addr = m[1]
		}
		select {
		case <-ended:
			return true
		default:
			return m != nil
		}
	}, 10*time.Second, 5*time.Millisecond, "the gRPC address is logged")
	require.NotEmpty(t, addr, "the process is running: %s", logs)
	g.conn, err = grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.conn.Close()) })
	return g
}

// waitReady waits for the first round of the syncer.
func (g *gateway) waitReady(t testing.TB) {
	t.Helper()
	require.Eventually(t, g.p.Status.Ready, 20*time.Second, 5*time.Millisecond, "ready: %s", g.logs)
}

func filesystemYAML(dir string) string {
	return "type: FILESYSTEM\nconfig:\n  directory: " + dir + "\n"
}

func sortLabels(series []labels.Labels) { slices.SortFunc(series, labels.Compare) }

func sortedKeys(m map[string]struct{}) []string { return slices.Sorted(maps.Keys(m)) }

// newCommand returns the command with its log lines going to logs.
func newCommand(logs *logBuffer) *cobra.Command { return command(logs) }

// runUntil runs cmd, stops it when done says so, and returns how it ended.
func runUntil(t *testing.T, cmd *cobra.Command, done func() bool) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	var err error
	require.Eventually(t, func() bool {
		select {
		case err = <-ended:
			ended <- err
			return true
		default:
			return done()
		}
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, err)
	cancel()
	return <-ended
}
