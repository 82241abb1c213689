package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/frontend"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/results"
)

// front is how a frontend stands before a querier.
type front struct {
	// cached keeps answers in memory, shards divides by series, remote asks over the network.
	cached bool
	shards int
	remote bool
	// interval is the length of parts; 0 is a day, as by default.
	interval time.Duration
	now      func() time.Time
	logger   *zap.Logger
	// slower is from when on requests are logged.
	slower time.Duration
}

// fronted starts an HTTP server of a frontend before the stack and returns a client for it.
func (s *stack) fronted(t testing.TB, f front) *client {
	t.Helper()
	one := *s
	one.Reg = prometheus.NewRegistry()
	api := one.api(t)
	deps := frontend.Deps{
		Caller: downstream.NewLocal(api), Pass: api, Parse: engine.Parse, Queue: fair.New(0, 0, nil), Logger: f.logger, Registerer: one.Reg, Now: f.now,
	}
	if f.remote {
		srv := httptest.NewServer(api)
		t.Cleanup(srv.Close)
		base, err := url.Parse(srv.URL)
		require.NoError(t, err)
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		deps.Caller = downstream.NewRemote(base, transport, nil)
	}
	if deps.Logger == nil {
		deps.Logger = zap.NewNop()
	}
	if f.interval == 0 {
		f.interval = 24 * time.Hour
	}
	if f.cached {
		for name, to := range map[string]**results.Cache{"range": &deps.RangeCache, "labels": &deps.LabelsCache} {
			*to = results.New(name, cache.NewMemory(16<<20, 16<<20), results.Config{}, zap.NewNop(), nil)
			t.Cleanup(func() { require.NoError(t, (*to).Close()) })
		}
	}
	fe := frontend.New(frontend.Config{
		Range: frontend.RangeConfig{
			Align: true, Downsampled: true, Intervals: plan.Intervals{Static: f.interval}, Tries: 1, Parallelism: 14, MaxFreshness: time.Minute,
		},
		Instant:        frontend.InstantConfig{Tries: 1},
		Labels:         frontend.LabelsConfig{Interval: f.interval, Tries: 1, Parallelism: 14, MaxFreshness: time.Minute, PartialResponse: true},
		VerticalShards: f.shards, SlowerThan: f.slower, Defaults: one.Config.Defaults, Tenancy: one.Config.Tenancy.Source,
	}, deps)
	srv := httptest.NewServer(fe)
	t.Cleanup(srv.Close)
	return &client{t: t, url: srv.URL, http: srv.Client(), header: http.Header{}}
}
