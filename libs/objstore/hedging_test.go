package objstore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// slowServer answers the n-th request after the n-th delay; a negative delay fails after its absolute value.
type slowServer struct {
	mu        sync.Mutex
	delays    []time.Duration
	sent      int
	cancelled int
	closed    int
}

func (s *slowServer) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	delay := 10 * time.Millisecond
	if s.sent < len(s.delays) {
		delay = s.delays[s.sent]
	}
	s.sent++
	s.mu.Unlock()
	select {
	case <-time.After(delay.Abs()):
	case <-req.Context().Done():
		s.mu.Lock()
		s.cancelled++
		s.mu.Unlock()
		return nil, req.Context().Err()
	}
	if delay < 0 {
		return nil, errors.New("connection reset")
	}
	return &http.Response{StatusCode: 200, Request: req, Body: &bodyOf{Reader: strings.NewReader("x"), ctx: req.Context(), server: s}}, nil
}

type bodyOf struct {
	io.Reader
	ctx    context.Context
	server *slowServer
}

func (b *bodyOf) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Reader.Read(p)
}

func (b *bodyOf) Close() error {
	b.server.mu.Lock()
	b.server.closed++
	b.server.mu.Unlock()
	return nil
}

func TestHedging(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		method    string
		delays    []time.Duration
		took      time.Duration
		sent      int
		cancelled int
		err       string
	}{
		"a quick answer is not hedged":           {http.MethodGet, []time.Duration{9 * ms}, 9 * ms, 1, 0, ""},
		"a slow one is sent again":               {http.MethodGet, []time.Duration{time.Hour, 5 * ms}, 15 * ms, 2, 1, ""},
		"and again, up to the limit":             {http.MethodGet, []time.Duration{time.Hour, time.Hour, 25 * ms}, 45 * ms, 3, 2, ""},
		"the first may still win":                {http.MethodGet, []time.Duration{12 * ms, time.Hour}, 12 * ms, 2, 1, ""},
		"a failure waits for the others":         {http.MethodGet, []time.Duration{-12 * ms, 5 * ms}, 15 * ms, 2, 0, ""},
		"a lone failure is returned":             {http.MethodGet, []time.Duration{-5 * ms}, 5 * ms, 1, 0, "connection reset"},
		"all failures return the first":          {http.MethodGet, []time.Duration{-12 * ms, -5 * ms}, 15 * ms, 2, 0, "connection reset"},
		"requests that change something are not": {http.MethodPut, []time.Duration{time.Minute}, time.Minute, 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &slowServer{}
				reg := prometheus.NewRegistry()
				h := newHedging(HedgingConfig{Enabled: true, UpTo: 3, Quantile: 0.9}, reg)
				transport := h.wrap(server)
				send := func(method string) error {
					req, err := http.NewRequestWithContext(t.Context(), method, "http://x/", nil)
					require.NoError(t, err)
					res, err := transport.RoundTrip(req)
					if err != nil {
						return err
					}
					content, err := io.ReadAll(res.Body)
					require.NoError(t, err, "the winner's context lives as long as its body")
					require.Equal(t, "x", string(content))
					return res.Body.Close()
				}
				for range latenciesNeeded {
					require.NoError(t, send(http.MethodGet))
				}
				server.sent, server.closed, server.delays = 0, 0, tc.delays

				start := time.Now()
				err := send(tc.method)
				require.Equal(t, tc.took, time.Since(start))
				synctest.Wait()
				if tc.err == "" {
					require.NoError(t, err)
					require.Equal(t, 1, server.closed)
				} else {
					require.EqualError(t, err, tc.err)
				}
				require.Equal(t, tc.sent, server.sent)
				require.Equal(t, tc.cancelled, server.cancelled)
				require.EqualValues(t, tc.sent-1, testutil.ToFloat64(h.extra))
			})
		})
	}
}

func TestHedgingIsOnlyTriedWhereTheProviderCan(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	_, _ = openFilesystem(t, "hedging_config: {enabled: true}\n", reg, WithHedging())
	n, err := testutil.GatherAndCount(reg, "promontory_objstore_hedged_requests_total")
	require.NoError(t, err)
	require.Zero(t, n)
	// Two hedged buckets of a process share one counter.
	newHedging(DefaultHedgingConfig(), reg).extra.Inc()
	newHedging(DefaultHedgingConfig(), reg).extra.Inc()
	require.EqualValues(t, 2, testutil.ToFloat64(newHedging(DefaultHedgingConfig(), reg).extra))
}
