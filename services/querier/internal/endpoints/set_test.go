package endpoints

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakePeer answers Info with what it is told to.
type fakePeer struct {
	info.UnimplementedInfoServer
	mu   sync.Mutex // guards resp and err
	resp *info.InfoResponse
	err  error
}

func (p *fakePeer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resp, p.err
}

func (p *fakePeer) say(resp *info.InfoResponse, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resp, p.err = resp, err
}

var errDown = errors.New("Not ready")

// start serves p; without p a server that knows no Info.
func start(t *testing.T, p *fakePeer) string {
	if p == nil {
		return startInfo(t, nil)
	}
	return startInfo(t, p)
}

func storeInfo(component string, mint, maxt int64, lsets ...string) *info.InfoResponse {
	resp := &info.InfoResponse{
		ComponentType: component,
		Store:         &info.StoreInfo{MinTime: mint, MaxTime: maxt, SupportsSharding: true, SupportsWithoutReplicaLabels: true},
	}
	for _, l := range lsets {
		resp.LabelSets = append(resp.LabelSets, &thanos.LabelSet{Labels: []*thanos.Label{{Name: "replica", Value: l}}})
	}
	return resp
}

// world is a set with a clock and a discovery that the test turns.
type world struct {
	*Set
	t       *testing.T
	now     time.Time
	targets []Target
}

func newWorld(t *testing.T, reg prometheus.Registerer, targets ...Target) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1000, 0), targets: targets}
	cfg := DefaultConfig()
	cfg.InfoTimeout = 2 * time.Second
	w.Set = NewSet(cfg, Deps{
		Discover: func() []Target { return w.targets },
		Dial: func(tg Target) (Conn, error) {
			if strings.HasPrefix(tg.Addr, "undialable") {
				return nil, errors.New("no such certificate")
			}
			return grpc.NewClient("passthrough:///"+tg.Addr, storeapi.DialOption(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		},
		Logger: zap.NewNop(), Registerer: reg, Now: func() time.Time { return w.now },
	})
	t.Cleanup(w.close)
	return w
}

// after lets time pass and makes a round.
func (w *world) after(d time.Duration) {
	w.now = w.now.Add(d)
	w.Update(w.t.Context())
}

// see is the list in short: address by role, health, and whether it counts for answers.
func (w *world) see() string {
	var out []string
	for _, e := range w.Endpoints() {
		state := "healthy"
		if e.Err != nil {
			state = "failing"
		}
		if e.Askable() {
			state += ",asked"
		}
		if e.Store != nil {
			state += ",counts"
		}
		out = append(out, fmt.Sprintf("%s %s", e.ComponentType, state))
	}
	return strings.Join(out, "; ")
}

func TestAnEndpointIsUsedFromItsFirstGoodAnswerOn(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(nil, errDown)
	w := newWorld(t, nil)
	w.after(0)
	w.targets = []Target{{Addr: start(t, p)}}
	w.after(5 * time.Second)
	require.Equal(t, "unknown-store-api failing", w.see(), "a newcomer that is not ready yet holds nothing that was ever seen")
	p.say(&info.InfoResponse{
		ComponentType: "sidecar",
		LabelSets:     []*thanos.LabelSet{{Labels: []*thanos.Label{{Name: "b", Value: "2"}, {Name: "a", Value: "1"}}}, {}},
		Store: &info.StoreInfo{MinTime: 5, MaxTime: 9, SupportsSharding: true, TsdbInfos: []*info.TSDBInfo{{
			Labels: &thanos.LabelSet{Labels: []*thanos.Label{{Name: "a", Value: "1"}}}, MinTime: 6, MaxTime: 7,
		}}},
		Rules: &info.RulesInfo{}, Targets: &info.TargetsInfo{}, Exemplars: &info.ExemplarsInfo{MinTime: 1, MaxTime: 2},
	}, nil)
	w.after(5 * time.Second)
	e := w.Endpoints()[0]
	require.NoError(t, e.Err)
	require.Equal(t, "sidecar", e.ComponentType)
	require.Equal(t, []labels.Labels{labels.FromStrings("a", "1", "b", "2")}, e.LabelSets)
	require.Equal(t, TimeRange{5, 9}, e.Store.TimeRange)
	require.True(t, e.Store.SupportsSharding)
	require.False(t, e.Store.SupportsWithoutReplicaLabels)
	require.Equal(t, []TSDBInfo{{TimeRange{6, 7}, labels.FromStrings("a", "1")}}, e.Store.TSDBs)
	require.Equal(t, &TimeRange{1, 2}, e.Exemplars)
	require.True(t, e.Rules)
	require.True(t, e.Targets)
	require.False(t, e.Metadata)
	require.False(t, e.Status)
	require.False(t, e.Query)
	require.Equal(t, []Status{{
		Name: e.Addr, ComponentType: "sidecar", LastCheck: w.now, LabelSets: e.LabelSets, MinTime: 5, MaxTime: 9,
	}}, Statuses(w))
	p.say(&info.InfoResponse{ComponentType: "sidecar", Exemplars: &info.ExemplarsInfo{}}, nil)
	w.after(5 * time.Second)
	require.Equal(t, &fullRange, w.Endpoints()[0].Exemplars, "sidecars and receivers do not say of when their exemplars are")
}

func TestAFailingEndpointIsMissedUntilTheUnhealthyTimeout(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(storeInfo("store", 5, 9, "a"), nil)
	w := newWorld(t, nil, Target{Addr: start(t, p)})
	w.after(0)
	require.Equal(t, "store healthy,asked,counts", w.see())
	p.say(nil, errDown)
	w.after(5 * time.Second)
	require.Equal(t, "store failing,counts", w.see())
	require.Equal(t, TimeRange{5, 9}, w.Endpoints()[0].Store.TimeRange)
	w.after(4 * time.Minute)
	require.Equal(t, "store failing,counts", w.see())
	w.after(time.Minute)
	require.Equal(t, "store failing", w.see())
	p.say(storeInfo("store", 4, 9, "a"), nil)
	w.after(5 * time.Second)
	require.Equal(t, "store healthy,asked,counts", w.see())
	require.Equal(t, TimeRange{4, 9}, w.Endpoints()[0].Store.TimeRange)
}

func TestAnEndpointNeverReachedSinceTheStartIsMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, Target{Addr: "127.0.0.1:1"}, Target{Addr: "undialable:1"}, Target{Addr: start(t, nil)})
	w.after(0)
	list := w.Endpoints()
	require.Len(t, list, 3)
	for _, e := range list {
		require.Error(t, e.Err)
		require.False(t, e.Askable())
		if errors.Is(e.Err, storeapi.ErrUnimplemented) {
			require.Nil(t, e.Store, "it will never be used")
			continue
		}
		require.Equal(t, TimeRange{math.MinInt64, math.MaxInt64}, e.Store.TimeRange)
	}
	w.after(5 * time.Minute)
	for _, e := range w.Endpoints() {
		require.Nil(t, e.Store)
	}
}

