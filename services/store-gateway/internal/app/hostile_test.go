package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// hostility is one run against a real process.
type hostility struct {
	duration   time.Duration
	blocks     int
	pods       int // of each block; 200 series each
	args       []string
	goodWithin time.Duration

	addr string

	mu       sync.Mutex // guards all below
	codes    map[string]int
	refusals map[string]string          // by kind of client, one example each
	good     map[string][]time.Duration // by kind of query
	bad      []error                    // good queries that failed
}

// TestHostileQueriesUnderAHardMemoryLimit runs the real program under a limit of 512 MiB for its data (RLIMIT_DATA: all private
// writable memory, whether touched or not), with a hundred clients that want everything, send huge expressions or stop to read. It
// takes some seconds, or as many as PROMONTORY_HOSTILE_SECONDS says, then with more data.
func TestHostileQueriesUnderAHardMemoryLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process")
	}
	h := &hostility{
		duration: 8 * time.Second, blocks: 4, pods: 50, goodWithin: 10 * time.Second,
		args:  []string{"--store.memory-budget=24MB", "--store.slow-client-timeout=2s"},
		codes: map[string]int{}, refusals: map[string]string{}, good: map[string][]time.Duration{},
	}
	if s := os.Getenv("PROMONTORY_HOSTILE_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		h.duration, h.blocks, h.pods = time.Duration(n)*time.Second, 8, 250
		h.args = []string{"--store.slow-client-timeout=5s"}
	}
	p := h.startLimited(t)
	h.run(t, p)

	hwm := highWater(t, p.PID())
	t.Logf("%d good queries failed; peak of resident memory %d MB; answers to the hostile ones: %v", len(h.bad), hwm>>20, h.codes)
	for kind, took := range h.good {
		slices.Sort(took)
		t.Logf("good queries for %s: %d answered, median %s, p99 %s, slowest %s", kind,
			len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
	for kind, text := range h.refusals {
		t.Logf("refused, %s: %s", kind, text)
	}
	require.NotEmpty(t, h.good["one pod"])
	require.NotEmpty(t, h.good["one job"])
	require.Empty(t, h.bad, "good queries that were not answered")
	require.Less(t, hwm, int64(512<<20))
	require.NotEmpty(t, h.refusals)
	numbers := regexp.MustCompile(`needs \d+ bytes \(.*\), the limit is \d+ bytes|the client has not read for \d+s, and \d+ other requests wait|no place was free for \S+: \d+ .* are worked on at once`)
	for kind, text := range h.refusals {
		require.Regexp(t, numbers, text, kind)
	}
	h.afterwards(t)
	for code := range h.codes {
		require.Contains(t, []string{"OK", "ResourceExhausted", "client left"}, code, "a hostile query is answered or refused, and nothing else")
	}
}

// startLimited makes the data and starts the program.
func (h *hostility) startLimited(t *testing.T) *procs.Process {
	t.Helper()
	dir := t.TempDir()
	bucket := filepath.Join(dir, "bucket")
	for i := range h.blocks {
		bigBlock(t, bucket, h.pods, map[string]string{"cluster": "eu1", "replica": "r" + strconv.Itoa(i)})
	}
	bin := filepath.Join(dir, "store-gateway")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../cmd/store-gateway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as images are built; with cgo each thread takes 8 MiB of the limit
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	addrs, err := procs.FreeAddrs(2)
	require.NoError(t, err)
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	t.Cleanup(func() { require.NoError(t, group.Stop()) })
	require.NoError(t, group.Start(t.Context(), procs.Spec{
		Name: "store-gateway", Binary: "/bin/sh",
		Args: append([]string{
			"-c", `ulimit -d 524288 && exec "$0" "$@"`, bin, "--data-dir=" + filepath.Join(dir, "data"),
			"--objstore.config={type: FILESYSTEM, config: {directory: " + bucket + "}}", "--http-address=" + addrs[0], "--grpc-address=" + addrs[1],
		}, h.args...),
		Ready: "http://" + addrs[0] + "/-/ready",
	}))
	h.addr = addrs[1]
	return group.Process("store-gateway")
}

// highWater is the most resident memory that a process ever had.
func highWater(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, m)
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	return n << 10
}

// run lets everybody loose, and fails if the process dies.
func (h *hostility) run(t *testing.T, p *procs.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), h.duration)
	defer cancel()
	var wg sync.WaitGroup
	loop := func(n int, kind string, f func(context.Context, *grpc.ClientConn) error) {
		for range n {
			wg.Go(func() {
				conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				for ctx.Err() == nil {
					h.note(ctx, kind, f(ctx, conn))
					select {
					case <-ctx.Done():
					case <-time.After(50 * time.Millisecond):
					}
				}
			})
		}
	}
	loop(40, "everything", h.everything)
	loop(20, "huge expression", h.hugeExpression)
	loop(30, "does not read", h.stopsReading)
	loop(10, "labels", h.allLabels)
	for i := range 3 {
		wg.Go(func() { h.goodQueries(ctx, t, "one pod", i, h.onePod) })
	}
	wg.Go(func() { h.goodQueries(ctx, t, "one job", 0, h.oneJob) })
	done := make(chan struct{})
	go func() { defer close(done); wg.Wait() }()
	select {
	case <-done:
	case <-p.Gone():
		cancel()
		<-done
		words, err := os.ReadFile(p.LogPath())
		if err != nil {
			t.Fatal(err)
		}
		words = words[max(0, bytes.Index(words, []byte("fatal"))):]
		t.Fatalf("the process died:\n%s", words[:min(len(words), 3000)])
	}
}

