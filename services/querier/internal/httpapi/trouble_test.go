package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// patience is the response timeout of queriers whose stores hang.
const patience = 200 * time.Millisecond

// moods is a connection to a store that changes its mood: to one of several servers.
type moods struct {
	conns []grpc.ClientConnInterface
	at    atomic.Int32
}

var _ grpc.ClientConnInterface = (*moods)(nil)

func (m *moods) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return m.conns[m.at.Load()].Invoke(ctx, method, args, reply, opts...)
}

func (m *moods) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return m.conns[m.at.Load()].NewStream(ctx, desc, method, opts...)
}

// moody starts a store that is sound in its first mood, and in no other.
func moody(t *testing.T, r *rand.Rand, external labels.Labels, series []storeapi.Series) (endpoints.Endpoint, *moods) {
	t.Helper()
	m := &moods{}
	add := func(addr string) { m.conns = append(m.conns, fakepeer.Dial(t, addr)) }
	serve := func(change func(*fakepeer.Store)) {
		s := &fakepeer.Store{External: external, Series: series}
		change(s)
		add(fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){fakepeer.RegisterStore(s)}}))
	}
	raw := func(frames func() [][]byte) {
		add(fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){fakepeer.Raw(frames)}}))
	}
	n := len(series)
	serve(func(*fakepeer.Store) {})
	serve(func(s *fakepeer.Store) { s.FailAfter, s.Err = r.IntN(n+1), storeapi.Unavailablef("disk on fire") })
	serve(func(s *fakepeer.Store) { s.HangAfter, s.Hang = r.IntN(n+1), true })
	serve(func(s *fakepeer.Store) { s.Warnings = []string{"block 7 is broken"} })
	raw(func() [][]byte { return [][]byte{{0x0a, 0x7f, 1, 2, 3}} })
	raw(func() [][]byte { return backwards(t, external) })
	add("127.0.0.1:1")
	e := fakepeer.Endpoint(t, "127.0.0.1:1", &fakepeer.Store{External: external})
	e.Addr, e.Conn, e.Store.Client = external.Get("cluster")+external.Get("replica")+":1", m, storeapi.NewClient(m)
	return e, m
}

// backwards is the frames of an answer whose series descend.
func backwards(t *testing.T, external labels.Labels) (out [][]byte) {
	t.Helper()
	for _, i := range []string{"2", "1"} {
		lset := labels.NewBuilder(external).Set("__name__", "up").Set("i", i).Labels()
		frame, err := (&thanos.SeriesResponse{Result: &thanos.SeriesResponse_Series{Series: &thanos.Series{
			Labels: storeapi.LabelSet(lset).GetLabels(),
		}}}).MarshalVT()
		require.NoError(t, err)
		out = append(out, frame)
	}
	return out
}

// flagged tells whether an answer says that something is missing from it, and requires that it says so in both ways.
func flagged(t *testing.T, r *reply) bool {
	t.Helper()
	said := slices.ContainsFunc(r.Warnings, func(w string) bool { return !strings.HasPrefix(w, "PromQL ") })
	require.Equal(t, said, r.Header.Get("Cache-Control") == "no-store", "%s", r.Body)
	return said
}

func TestWhateverHappensToStoresIncompleteAnswersAreFlaggedAndNoOthers(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 3))
			var peers []endpoints.Endpoint
			var stores []*moods
			for i := range 1 + r.IntN(4) {
				var series []storeapi.Series
				for k := range 1 + r.IntN(8) {
					lset := labels.FromStrings("__name__", "up", "i", fmt.Sprint(k), "own", fmt.Sprint(i/2))
					series = append(series, fakepeer.Series(t, lset, fakepeer.Ramp(0, 15_000, 240, float64(k))))
				}
				e, m := moody(t, r, labels.FromStrings("cluster", fmt.Sprint("c", i/2), "replica", fmt.Sprint("r", i%2)), series)
				peers, stores = append(peers, e), append(stores, m)
			}
			s := newStack(peers...)
			s.Replica = []string{"replica"}
			s.Deps.Storage = selects.New(fanout.New(s.Peers, fanout.Config{ResponseTimeout: patience}, zap.NewNop(), nil), selects.Config{MaxConcurrent: 40}, prometheus.NewRegistry())
			f := front{cached: true, remote: seed%2 == 0, shards: []int{0, 2}[r.IntN(2)], interval: 20 * time.Minute}
			clients := []*client{s.serve(t), s.fronted(t, f)}
			truth := map[string]string{}
			for range 20 {
				path := asked(r)
				if _, known := truth[path]; !known {
					for _, m := range stores {
						m.at.Store(0)
					}
					got := clients[0].get(path)
					require.False(t, flagged(t, got), "%s: %s", path, got.Body)
					truth[path] = got.ok(t)
				}
				sound := true
				for _, m := range stores {
					mood := int32(0)
					if r.IntN(3) == 0 {
						mood = r.Int32N(int32(len(m.conns)))
					}
					m.at.Store(mood)
					sound = sound && mood == 0
				}
				for i, c := range clients {
					requireHonest(t, fmt.Sprintf("%d: %s", i, path), c, path, truth[path], sound)
				}
				// Somebody who leaves in the middle takes nothing along, and leaves nothing behind.
				leaving, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(20))*time.Millisecond)
				leave(leaving, t, clients[r.IntN(2)], path)
				cancel()
			}
		})
	}
}

