package app

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/tlsconfig"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// discoverer knows which endpoints were asked for, by flags, configuration and files, and which addresses
// their names have.
type discoverer struct {
	cfg    EndpointsConfig
	client grpcclient.Config // of endpoints named by flags and files
	logger *zap.Logger

	source *discovery.EndpointSource // nil without --endpoint.sd-config
	files  *discovery.Files          // nil without --store.sd-files
	// One set of names is looked up for endpoints, the other for groups.
	single, groups *discovery.Provider
	resolver       *endpoints.Groups
	wake           *broadcast
}

func newDiscoverer(cfg EndpointsConfig, client grpcclient.Config, logger *zap.Logger, reg prometheus.Registerer) (*discoverer, error) {
	d := &discoverer{cfg: cfg, client: client, logger: logger, wake: &broadcast{}}
	if cfg.SDConfig.IsSet() {
		source, err := discovery.NewEndpointSource(cfg.SDConfig.Source(), cfg.SDConfig.Bytes, logger)
		if err != nil {
			return nil, err // it names the flag or the file
		}
		d.source = source
	}
	if len(cfg.Files) > 0 {
		files, err := discovery.NewFiles(discovery.FilesOptions{Patterns: cfg.Files, Interval: cfg.FilesInterval, Logger: logger})
		if err != nil {
			return nil, fmt.Errorf("--store.sd-files: %w", err)
		}
		d.files = files
	}
	dns, err := discovery.NewResolver(discovery.ResolverType(cfg.DNSResolver))
	if err != nil {
		return nil, fmt.Errorf("--store.sd-dns-resolver: %w", err)
	}
	d.single = discovery.NewProvider(discovery.Options{
		Resolver: dns, Logger: logger, Registerer: reg, MetricPrefix: "thanos_query_endpoints_",
	})
	d.groups = discovery.NewProvider(discovery.Options{
		Resolver: dns, Logger: logger, Registerer: reg, MetricPrefix: "thanos_query_endpoint_groups_",
	})
	d.resolver = endpoints.NewGroups(d.groupAddresses)
	return d, nil
}

// prepare makes the first look-ups. Failures are not fatal: the rounds to come repeat them.
func (d *discoverer) prepare(ctx context.Context) {
	if d.files != nil {
		if err := d.files.Refresh(); err != nil {
			d.logger.Warn("read files of endpoints", zap.Error(err))
		}
	}
	var wg sync.WaitGroup
	resolve := func(p *discovery.Provider, names []string) {
		if err := p.Resolve(ctx, names); err != nil && ctx.Err() == nil {
			d.logger.Warn("look up names of endpoints", zap.Error(err))
		}
	}
	wg.Go(func() { resolve(d.single, d.singleNames()) })
	wg.Go(func() { resolve(d.groups, d.groupNames()) })
	wg.Wait()
}

// run keeps everything up to date until ctx ends.
func (d *discoverer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if d.source != nil {
		g.Go(func() error { return d.source.Run(ctx, d.cfg.SDConfigReload) })
		g.Go(func() error { return d.forward(ctx, d.source.Changed()) })
	}
	if d.files != nil {
		g.Go(func() error { return d.files.Run(ctx) })
		g.Go(func() error { return d.forward(ctx, d.files.Changed()) })
	}
	single, groups := d.wake.listen(), d.wake.listen()
	g.Go(func() error { return d.single.Run(ctx, d.cfg.DNSInterval, d.singleNames, single, nil) })
	g.Go(func() error { return d.groups.Run(ctx, d.cfg.DNSInterval, d.groupNames, groups, d.resolver.Refresh) })
	return g.Wait()
}

// reload reads the configuration of endpoints again.
func (d *discoverer) reload(context.Context) error {
	if d.source == nil {
		return nil
	}
	return d.source.Reload()
}

// forward wakes the look-ups whenever there may be new names.
func (d *discoverer) forward(ctx context.Context, changed <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			d.wake.signal()
		}
	}
}

// wanted is one endpoint as it was asked for.
type wanted struct {
	discovery.Endpoint
	client   grpcclient.Config
	fromFile bool
}

// all returns what was asked for. Where one address is asked for twice, the first wins.
func (d *discoverer) all() []wanted {
	var out []wanted
	if d.source != nil {
		cfg := d.source.Config()
		for _, e := range cfg.Endpoints {
			out = append(out, wanted{Endpoint: e, client: clientConfig(cfg.ClientFor(e))})
		}
	}
	for _, a := range d.cfg.Strict {
		out = append(out, wanted{Endpoint: discovery.Endpoint{Address: a, Strict: true}, client: d.client})
	}
	for _, a := range d.cfg.StrictGroups {
		out = append(out, wanted{Endpoint: discovery.Endpoint{Address: a, Strict: true, Group: true}, client: d.client})
	}
	for _, a := range d.cfg.Groups {
		out = append(out, wanted{Endpoint: discovery.Endpoint{Address: a, Group: true}, client: d.client})
	}
	for _, a := range d.cfg.Addresses {
		out = append(out, wanted{Endpoint: discovery.Endpoint{Address: a}, client: d.client})
	}
	if d.files != nil {
		for _, t := range d.files.Targets() {
			out = append(out, wanted{Endpoint: discovery.Endpoint{Address: t.Addr}, client: d.client, fromFile: true})
		}
	}
	return out
}

func clientConfig(c discovery.ClientConfig) grpcclient.Config {
	out := grpcclient.DefaultConfig()
	out.ServerName = c.ServerName
	if c.Compression != "" {
		out.Compression = c.Compression
	}
	out.TLS = tlsconfig.Client{
		Enabled: c.TLS.Enabled, InsecureSkipVerify: c.TLS.InsecureSkipVerify,
		CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, CAFile: c.TLS.CAFile, MinVersion: c.TLS.MinVersion,
	}
	return out
}

func (d *discoverer) singleNames() []string { return d.names(false) }
func (d *discoverer) groupNames() []string  { return d.names(true) }

func (d *discoverer) names(group bool) []string {
	var out []string
	for _, w := range d.all() {
		if w.Group == group {
			out = append(out, w.Address)
		}
	}
	return out
}

// targets returns the endpoints that should be queried now.
func (d *discoverer) targets() []endpoints.Target {
	addrs := map[string][]discovery.Address{}
	for _, a := range d.single.Addresses() {
		addrs[a.From] = append(addrs[a.From], a)
	}
	var out []endpoints.Target
	for _, w := range d.all() {
		t := endpoints.Target{
			Addr: w.Address, Strict: w.Strict, Discovered: w.fromFile,
			Group: w.Group, ServiceConfig: w.ServiceConfig, Client: w.client,
		}
		switch {
		case w.Group, !discovery.IsDynamic(w.Address):
			out = append(out, t)
		default:
			for _, a := range addrs[w.Address] {
				t.Addr, t.Discovered = a.Addr, true
				out = append(out, t)
			}
		}
	}
	return out
}

// groupAddresses are the addresses of one group.
func (d *discoverer) groupAddresses(name string) []string {
	var out []string
	for _, a := range d.groups.Addresses() {
		if a.From == name {
			out = append(out, a.Addr)
		}
	}
	return out
}

// broadcast wakes all who listen. The zero value is ready.
type broadcast struct {
	mu        sync.Mutex // guards listeners
	listeners []chan struct{}
}

func (b *broadcast) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := make(chan struct{}, 1)
	b.listeners = append(b.listeners, ch)
	return ch
}

func (b *broadcast) signal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range b.listeners {
		select {
		case ch <- struct{}{}:
		default: // it has yet to take the last signal, which says the same
		}
	}
}