// afterwards asks for everything once more: with the others gone it is answered.
func (h *hostility) afterwards(t *testing.T) {
	t.Helper()
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	require.NoError(t, err)
	defer conn.Close()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, h.everything(t.Context(), conn))
		require.NoError(c, h.allLabels(t.Context(), conn))
	}, time.Minute, 100*time.Millisecond)
}

// note counts how a hostile query ended.
func (h *hostility) note(ctx context.Context, kind string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	code := status.Code(err).String()
	switch {
	case err != nil && left(ctx, err):
		code = "client left"
	case status.Code(err) == codes.ResourceExhausted:
		h.refusals[kind] = err.Error()
	case err != nil:
		code = err.Error()
	}
	h.codes[code]++
}

// left says whether the client ended the call, or was about to: the server knows its deadline, and may be first to notice.
func left(ctx context.Context, err error) bool {
	deadline, _ := ctx.Deadline()
	return ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded && time.Until(deadline) < time.Second
}

func (h *hostility) request(name, expr string) *thanos.SeriesRequest {
	return &thanos.SeriesRequest{
		MinTime: benchStart, MaxTime: benchStart + 8*chunkMillis, ResponseBatchSize: 64,
		Matchers: []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: name, Value: expr}},
	}
}

// open sends a Series request.
func open(ctx context.Context, conn *grpc.ClientConn, req *thanos.SeriesRequest) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, thanos.Store_Series_FullMethodName, grpc.ForceCodecV2(newRawCodec()))
	if err == nil {
		err = stream.SendMsg(req)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	return stream, err
}

func readAll(stream grpc.ClientStream) (frames int, err error) {
	for ; ; frames++ {
		var f rawFrame
		if err := stream.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return frames, err
		}
	}
}

func (h *hostility) everything(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := open(ctx, conn, h.request("__name__", ".+"))
	if err == nil {
		_, err = readAll(stream)
	}
	return err
}

func (h *hostility) hugeExpression(ctx context.Context, conn *grpc.ClientConn) error {
	var b strings.Builder
	for range 3000 {
		fmt.Fprintf(&b, "(.*%x.*[a-f]{1,3}%d)|", rand.Uint32(), rand.IntN(100))
	}
	b.WriteString(".*app.*")
	stream, err := open(ctx, conn, h.request("pod", b.String()))
	if err == nil {
		_, err = readAll(stream)
	}
	return err
}

// stopsReading takes two frames, and then waits until it is thrown out.
func (h *hostility) stopsReading(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := open(ctx, conn, h.request("__name__", "http.*"))
	for range 2 {
		if err == nil {
			err = stream.RecvMsg(&rawFrame{})
		}
	}
	if err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-time.After(20 * time.Second):
	case <-ctx.Done():
	}
	_, err = readAll(stream)
	return err
}

func (h *hostility) allLabels(ctx context.Context, conn *grpc.ClientConn) error {
	client := thanos.NewStoreClient(conn)
	all := []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "__name__", Value: ".+"}}
	_, err := client.LabelValues(ctx, &thanos.LabelValuesRequest{Label: "pod", Start: benchStart, End: benchStart + 8*chunkMillis, Matchers: all})
	if err == nil {
		_, err = client.LabelNames(ctx, &thanos.LabelNamesRequest{Start: benchStart, End: benchStart + 8*chunkMillis, Matchers: all})
	}
	return err
}

// onePod asks for some series: 20 of each block.
func (h *hostility) onePod(n int) (req *thanos.SeriesRequest, series int) {
	pod := n * 31 % h.pods
	req = h.request("pod", fmt.Sprintf("app-%d-%x", pod%17, pod*7919))
	req.Matchers = append(req.Matchers, &thanos.LabelMatcher{Name: "__name__", Value: fmt.Sprintf("http_requests_total_%02d", n%10)})
	return req, 20 * h.blocks
}

// oneJob asks for one metric of all pods of a job: with the data of a long run some megabytes.
func (h *hostility) oneJob(n int) (req *thanos.SeriesRequest, series int) {
	job := n % 17
	req = h.request("__name__", fmt.Sprintf("http_requests_total_%02d", n%10))
	req.Matchers = append(req.Matchers, &thanos.LabelMatcher{Name: "job", Value: fmt.Sprintf("app-%d", job)})
	return req, (h.pods + 16 - job) / 17 * 20 * h.blocks
}

// goodQueries asks again and again, from the nth query on.
func (h *hostility) goodQueries(ctx context.Context, t *testing.T, kind string, n int, query func(n int) (*thanos.SeriesRequest, int)) {
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for ; ctx.Err() == nil; n++ {
		req, series := query(n)
		req.ResponseBatchSize = 0
		// A query that has begun is waited for, also when the others have gone.
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.goodWithin)
		begin := time.Now()
		stream, err := open(one, conn, req)
		frames := 0
		if err == nil {
			frames, err = readAll(stream)
		}
		cancel()
		took := time.Since(begin)
		if err == nil && frames != series {
			err = fmt.Errorf("%d frames instead of %d", frames, series)
		}
		h.mu.Lock()
		if err != nil {
			h.bad = append(h.bad, fmt.Errorf("%s, after %s: %w", kind, took, err))
		} else {
			h.good[kind] = append(h.good[kind], took)
		}
		h.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
