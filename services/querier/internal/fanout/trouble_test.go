package fanout_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/health"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// patience is the response timeout in tests with stores that hang.
const patience = 250 * time.Millisecond

// moody starts a store with n series that fails in a random way, or does not, and tells which.
func moody(t *testing.T, r *rand.Rand, name string, n int) (e endpoints.Endpoint, sound bool) {
	t.Helper()
	s := &fakepeer.Store{External: lset("cluster", "eu", "replica", name), Series: ups(t, n, 0)}
	bad := func(frames func() [][]byte) endpoints.Endpoint {
		addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){fakepeer.Raw(frames)}})
		return fakepeer.Endpoint(t, addr, s)
	}
	switch r.IntN(10) {
	case 0:
		s.FailAfter, s.Err = r.IntN(n+1), storeapi.Unavailablef("disk on fire")
	case 1:
		s.HangAfter, s.Hang = r.IntN(n+1), true
	case 2:
		return bad(func() [][]byte { return [][]byte{{0x0a, 0x7f, 1, 2, 3}} }), false
	case 3:
		return bad(func() [][]byte { return unsorted(t) }), false
	case 4:
		return lost(fakepeer.Endpoint(t, "127.0.0.1:1", s)), false
	case 5:
		return fakepeer.Endpoint(t, "127.0.0.1:1", s), false
	case 6:
		s.Warnings = []string{"block 7 is broken"}
	default:
		return fakepeer.StartStore(t, s), true
	}
	return fakepeer.StartStore(t, s), false
}

func TestEveryIncompleteAnswerIsFlaggedAndNoCompleteOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			n := 1 + r.IntN(40)
			var peers []endpoints.Endpoint
			sound := map[string]bool{} // by address
			whole := map[string]bool{} // by replica
			for i := range 1 + r.IntN(5) {
				name := fmt.Sprint("r", i)
				e, ok := moody(t, r, name, n)
				if e.Addr == "127.0.0.1:1" {
					e.Addr += fmt.Sprint(":", i) // several that are not there are several
				}
				peers, sound[e.Addr], whole[name] = append(peers, e), ok, ok
			}
			stats := &receipt.Stats{}
			p := newProxy(fanout.Config{ResponseTimeout: patience, ReadAhead: 1 + r.IntN(3)}, peers...)
			began := time.Now()
			got := read(t.Context(), p, request(), fanout.Options{Stats: stats}, up)
			require.Less(t, time.Since(began), 20*patience)
			require.NoError(t, got.err)
			require.Len(t, stats.All(), len(peers))
			for _, s := range stats.All() {
				require.Equal(t, sound[s.Addr], !s.Missing(), "%s: %s", s.Addr, s.Err)
				require.Equal(t, sound[s.Addr], len(s.Gaps) == 0, s.Addr)
				for _, g := range s.Gaps {
					require.Equal(t, s.Addr, g.Addr)
					require.NotEmpty(t, g.Reason)
					require.EqualValues(t, 0, g.MinTime)
					require.EqualValues(t, 1_000_000, g.MaxTime)
					require.Empty(t, g.CoveredBy, "each replica is wanted for itself")
				}
				named := 0
				for _, w := range got.warnings {
					if strings.Contains(w, "endpoint "+s.Addr+" ") {
						named++
					}
				}
				require.Equal(t, !sound[s.Addr], named > 0, "warnings: %v", got.warnings)
			}
			for name, ok := range whole {
				have := 0
				for _, s := range got.series {
					if strings.Contains(s, `replica="`+name+`"`) {
						have++
					}
				}
				if ok {
					require.Equal(t, n, have, name)
				}
			}
			// The same with a caller who leaves somewhere in the middle: nothing hangs, and no goroutine stays.
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			stream, err := p.Series(ctx, request(), []*labels.Matcher{up}, fanout.Options{})
			require.NoError(t, err)
			for range r.IntN(10) {
				stream.Next()
			}
			stream.Close()
		})
	}
}