func TestAStrictEndpointIsAskedWhateverItsState(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(nil, errDown)
	w := newWorld(t, nil, Target{Addr: start(t, p), Strict: true}, Target{Addr: "undialable:1", Strict: true})
	w.after(0)
	w.after(time.Hour)
	require.Equal(t, "unknown-store-api failing,asked,counts; unknown-store-api failing,counts", w.see(), "what cannot be dialled cannot be asked")
	require.Empty(t, w.Endpoints()[0].LabelSets)
	p.say(storeInfo("store", 5, 9, "a"), nil)
	w.after(time.Second)
	p.say(nil, errDown)
	w.after(time.Hour)
	require.Equal(t, "store failing,asked,counts", strings.Split(w.see(), "; ")[0])
	require.Equal(t, TimeRange{5, 9}, w.Endpoints()[0].Store.TimeRange)
}

func TestWhatDiscoveryLosesIsStillMissing(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(storeInfo("store", 5, 9, "a"), nil)
	w := newWorld(t, nil, Target{Addr: start(t, p), Discovered: true})
	w.after(0)
	w.targets = nil
	w.after(5 * time.Second)
	require.Equal(t, "store healthy,asked,counts", w.see(), "as long as it answers it is asked")
	p.say(nil, errDown)
	w.after(time.Minute)
	require.Equal(t, "store failing,counts", w.see())
	require.ErrorContains(t, w.Endpoints()[0].Err, "discovery does not name it since")
	w.after(4 * time.Minute)
	require.Empty(t, w.see())
}

func TestWhatIsNotConfiguredAnyMoreGoesAtOnce(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(storeInfo("store", 5, 9, "a"), nil)
	w := newWorld(t, nil, Target{Addr: start(t, p)})
	w.after(0)
	w.targets = nil
	w.after(5 * time.Second)
	require.Empty(t, w.see())
}

func TestAReplacedEndpointIsNotMissing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		component string
		before    bool // the other peer was there before the loss
		said      *info.InfoResponse
		missing   bool
	}{
		"sidecar elsewhere":                     {"sidecar", false, storeInfo("sidecar", 5, 9, "a"), false},
		"sidecar of the same Prometheus":        {"sidecar", true, storeInfo("sidecar", 4, 9, "a"), false},
		"sidecar of another Prometheus":         {"sidecar", true, storeInfo("sidecar", 5, 9, "b"), true},
		"sidecar with less data":                {"sidecar", false, storeInfo("sidecar", 6, 9, "a"), true},
		"store gateway elsewhere":               {"store", false, storeInfo("store", 5, 9, "a"), false},
		"store gateway that had its own blocks": {"store", true, storeInfo("store", 5, 9, "a"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lost, other := &fakePeer{}, &fakePeer{}
			lost.say(storeInfo(tc.component, 5, 9, "a"), nil)
			other.say(tc.said, nil)
			a, b := Target{Addr: start(t, lost), Discovered: true}, Target{Addr: start(t, other), Discovered: true}
			w := newWorld(t, nil, a)
			if tc.before {
				w.targets = append(w.targets, b)
			}
			w.after(0)
			lost.say(nil, errDown)
			w.targets = []Target{b}
			w.after(5 * time.Second)
			require.Len(t, w.Endpoints(), map[bool]int{true: 2, false: 1}[tc.missing], w.see())
		})
	}
}

