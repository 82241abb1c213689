package app

import (
	"context"
	"fmt"
	"net/url"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/version"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/services/ruler/internal/peers"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

func userAgent() string { return "promontory-ruler/" + version.Version }

// queriers knows whom to ask.
type queriers struct {
	cfg        QueryConfig
	sections   []peers.Section
	options    []query.HTTPOptions // by section
	pool       *peers.Pool
	remote     *discovery.Provider // of gRPC endpoints
	endpoints  []string
	dialer     *grpcclient.Dialer
	logger     *zap.Logger
	duplicates prometheus.Counter
	// excuse is set before the first query.
	excuse func(ctx context.Context, expr string, m query.Missing) bool

	mu      sync.Mutex
	targets map[string]query.Target     // guarded by mu; by name
	conns   map[string]*grpc.ClientConn // guarded by mu
}

func newQueriers(cfg QueryConfig, clients *clientMetrics, p *service.Process) (*queriers, error) {
	sections, endpoints, err := querySections(&cfg)
	if err != nil {
		return nil, err
	}
	resolver, err := discovery.NewResolver(discovery.ResolverType(cfg.DNSResolver))
	if err != nil {
		return nil, fmt.Errorf("--query.sd-dns-resolver: %w", err)
	}
	q := &queriers{
		cfg: cfg, sections: sections, endpoints: endpoints, logger: p.Logger.Named("queriers"), dialer: p.Dialer(),
		targets: map[string]query.Target{}, conns: map[string]*grpc.ClientConn{},
		duplicates: promauto.With(p.Registry).NewCounter(prometheus.CounterOpts{
			Name: "thanos_rule_duplicated_query_addresses_total", Help: "Addresses of queriers that were found more than once.",
		}),
	}
	for i := range sections {
		client, err := httpclient.New(sections[i].HTTP, userAgent())
		if err != nil {
			return nil, fmt.Errorf("queriers: http_config: %w", err)
		}
		client.Transport = clients.wrap("query", p.Tracing.RoundTripper("query", client.Transport))
		q.options = append(q.options, query.HTTPOptions{Client: client, ByGET: cfg.Method == methodGet, OnlyPrometheusParams: cfg.OnlyPrometheusParams, Excuse: q.excused})
	}
	q.pool, err = peers.NewPool(peers.Options{
		Sections: sections, DNSInterval: cfg.DNSInterval, Resolver: resolver, MetricPrefix: "thanos_rule_query_apis_",
		Logger: q.logger, Registerer: p.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("queriers: %w", err)
	}
	q.remote = discovery.NewProvider(discovery.Options{Resolver: resolver, Logger: q.logger})
	return q, nil
}

// excused reports whether a missing part makes no difference.
func (q *queriers) excused(ctx context.Context, expr string, m query.Missing) bool {
	return q.excuse != nil && q.excuse(ctx, expr, m)
}

// prepare makes the first look-ups.
func (q *queriers) prepare(ctx context.Context) {
	q.pool.Prepare(ctx)
	if err := q.remote.Resolve(ctx, q.endpoints); err != nil && ctx.Err() == nil {
		q.logger.Warn("look up gRPC endpoints", zap.Error(err))
	}
}

func (q *queriers) run(ctx context.Context) error {
	defer q.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return q.pool.Run(ctx) })
	g.Go(func() error {
		return q.remote.Run(ctx, q.cfg.DNSInterval, func() []string { return q.endpoints }, nil, nil)
	})
	return g.Wait()
}

func (q *queriers) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for addr, conn := range q.conns {
		if err := conn.Close(); err != nil {
			q.logger.Warn("close connection", zap.String("address", addr), zap.Error(err))
		}
	}
	q.conns = map[string]*grpc.ClientConn{}
	q.targets = map[string]query.Target{}
	for _, o := range q.options {
		o.Client.CloseIdleConnections()
	}
}

// all returns the queriers known now. Each is kept as long as the process runs.
func (q *queriers) all() []query.Target {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []query.Target
	seen := map[string]bool{}
	add := func(name string, open func() (query.Target, error)) {
		if seen[name] {
			q.duplicates.Inc()
			return
		}
		seen[name] = true
		t, ok := q.targets[name]
		if !ok {
			var err error
			if t, err = open(); err != nil {
				q.logger.Error("querier cannot be used", zap.String("address", name), zap.Error(err))
				return
			}
			q.targets[name] = t
		}
		out = append(out, t)
	}
	for i := range q.sections {
		urls, duplicates := q.pool.URLs(i)
		q.duplicates.Add(float64(duplicates))
		for _, u := range urls {
			add(u.String(), func() (query.Target, error) { return query.NewHTTP(u, q.options[i]), nil })
		}
	}
	for _, a := range q.remote.Addresses() {
		add("grpc://"+a.Addr, func() (query.Target, error) { return q.dial(a.Addr) })
	}
	return out
}

// dial is called under mu.
func (q *queriers) dial(addr string) (query.Target, error) {
	conn, err := q.dialer.NewClient("passthrough:///"+addr, grpcclient.DefaultConfig())
	if err != nil {
		return nil, err
	}
	q.conns[addr] = conn
	return query.NewGRPC("grpc://"+addr, conn), nil
}

// externalURL is for templates of alerts.
func externalURL(cfg AlertConfig) (*url.URL, error) {
	u, err := url.Parse(cfg.QueryURL)
	if err != nil {
		return nil, fmt.Errorf("--alert.query-url: %w", err)
	}
	return u, nil
}

// urlsOf returns what finds the servers of a section.
func urlsOf(pool *peers.Pool, section int) func() []*url.URL {
	return func() []*url.URL {
		urls, _ := pool.URLs(section)
		return urls
	}
}