func TestAReplicaThatAnsweredCoversOneThatDidNot(t *testing.T) {
	t.Parallel()
	bad := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "eu", "replica", "a"), Err: storeapi.Unavailablef("no")})
	good := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "eu", "replica", "b"), Series: ups(t, 3, 0)})
	other := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "us", "replica", "a"), Err: storeapi.Unavailablef("no")})
	bad.ComponentType, good.ComponentType, other.ComponentType = "sidecar", "sidecar", "sidecar"
	p := newProxy(fanout.Config{}, bad, good, other)
	stats := &receipt.Stats{}
	got := read(t.Context(), p, request(without("replica")), fanout.Options{Stats: stats}, up)
	require.NoError(t, got.err)
	require.Len(t, got.warnings, 2)
	covered := map[string][]string{}
	for _, s := range stats.All() {
		for _, g := range s.Gaps {
			covered[g.Labels.Get("cluster")] = g.CoveredBy
		}
	}
	require.Equal(t, map[string][]string{"eu": {good.Addr}, "us": nil}, covered)

	stats = &receipt.Stats{}
	_, err := p.LabelNames(t.Context(), &thanos.LabelNamesRequest{End: 1e6}, nil, fanout.Options{Stats: stats, ReplicaLabels: []string{"replica"}})
	require.NoError(t, err)
	covered = map[string][]string{}
	for _, s := range stats.All() {
		for _, g := range s.Gaps {
			covered[g.Labels.Get("cluster")] = g.CoveredBy
		}
	}
	require.Equal(t, map[string][]string{"eu": {good.Addr}, "us": nil}, covered)
}

func TestAStoreThatHangsLeavesTimeForTheOthers(t *testing.T) {
	t.Parallel()
	hangs := fakepeer.StartStore(t, &fakepeer.Store{External: lset("a", "hangs"), Series: ups(t, 1, 0), Hang: true})
	// More frames than are read ahead: its stream stands still while the other is waited for.
	good := fakepeer.StartStore(t, &fakepeer.Store{External: lset("z", "good"), Series: ups(t, 200, 0)})
	p := newProxy(fanout.Config{ReadAhead: 2}, hangs, good)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	got := read(ctx, p, request(), fanout.Options{}, up)
	require.NoError(t, got.err)
	require.Len(t, got.series, 200)
	require.Len(t, got.warnings, 1)
	require.Contains(t, got.warnings[0], hangs.Addr)
	require.Contains(t, got.warnings[0], "share of the time")

	ctx, cancel = context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	got = read(ctx, p, request(abort), fanout.Options{}, up)
	require.ErrorIs(t, got.err, context.DeadlineExceeded)
	require.ErrorContains(t, got.err, "while waiting for endpoint "+hangs.Addr)
	require.NoError(t, ctx.Err(), "there is time left to say so")

	ctx, cancel = context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	names, err := p.LabelNames(ctx, &thanos.LabelNamesRequest{End: 1e6}, nil, fanout.Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"__name__", "i", "z"}, names.GetNames())
	require.Len(t, names.GetWarnings(), 1)
}

func TestAStoreWithAnOpenBreakerIsMissingAndNotAsked(t *testing.T) {
	t.Parallel()
	requests := make(chan *thanos.SeriesRequest, 10)
	bad := fakepeer.StartStore(t, &fakepeer.Store{External: lset("a", "bad"), Err: storeapi.Unavailablef("no"), Requests: requests})
	good := fakepeer.StartStore(t, &fakepeer.Store{External: lset("a", "good"), Series: ups(t, 2, 0)})
	now := time.Unix(1000, 0)
	tracker := health.New(health.Config{Failures: 2, FirstPause: time.Minute, MaxPause: time.Minute}, func() time.Time { return now }, nil)
	p := newProxy(fanout.Config{Health: tracker}, bad, good)
	var last receipt.Store
	for range 4 {
		stats := &receipt.Stats{}
		got := read(t.Context(), p, request(), fanout.Options{Stats: stats}, up)
		require.NoError(t, got.err)
		require.Len(t, got.series, 2)
		require.Len(t, got.warnings, 1)
		for _, s := range stats.All() {
			require.Equal(t, s.Addr == bad.Addr, s.Missing())
			if s.Missing() {
				last = s
			}
		}
	}
	require.Len(t, requests, 2)
	require.Equal(t, receipt.Lost, last.State)
	require.Contains(t, last.Err, "last 2 calls failed")
	require.Len(t, last.Gaps, 1)
	require.Equal(t, health.Closed, tracker.Status(good.Addr).Breaker)
	require.Equal(t, 4, tracker.Status(good.Addr).Calls)

	bad.Strict = true
	read(t.Context(), newProxy(fanout.Config{Health: tracker}, bad), request(), fanout.Options{}, up)
	require.Len(t, requests, 3, "a strict one is always asked")
}

