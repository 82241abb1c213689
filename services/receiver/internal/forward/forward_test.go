package forward

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a peer that reads the real message and keeps what it got.
type node struct {
	mu        sync.Mutex
	got       map[string]int // by tenant and labels
	calls     int
	replicas  map[int64]int
	described map[string][]remotewrite.Metadata
	header    string
	answer    func(m *Message) error
	hang      chan struct{}
}

func newNode() *node {
	return &node{got: map[string]int{}, replicas: map[int64]int{}, described: map[string][]remotewrite.Metadata{}}
}

func (n *node) Close() error { return nil }
func (n *node) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

func (n *node) Invoke(ctx context.Context, method string, in, _ any, opts ...grpc.CallOption) error {
	if method != thanos.WriteableStore_RemoteWrite_FullMethodName {
		return fmt.Errorf("method %s", method)
	}
	data, err := newCodec().Marshal(in)
	if err != nil {
		return err
	}
	raw := data.Materialize()
	data.Free()
	// What other releases make of the message.
	var ref thanos.WriteRequest
	if err := ref.UnmarshalVT(raw); err != nil {
		return err
	}
	if n.hang != nil {
		select {
		case <-n.hang:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	for _, o := range opts {
		if h, ok := o.(grpc.HeaderCallOption); ok && n.header != "" {
			*h.HeaderAddr = metadata.Pairs(PeerHeader, n.header)
		}
	}
	var m Message
	if err := m.UnmarshalVT(raw); err != nil {
		return err
	}
	defer m.Free()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	n.replicas[m.Replica]++
	if len(ref.GetTimeseriesTenantData()) == 0 && len(ref.GetTimeseries()) > 0 && ref.GetTenant() != m.Parts[0].Tenant {
		return fmt.Errorf("tenant %q", ref.GetTenant())
	}
	if n.answer != nil {
		if err := n.answer(&m); err != nil {
			return err
		}
	}
	for _, p := range m.Parts {
		for i := range p.Series {
			n.got[p.Tenant+remotewrite.Describe(p.Series[i].Labels)]++
		}
		n.described[p.Tenant] = append(n.described[p.Tenant], p.Metadata...)
	}
	return nil
}

func refuse(code codes.Code) func(*Message) error {
	return func(*Message) error { return status.Error(code, "said so") }
}

type cluster struct {
	*Forwarder
	nodes []*node
}

func newCluster(t *testing.T, nodes, replicas int, local Local) *cluster {
	t.Helper()
	c := &cluster{}
	byAddr := map[string]*node{}
	var eps []hashring.Endpoint
	for i := range nodes {
		n := newNode()
		addr := fmt.Sprintf("node-%d:10901", i)
		byAddr[addr] = n
		c.nodes = append(c.nodes, n)
		eps = append(eps, hashring.Endpoint{Address: addr})
	}
	cfg := DefaultConfig()
	cfg.Replicas, cfg.Timeout = replicas, time.Second
	if local != nil {
		cfg.Local = "node-0:10901"
	}
	c.Forwarder = New(cfg, Deps{
		Dial: func(addr string) (Conn, error) { return byAddr[addr], nil }, Local: local,
		Logger: zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	rings, err := hashring.New([]hashring.Config{{Endpoints: eps, Algorithm: hashring.AlgorithmKetama}}, hashring.Settings{Replicas: replicas})
	require.NoError(t, err)
	c.SetRings(rings)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func series(pairs ...string) remotewrite.Series {
	return remotewrite.Series{
		Labels: remotewrite.AppendLabels(nil, labels.FromStrings(pairs...)), Body: remotewrite.AppendSample(nil, 1, 1, 0), Floats: 1,
	}
}

func many(n int) (out []remotewrite.Series) {
	for i := range n {
		out = append(out, series("__name__", "m", "i", fmt.Sprint(i)))
	}
	return out
}

func (c *cluster) write(t *testing.T, parts ...TenantSeries) ([]verdict.Failure, error) {
	t.Helper()
	released := make(chan struct{})
	fs, err := c.Write(t.Context(), parts, 0, func() { close(released) })
	t.Cleanup(func() { <-released })
	return fs, err
}

func (c *cluster) copies(t *testing.T) map[string]int {
	t.Helper()
	c.flights.Wait()
	out := map[string]int{}
	for _, n := range c.nodes {
		n.mu.Lock()
		for k, v := range n.got {
			out[k] += v
		}
		n.mu.Unlock()
	}
	return out
}

func TestEachSeriesGoesToAllItsOwners(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"", PeerIngester, PeerRouter} {
		c := newCluster(t, 5, 3, nil)
		for _, n := range c.nodes {
			n.header = header
		}
		calls := 0
		for range 2 { // once before and once after the peers have said what they are
			calls = 0
			for _, n := range c.nodes {
				calls -= n.calls
			}
			fs, err := c.write(t, TenantSeries{Tenant: "a", Series: many(50)}, TenantSeries{Tenant: "b", Series: many(20)})
			require.NoError(t, err)
			require.Empty(t, fs)
			c.flights.Wait()
		}
		got := c.copies(t)
		require.Len(t, got, 70)
		for k, n := range got {
			require.Equal(t, 6, n, k)
		}
		for _, n := range c.nodes {
			calls += n.calls
		}
		switch header {
		case PeerIngester:
			require.Equal(t, 5, calls, "one message for each ingester once it is known")
		case PeerRouter:
			require.Equal(t, 5*3, calls, "one message for each copy, with both tenants, once it is known")
		default:
			require.Equal(t, 5*3*2, calls, "one message for each copy and tenant: the form that all releases read")
		}
	}
}

func TestOneNodeMayFail(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*node){
		"refuses":  func(n *node) { n.answer = refuse(codes.Unavailable) },
		"panics":   func(n *node) { n.answer = refuse(codes.Internal) },
		"hangs":    func(n *node) { n.hang = make(chan struct{}) },
		"conflict": func(n *node) { n.answer = refuse(codes.AlreadyExists) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, 3, nil)
			f(c.nodes[1])
			start := time.Now()
			fs, err := c.write(t, TenantSeries{Tenant: "t", Series: many(30)})
			require.NoError(t, err)
			require.Empty(t, fs)
			require.Less(t, time.Since(start), 900*time.Millisecond, "nobody waits for the third")
			for _, n := range c.copies(t) {
				require.Equal(t, 2, n)
			}
		})
	}
}

func TestFailuresOfAMajorityAreToldApart(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]verdict.Kind{
		codes.AlreadyExists: verdict.Conflict, codes.InvalidArgument: verdict.Invalid, codes.ResourceExhausted: verdict.Limit,
		codes.Unavailable: verdict.Unavailable, codes.Internal: verdict.Unavailable,
	} {
		c := newCluster(t, 3, 3, nil)
		c.nodes[0].answer, c.nodes[2].answer = refuse(code), refuse(code)
		fs, err := c.write(t, TenantSeries{Tenant: "t", Series: many(5)})
		require.NoError(t, err)
		require.Len(t, fs, 5)
		for i, f := range fs {
			require.Equal(t, want, f.Kind)
			require.Equal(t, uint32(i), f.Series)
			require.Equal(t, uint32(1), f.Floats)
		}
		require.Contains(t, verdict.Explain(fs), "said so")
	}
}

func TestABadSeriesFailsAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3, nil)
	for _, n := range c.nodes {
		n.answer = func(m *Message) error {
			var fs []verdict.Failure
			for _, p := range m.Parts {
				for i := range p.Series {
					if string(remotewrite.Value(p.Series[i].Labels, "i")) == "7" {
						fs = append(fs, verdict.Failure{Series: uint32(i), Kind: verdict.Conflict, Floats: 1, Reason: "too late"})
					}
				}
			}
			if len(fs) == 0 {
				return nil
			}
			return status.FromProto(&spb.Status{
				Code: int32(codes.AlreadyExists), Message: "too late", Details: []*anypb.Any{verdict.Details(fs)},
			}).Err()
		}
	}
	all := many(10)
	all = append(all, series("job", "has no name"))
	fs, err := c.write(t, TenantSeries{Tenant: "other", Series: many(3)}, TenantSeries{Tenant: "t", Series: all})
	require.NoError(t, err)
	require.Len(t, fs, 2)
	bySeries := map[uint32]verdict.Failure{}
	for _, f := range fs {
		bySeries[f.Series] = f
	}
	require.Equal(t, verdict.Conflict, bySeries[3+7].Kind)
	require.Equal(t, "too late", bySeries[3+7].Reason)
	require.Equal(t, verdict.Invalid, bySeries[3+10].Kind)
	require.Contains(t, bySeries[3+10].Reason, "no metric name")
}

func TestANodeThatFailedIsLeftAloneForAMoment(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cfg := DefaultConfig()
	p := &peer{cfg: &cfg}
	var last time.Duration
	for i := range 10 {
		p.note(now, true, errors.New("no"))
		require.ErrorIs(t, p.blocked(now), errBackoff)
		d := p.until.Sub(now)
		require.LessOrEqual(t, d, cfg.MaxBackoff)
		if i < 5 {
			require.Greater(t, d, last)
		}
		last, now = d, p.until
		require.NoError(t, p.blocked(now))
	}
	p.note(now, true, nil)
	require.NoError(t, p.blocked(now))
}