func TestOneNewcomerReplacesOneStoreGateway(t *testing.T) {
	t.Parallel()
	var peers []*fakePeer
	var targets []Target
	for range 3 {
		p := &fakePeer{}
		p.say(storeInfo("store", 5, 9, "a"), nil)
		peers, targets = append(peers, p), append(targets, Target{Addr: start(t, p), Discovered: true})
	}
	w := newWorld(t, nil, targets[:2]...)
	w.after(0)
	peers[0].say(nil, errDown)
	peers[1].say(nil, errDown)
	w.targets = targets[2:]
	w.after(5 * time.Second)
	require.Len(t, w.Endpoints(), 2, w.see())
}

func TestDuplicatesAndConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(storeInfo("store", 5, 9, "a", "b"), nil)
	bare := &fakePeer{}
	bare.say(storeInfo("something new", 5, 9), nil)
	a, b := Target{Addr: start(t, p)}, Target{Addr: start(t, bare)}
	reg := prometheus.NewPedanticRegistry()
	w := newWorld(t, reg, a, b, Target{Addr: a.Addr, Strict: true}, Target{Addr: "127.0.0.1:1"})
	w.after(0)
	require.False(t, w.Endpoints()[0].Strict && w.Endpoints()[1].Strict, "the first wins")
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_query_duplicated_endpoint_addresses_total How often an address was named twice in one round of discovery.
# TYPE thanos_query_duplicated_endpoint_addresses_total counter
thanos_query_duplicated_endpoint_addresses_total 1
# HELP thanos_store_nodes_grpc_connections How many endpoints are connected and healthy.
# TYPE thanos_store_nodes_grpc_connections gauge
thanos_store_nodes_grpc_connections{external_labels="no_external_labels",store_type="unknown-store-api"} 1
thanos_store_nodes_grpc_connections{external_labels="{replica=\"a\"},{replica=\"b\"}",store_type="store"} 1
`)))
	require.Len(t, externalLabelsText([]labels.Labels{labels.FromStrings("a", strings.Repeat("x", 5000))}), maxLabelText)
}

func TestTheFirstRoundMakesReadyAndTheEndClosesConnections(t *testing.T) {
	t.Parallel()
	p := &fakePeer{}
	p.say(storeInfo("store", 5, 9, "a"), nil)
	w := newWorld(t, nil, Target{Addr: start(t, p)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	<-w.Ready()
	require.Len(t, w.Endpoints(), 1)
	cancel()
	require.NoError(t, <-done)
	require.Nil(t, w.peers[w.Endpoints()[0].Addr].conn)
}

func TestAGroupIsOneEndpointOverAllItsAddresses(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[string]int{}
	var addrs []string
	for i := range 2 {
		name := fmt.Sprint(i)
		p := &countingPeer{hit: func() {
			mu.Lock()
			defer mu.Unlock()
			asked[name]++
		}}
		addrs = append(addrs, startInfo(t, p))
	}
	known := addrs[:1]
	groups := NewGroups(func(name string) []string {
		require.Equal(t, "dns+stores:10901", name)
		mu.Lock()
		defer mu.Unlock()
		return known
	})
	target := Target{Addr: "dns+stores:10901", Group: true}
	conn, err := grpc.NewClient(DialTarget(target), append(groups.DialOptions(target), storeapi.DialOption(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	defer conn.Close()
	ask := func() {
		_, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
		require.NoError(t, err)
	}
	ask()
	mu.Lock()
	require.Equal(t, map[string]int{"0": 1}, asked)
	known = addrs
	mu.Unlock()
	groups.Refresh()
	require.Eventually(t, func() bool {
		ask()
		mu.Lock()
		defer mu.Unlock()
		return asked["0"] > 1 && asked["1"] > 1
	}, 5*time.Second, time.Millisecond)
}

type countingPeer struct {
	info.UnimplementedInfoServer
	hit func()
}

func (p *countingPeer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	p.hit()
	return &info.InfoResponse{}, nil
}

func startInfo(t *testing.T, p info.InfoServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(storeapi.ServerOption())
	if p != nil {
		info.RegisterInfoServer(srv, p)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return l.Addr().String()
}