// group starts stores with the same data behind one endpoint.
func group(t *testing.T, stores ...*fakepeer.Store) endpoints.Endpoint {
	t.Helper()
	var addrs []string
	for i, s := range stores {
		addrs = append(addrs, fakepeer.Start(t, &fakepeer.Peer{
			Info: &info.InfoResponse{ComponentType: fmt.Sprint(i)}, Register: []func(grpc.ServiceRegistrar){fakepeer.RegisterStore(s)},
		}))
	}
	groups := endpoints.NewGroups(func(string) []string { return addrs })
	target := endpoints.Target{Addr: "group:1", Group: true}
	conn, err := grpc.NewClient(endpoints.DialTarget(target), append(groups.DialOptions(target), storeapi.DialOption(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	// Calls go to all of them as soon as all are connected.
	connected := map[string]bool{}
	require.Eventually(t, func() bool {
		said, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
		connected[said.GetComponentType()] = err == nil
		return len(connected) == len(stores)
	}, 10*time.Second, time.Millisecond)
	return endpoints.Endpoint{
		Addr: target.Addr, Conn: conn, ComponentType: endpoints.ComponentStore, Group: true, LabelSets: []labels.Labels{stores[0].External},
		Store: &endpoints.StoreInfo{
			TimeRange: endpoints.TimeRange{MaxTime: 1 << 50}, Client: storeapi.NewClient(conn), SupportsSharding: true, SupportsWithoutReplicaLabels: true,
		},
	}
}

func TestAReplicaOfAGroupThatTakesItsTimeIsHedged(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(*fakepeer.Store){
		"hangs": func(s *fakepeer.Store) { s.Hang = true },
		"dies":  func(s *fakepeer.Store) { s.Err = storeapi.Unavailablef("no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := func() *fakepeer.Store {
				return &fakepeer.Store{External: lset("c", "eu"), Series: ups(t, 3, 0)}
			}
			bad := store()
			trouble(bad)
			e := group(t, bad, store())
			reg := prometheus.NewRegistry()
			p := fanout.New(endpoints.Static{e}, fanout.Config{ResponseTimeout: 10 * time.Second}, zap.NewNop(), reg)
			hedged := 0
			for range 4 {
				stats := &receipt.Stats{}
				got := read(t.Context(), p, request(), fanout.Options{Stats: stats}, up)
				require.NoError(t, got.err)
				require.Empty(t, got.warnings)
				require.Len(t, got.series, 3)
				hedged += stats.All()[0].Hedged
			}
			if name == "hangs" {
				require.Positive(t, hedged, "every other call begins with the one that hangs")
				won, err := testutil.GatherAndCount(reg, "promontory_querier_hedged_requests_won_total")
				require.NoError(t, err)
				require.Positive(t, won)
			}
		})
	}
}

func TestWhoMayNotReadOnGetsThatErrorAndNoStoreIsBlamed(t *testing.T) {
	t.Parallel()
	e := fakepeer.StartStore(t, &fakepeer.Store{External: lset("a", "b"), Series: ups(t, 10, 0)})
	stats := &receipt.Stats{}
	total := 0
	got := read(t.Context(), newProxy(fanout.Config{}, e), request(), fanout.Options{Stats: stats, OnFrame: func(bytes int) error {
		if total += bytes; total > 200 {
			return storeapi.Limitf("enough")
		}
		return nil
	}}, up)
	require.ErrorIs(t, got.err, storeapi.ErrLimit)
	require.Equal(t, "enough", got.err.Error())
	require.Empty(t, got.warnings)
}