func TestWhatWaitsForANodeIsBounded(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.PendingBytes = 100
	n := newNode()
	n.hang = make(chan struct{})
	p := &peer{addr: "x", conn: n, cfg: &cfg}
	out := &outgoing{parts: []TenantSeries{{Tenant: "t", Series: many(1)}}}
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, p.send(t.Context(), out).err) })
	require.Eventually(t, func() bool { return p.pending.Load() > 0 }, 5*time.Second, time.Millisecond)
	busy := p.send(t.Context(), &outgoing{parts: []TenantSeries{{Tenant: "t", Series: many(5)}}})
	require.ErrorIs(t, busy.err, errBusy)
	require.Equal(t, verdict.Unavailable, busy.kind)
	close(n.hang)
	wg.Wait()
	require.Zero(t, p.pending.Load())
}

func TestACopyGoesToItsOwnNodeOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3, nil)
	_, err := c.Write(t.Context(), []TenantSeries{{Tenant: "t", Series: many(30)}}, 2, func() {})
	require.NoError(t, err)
	for k, n := range c.copies(t) {
		require.Equal(t, 1, n, k)
	}
	for _, n := range c.nodes {
		require.Equal(t, map[int64]int{2: 1}, n.replicas)
	}
	_, err = c.Write(t.Context(), nil, 4, func() {})
	require.ErrorIs(t, err, ErrBadReplica)
}

// memory is a Local.
type memory struct {
	mu  sync.Mutex
	got int
	err error
}

func (m *memory) Append(_ context.Context, _ string, ss []remotewrite.Series, pick []uint32) ([]verdict.Failure, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	if pick == nil {
		m.got += len(ss)
	}
	m.got += len(pick)
	return nil, nil
}
func (*memory) Describe(string, []remotewrite.Metadata) {}

func TestOurOwnShareIsWrittenHere(t *testing.T) {
	t.Parallel()
	local := &memory{}
	c := newCluster(t, 3, 3, local)
	fs, err := c.write(t, TenantSeries{Tenant: "t", Series: many(30)})
	require.NoError(t, err)
	require.Empty(t, fs)
	c.flights.Wait()
	require.Equal(t, 30, local.got)
	require.Zero(t, c.nodes[0].calls)
	require.NotZero(t, c.nodes[1].calls)
}

func TestANodeOnItsOwnNeedsNoHashes(t *testing.T) {
	t.Parallel()
	local := &memory{}
	cfg := DefaultConfig()
	cfg.Local = "me"
	f := New(cfg, Deps{Local: local, Logger: zap.NewNop()})
	_, err := f.Write(t.Context(), []TenantSeries{{Tenant: "t", Series: many(3)}}, 0, func() {})
	require.ErrorIs(t, err, ErrNoHashring)
	f.SetRings(hashring.SingleRings("me"))
	_, err = f.Write(t.Context(), []TenantSeries{{Tenant: "t", Series: many(3)}}, 0, func() {})
	require.NoError(t, err)
	require.Equal(t, 3, local.got)
	local.err = errors.New("disk is full")
	_, err = f.Write(t.Context(), []TenantSeries{{Tenant: "t", Series: many(3)}}, 0, func() {})
	require.ErrorIs(t, err, local.err)
}

func TestMetadataIsForwardedOnceInAWhile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 1, nil)
	meta := []remotewrite.Metadata{{Family: "m", Type: 1, Help: "h"}}
	for range 3 {
		_, err := c.write(t, TenantSeries{Tenant: "t", Series: many(1), Metadata: meta})
		require.NoError(t, err)
	}
	c.flights.Wait()
	require.Equal(t, meta, c.nodes[0].described["t"])
}

func FuzzMessage(f *testing.F) {
	one := outgoing{parts: []TenantSeries{{Tenant: "t", Series: many(2), Metadata: []remotewrite.Metadata{{Family: "m"}}}}, replica: 2}
	f.Add(one.appendTo(nil))
	one.tuples = true
	f.Add(one.appendTo(nil))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var m Message
		_ = m.parse(data)
	})
}

func TestSeriesAreNotGivenBackWhileTheAnswerIsMade(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3, nil)
	for _, n := range c.nodes {
		n.answer = refuse(codes.AlreadyExists)
	}
	for range 200 {
		ss := many(50)
		fs, err := c.Write(t.Context(), []TenantSeries{{Tenant: "t", Series: ss}}, 0, func() { clear(ss) })
		require.NoError(t, err)
		require.Len(t, fs, 50)
		for _, f := range fs {
			require.Equal(t, uint32(1), f.Floats)
		}
	}
}