// asked is a call whose answer may be in the cache, all of it or in part.
func asked(r *rand.Rand) string {
	start := r.IntN(4) * 600
	span := fmt.Sprintf("start=%d&end=%d", start, start+600*(1+r.IntN(4)))
	step := []int{30, 60, 300}[r.IntN(3)]
	return []string{
		fmt.Sprintf("/api/v1/query_range?query=up&%s&step=%d", span, step),
		fmt.Sprintf("/api/v1/query_range?query=sum+by+(cluster)+(rate(up[5m]))&%s&step=%d", span, step),
		fmt.Sprintf("/api/v1/query?query=sum+by+(i)+(up)&time=%d", 600+start),
		"/api/v1/labels?" + span, "/api/v1/label/i/values?" + span, "/api/v1/series?match[]=up&" + span,
	}[r.IntN(6)]
}

// requireHonest requires of an answer that it is the truth or says that it is not, and says the latter only where it may be so.
func requireHonest(t *testing.T, what string, c *client, path, truth string, sound bool) {
	t.Helper()
	began := time.Now()
	got := c.get(path)
	require.Less(t, time.Since(began), 30*patience, what)
	require.Equal(t, http.StatusOK, got.Code, "%s: %s", what, got.Body)
	if flagged(t, got) {
		require.False(t, sound, "%s: nothing is missing: %v", what, got.Warnings)
	} else {
		require.JSONEq(t, truth, got.ok(t), what)
	}
	// Who wants all or nothing gets that.
	got = c.get(path + "&partial_response=false")
	require.Less(t, time.Since(began), 60*patience, what)
	if got.Code != http.StatusOK {
		require.False(t, sound, "%s: %s", what, got.Body)
		return
	}
	if !flagged(t, got) {
		require.JSONEq(t, truth, got.ok(t), what)
		return
	}
	// What a store itself says is missing is no failure of the store.
	for _, w := range got.Warnings {
		require.True(t, strings.Contains(w, "block 7 is broken") || strings.HasPrefix(w, "PromQL "), "%s: %s", what, w)
	}
}

// leave asks and goes away when ctx ends, whatever has come by then.
func leave(ctx context.Context, t *testing.T, c *client, path string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	require.NoError(t, err)
	if resp, err := c.http.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}

func TestTheLogOfTheFrontendHasTheReceiptsOfItsQuerier(t *testing.T) {
	t.Parallel()
	a, b := pair(t, storeapi.Unavailablef("disk on fire"))
	core, logs := observer.New(zap.InfoLevel)
	for _, remote := range []bool{false, true} {
		c := newStack(a, b).fronted(t, front{remote: remote, interval: 20 * time.Second, logger: zap.New(core), slower: -1})
		got := c.get("/api/v1/query_range", "query", "up", "start", "0", "end", "50", "step", "5")
		require.NotContains(t, got.Body, `"receipt"`)
		fields := logs.TakeAll()[0].ContextMap()
		require.Equal(t, "covered", fields["coverage"])
		text, err := json.Marshal(fields["receipt"])
		require.NoError(t, err)
		var sum struct {
			Stores  []struct{ Requests int }
			Missing []struct{ Address string }
		}
		require.NoError(t, json.Unmarshal(text, &sum))
		require.Len(t, sum.Stores, 2)
		require.Equal(t, 3, sum.Stores[0].Requests, "one for each part")
		require.Len(t, sum.Missing, 1, "what three parts miss alike is said once")
	}
}
