// Package api is the receiver's HTTP surface: what senders of metrics write to, and figures of the
// databases behind it.
//
// A request goes through admission (how many at once, how many bytes at once, what its tenant may
// have), is decoded into series that stay bytes, is relabelled where that is configured, and goes to
// the forwarder. What became of its series decides the status: see statusOf.
package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/limits"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// Config is what the API is told.
type Config struct {
	Tenant tenancy.Source
	// SplitLabel names the label whose value is the tenant of its series; "" for none.
	SplitLabel string
	// ReplicaHeader names the header of requests that are copies; "" where they are not taken.
	ReplicaHeader string
	Relabel       []*relabel.Config
	// MaxBody bounds a compressed body, MaxBytes what all requests under way hold together.
	MaxBody, MaxBytes int64
	// MaxDelay is how long a request waits for its bytes before it is refused.
	MaxDelay time.Duration
	OTLP     OTLPConfig
	// Router is set where there are hashrings, and Replicas is how many nodes each series goes to.
	Router   bool
	Replicas int
}

// DefaultConfig returns what holds unless said otherwise.
func DefaultConfig() Config {
	return Config{
		Tenant: tenancy.DefaultSource(), ReplicaHeader: "THANOS-REPLICA",
		MaxBody: 32 << 20, MaxBytes: 512 << 20, MaxDelay: 10 * time.Second, OTLP: OTLPConfig{TargetInfo: true},
	}
}

// Writer brings series to their owners; *forward.Forwarder is one.
type Writer interface {
	Write(ctx context.Context, parts []forward.TenantSeries, replica int64, release func()) ([]verdict.Failure, error)
}

// Deps are what the API works with.
type Deps struct {
	Writer  Writer
	Limits  *limits.Limiter
	Tenants *tenants.Multi
	Cluster Cluster
	// Ready reports whether the process wants requests.
	Ready      func() bool
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// API answers HTTP. It is safe for concurrent use.
type API struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	bytes   *semaphore.Weighted
	scratch sync.Pool
	otlp    *otlp
}

// New returns the API.
func New(cfg Config, deps Deps) *API {
	deps.Logger = deps.Logger.Named("api")
	a := &API{cfg: cfg, deps: deps, metrics: newMetrics(deps.Registerer), bytes: semaphore.NewWeighted(cfg.MaxBytes)}
	a.scratch.New = func() any { return new(scratch) }
	a.otlp = newOTLP(cfg.OTLP, deps.Logger)
	return a
}

type metrics struct {
	series, samples *prometheus.HistogramVec
	pending         prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	buckets := []float64{10, 50, 100, 500, 1000, 5000, 10000}
	return &metrics{
		series: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thanos_receive_write_timeseries", Help: "Series of a request.", Buckets: buckets,
		}, []string{"code", "tenant"}),
		samples: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thanos_receive_write_samples", Help: "Samples of a request.", Buckets: buckets,
		}, []string{"code", "tenant"}),
		pending: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_receive_pending_write_requests", Help: "Requests that are being handled.",
		}),
	}
}

// scratch is the memory of one request, used again by a later one.
type scratch struct {
	compressed, decoded []byte
	req                 remotewrite.Request
}

const keepScratch = 16 << 20

// free gives a request's memory back once nobody uses its series any more.
func (a *API) free(s *scratch) {
	if cap(s.compressed) > keepScratch || cap(s.decoded) > keepScratch {
		return
	}
	s.req.Reset()
	a.scratch.Put(s)
}

// request is one write under way.
type request struct {
	tenant  string
	replica int64
	version remotewrite.Version
	scratch *scratch
	held    int64 // bytes of the budget
}

// errBudget says that too many bytes are under way.
var errBudget = errors.New("too many bytes of requests are under way")

// hold waits for a share of the budget.
func (a *API) hold(ctx context.Context, n int64) (int64, error) {
	n = min(max(n, 1<<16), a.cfg.MaxBytes)
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.MaxDelay, errBudget)
	defer cancel()
	if err := a.bytes.Acquire(ctx, n); err != nil {
		return 0, fmt.Errorf("wait for memory: %w", context.Cause(ctx))
	}
	return n, nil
}

// replicaOf reads the number of the copy that a request is.
func (a *API) replicaOf(h http.Header) (int64, error) {
	if a.cfg.ReplicaHeader == "" {
		return 0, nil
	}
	text := h.Get(a.cfg.ReplicaHeader)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: header %s is %q", forward.ErrBadReplica, a.cfg.ReplicaHeader, text)
	}
	return n, nil
}
