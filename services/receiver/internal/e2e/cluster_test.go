package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// binary builds the receiver once.
var binary = sync.OnceValues(func() (string, error) { //nolint:gochecknoglobals // built once for all tests
	dir, err := os.MkdirTemp("", "receiver-e2e")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "receiver")
	cmd := exec.Command("go", "build", "-o", out, "../../cmd/receiver")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build receiver: %w\n%s", err, text)
	}
	built.Store(&out)
	return out, nil
})

// built is where binary has put it.
var built atomic.Pointer[string] //nolint:gochecknoglobals // see binary

// node is one receiver process.
type node struct {
	*procs.Process
	write, grpc, http string
}

// cluster is a router with ingesters behind it.
type cluster struct {
	t         testing.TB
	group     *procs.Group
	dir       string
	ringPath  string
	replicas  int
	router    *node
	ingesters []*node
}

func start(t testing.TB, ingesters, replicas int, ingesterArgs ...string) *cluster {
	t.Helper()
	bin, err := binary()
	require.NoError(t, err)
	c := &cluster{t: t, dir: t.TempDir(), replicas: replicas}
	c.ringPath = filepath.Join(c.dir, "hashrings.json")
	c.group = procs.New(procs.Config{LogDir: c.dir})
	t.Cleanup(func() { _ = c.group.Stop() })
	for range ingesters {
		c.addIngester(bin, ingesterArgs...)
	}
	c.setRing(c.ingesters...)
	c.router = c.add(bin, "router", "--receive.hashrings-file="+c.ringPath, "--receive.hashrings-algorithm=ketama",
		fmt.Sprintf("--receive.replication-factor=%d", replicas))
	return c
}

func (c *cluster) addIngester(bin string, args ...string) *node {
	name := fmt.Sprintf("ingester-%d", len(c.ingesters))
	n := c.add(bin, name, append([]string{`--label=replica="` + name + `"`, "--tsdb.path=" + filepath.Join(c.dir, name)}, args...)...)
	c.ingesters = append(c.ingesters, n)
	return n
}

func (c *cluster) add(bin, name string, args ...string) *node {
	c.t.Helper()
	addrs, err := procs.FreeAddrs(3)
	require.NoError(c.t, err)
	n := &node{write: addrs[0], grpc: addrs[1], http: addrs[2]}
	spec := procs.Spec{
		Name: name, Binary: bin,
		Args:   append([]string{"receive", "--remote-write.address=" + n.write, "--grpc-address=" + n.grpc, "--http-address=" + n.http}, args...),
		Ready:  "http://" + n.http + "/-/ready",
		Listen: []procs.Address{{Purpose: "HTTP", Addr: n.http}},
	}
	require.NoError(c.t, c.group.Start(c.t.Context(), spec))
	n.Process = c.group.Process(name)
	return n
}

func (c *cluster) setRing(nodes ...*node) {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.grpc)
	}
	raw, err := json.Marshal([]map[string]any{{"endpoints": addrs}})
	require.NoError(c.t, err)
	tmp := c.ringPath + ".tmp"
	require.NoError(c.t, os.WriteFile(tmp, raw, 0o600))
	require.NoError(c.t, os.Rename(tmp, c.ringPath))
}

// found are all samples in any of the nodes: times and values by the label i.
func found(t testing.TB, nodes ...*node) map[string]map[int64]float64 {
	t.Helper()
	out := map[string]map[int64]float64{}
	for _, n := range nodes {
		// A node that was killed a moment ago says that it is not complete yet.
		require.Eventually(t, func() bool { return metric(t, n, "promontory_receiver_tenants_replaying") == 0 }, time.Minute, 20*time.Millisecond)
		conn, err := grpc.NewClient("passthrough:///"+n.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		stream := storeapi.NewClient(conn).Series(ctx, &thanos.SeriesRequest{
			MinTime: 0, MaxTime: 1 << 60, ResponseBatchSize: 64,
			Matchers: []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: labels.MetricName, Value: "load_.*"}},
		}, storeapi.StreamOptions{})
		for stream.Next() {
			s := stream.At()
			at := out[s.Labels.Get("i")]
			if at == nil {
				at = map[int64]float64{}
				out[s.Labels.Get("i")] = at
			}
			for _, c := range s.Chunks {
				chk, err := chunkenc.FromData(chunkenc.EncXOR, c.Raw.Data)
				require.NoError(t, err)
				it := chk.Iterator(nil)
				for it.Next() != chunkenc.ValNone {
					ts, v := it.At()
					at[ts] = v
				}
			}
		}
		require.NoError(t, stream.Err())
		require.Empty(t, stream.Warnings())
		stream.Close()
		cancel()
		require.NoError(t, conn.Close())
	}
	return out
}
