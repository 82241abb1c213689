package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/frontend"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/results"
)

// handlerFrontend is the name of the frontend's handler in metrics.
const handlerFrontend = "query-frontend"

// RunFrontend wires a frontend that runs alone and serves until ctx ends.
func RunFrontend(ctx context.Context, cfg Config, p *service.Process) (closeErr error) {
	if slices.Contains(cfg.Query.Features, FeatureExperimentalFunctions) {
		engine.EnableExperimentalFunctions()
	}
	base, err := url.Parse(cfg.Frontend.DownstreamURL)
	if err != nil {
		return fmt.Errorf("--query-frontend.downstream-url: %w", err)
	}
	transport, err := downstreamTransport(&cfg.Frontend.DownstreamConfig)
	if err != nil {
		return err
	}
	transport = p.Tracing.RoundTripper("downstream", transport)
	defer closeIdle(transport)

	source := tenancy.Source{
		Header: cfg.Frontend.TenantHeader, Default: cfg.Frontend.DefaultTenant,
		Field: tenancy.CertificateField(cfg.Frontend.CertificateField),
	}
	if err := source.Validate(); err != nil {
		return fmt.Errorf("--query-frontend.tenant-header, --query-frontend.default-tenant-id: %w", err)
	}
	fe, closeCaches, err := newFrontend(cfg, p, source, frontend.Deps{
		Caller: downstream.NewRemote(base, transport, cfg.Frontend.ForwardHeaders),
		Pass:   passOn(base, transport, source, p.Logger),
		Parse:  engine.Parser(cfg.Frontend.XFunctions || cfg.Query.XFunctions),
	}, true)
	if err != nil {
		return err
	}
	defer func() { closeErr = errors.Join(closeErr, closeCaches()) }()

	middleware := p.Middleware(tenantOr(source))
	wrap := middleware.Plain
	if cfg.Frontend.CompressResponses {
		wrap = middleware.Wrap
	}
	p.HTTP.Handle("/", wrap(handlerFrontend, cfg.Web.CORS(fe)))
	ready := make(chan struct{})
	p.Group.AddPart(lifecycle.Part{Name: "downstream", Ready: ready, Run: func(ctx context.Context) error {
		awaitReady(ctx, base, transport, p.Logger)
		if ctx.Err() == nil {
			close(ready)
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	return p.Serve(ctx)
}

// withFrontend puts a frontend before the API of the querier in this process, if it is enabled.
func withFrontend(cfg Config, p *service.Process, source tenancy.Source, engines *engine.Engines, middleware *httpserver.Middleware, api http.Handler) (_ http.Handler, closeCaches func() error, err error) {
	if !cfg.Frontend.Enabled {
		return api, func() error { return nil }, nil
	}
	// The querier's own flags say what holds by default; those of the frontend are for one that runs alone.
	fe, closeCaches, err := newFrontend(cfg, p, source, frontend.Deps{Caller: downstream.NewLocal(api), Pass: api, Parse: engines.Parse}, false)
	if err != nil {
		return nil, nil, err
	}
	wrapped := middleware.Wrap(handlerFrontend, cfg.Web.CORS(fe))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fe.Serves(r) {
			wrapped.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	}), closeCaches, nil
}

// newFrontend makes the frontend of its flags. Those it shares with the querier are the querier's unless it is alone.
func newFrontend(cfg Config, p *service.Process, source tenancy.Source, deps frontend.Deps, alone bool) (_ *frontend.Frontend, closeCaches func() error, err error) {
	c := &cfg.Frontend
	caches, err := openCaches(c, p.Logger, p.Registry)
	if err != nil {
		return nil, nil, err
	}
	deps.Logger, deps.Registerer = p.Logger, p.Registry
	deps.Queue = fair.New(c.MaxConcurrent, c.MaxOutstanding, p.Registry)
	deps.RangeCache, deps.LabelsCache = caches[0], caches[1]
	return frontend.New(frontendConfig(cfg, source, alone), deps), caches.close, nil
}

// frontendConfig is what flags say about the frontend, be it alone or a part of the querier.
func frontendConfig(cfg Config, source tenancy.Source, alone bool) frontend.Config {
	c := &cfg.Frontend
	defaults := apiDefaults(cfg)
	var keyHeaders []string
	if alone {
		defaults.PartialResponse = c.RangePartialResponse
		keyHeaders = c.ForwardHeaders
	}
	return frontend.Config{
		Range: frontend.RangeConfig{
			Align: c.Align, Downsampled: c.RequestDownsampled,
			Intervals: plan.Intervals{Static: c.SplitInterval, Min: c.MinSplitInterval, Max: c.MaxSplitInterval, Shards: c.HorizontalShards},
			Tries:     c.RangeTries, Parallelism: c.RangeParallelism, MaxLength: c.MaxLength, MaxFreshness: c.RangeMaxFreshness,
		},
		Instant: frontend.InstantConfig{Tries: c.InstantTries},
		Labels: frontend.LabelsConfig{
			Interval: c.LabelsSplitInterval, Tries: c.LabelsTries, Parallelism: c.LabelsParallelism,
			MaxFreshness: c.LabelsMaxFreshness, DefaultRange: c.LabelsDefaultRange, PartialResponse: c.LabelsPartialResponse,
		},
		VerticalShards: c.VerticalShards, SlowerThan: c.SlowerThan, ForceStats: c.ForceStats,
		OrgHeaders: c.OrgHeaders, KeyHeaders: keyHeaders, UserHeader: c.UserHeader, MaxBytes: c.MaxResponseBytes,
		Defaults: defaults, SetPartial: alone, Tenancy: source,
	}
}

// apiDefaults is what holds for requests that do not say otherwise.
func apiDefaults(cfg Config) promapi.Defaults {
	return promapi.Defaults{
		Engine:                     promapi.Engine(cfg.Query.Engine),
		ReplicaLabels:              cfg.Query.ReplicaLabels,
		PartialResponse:            cfg.Partial.Query,
		AutoDownsampling:           cfg.Query.AutoDownsampling,
		InstantMaxSourceResolution: cfg.Query.InstantMaxSourceResolution,
		Step:                       cfg.Query.DefaultStep,
		MetadataRange:              cfg.Query.MetadataRange,
	}
}

// tenantOr returns the tenant under which a request is counted: a request without a valid one is refused, and counted under
// the default.
func tenantOr(source tenancy.Source) func(*http.Request) string {
	return func(r *http.Request) string {
		tenant, err := source.Tenant(r)
		if err != nil {
			return source.Default
		}
		return tenant
	}
}

// caches are those of range queries and of labels; nil where there is none.
type caches [2]*results.Cache

func openCaches(c *FrontendConfig, logger *zap.Logger, reg prometheus.Registerer) (out caches, err error) {
	for i, one := range []struct {
		name, flag string
		content    *flags.Content
	}{
		{"query-range", "query-range.response-cache-config", &c.RangeCache},
		{"labels", "labels.response-cache-config", &c.LabelsCache},
	} {
		if !one.content.IsSet() {
			continue
		}
		text, err := one.content.Bytes()
		if err != nil {
			return out, errors.Join(err, out.close())
		}
		cfg, err := results.ParseConfig(one.content.Source(), text)
		if err != nil {
			return out, errors.Join(err, out.close())
		}
		cfg.Compress = c.CacheCompression != ""
		if out[i], err = results.Open(one.name, cfg, logger, reg); err != nil {
			return out, errors.Join(fmt.Errorf("--%s: %w", one.flag, err), out.close())
		}
	}
	return out, nil
}

func (c caches) close() error {
	var errs []error
	for _, one := range c {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}

// tripper is the YAML that says how the querier is reached.
type tripper struct {
	httpclient.Transport `yaml:",inline"`

	TLS httpclient.TLS `yaml:"tls_config"`
}

// downstreamTransport returns how the querier is reached.
func downstreamTransport(content *flags.Content) (http.RoundTripper, error) {
	doc := tripper{Transport: httpclient.DefaultConfig().Transport}
	doc.MaxIdleConnsPerHost = 100
	if content.IsSet() {
		text, err := content.Bytes()
		if err != nil {
			return nil, err
		}
		if err := strictyaml.Decode(content.Source(), text, &doc); err != nil {
			return nil, err // it names the flag or the file
		}
	}
	cfg := httpclient.DefaultConfig()
	cfg.Transport, cfg.TLS = doc.Transport, doc.TLS
	client, err := httpclient.New(cfg, "")
	if err != nil {
		return nil, fmt.Errorf("--query-frontend.downstream-tripper-config: %w", err)
	}
	return client.Transport, nil
}

func closeIdle(rt http.RoundTripper) {
	(&http.Client{Transport: rt}).CloseIdleConnections()
}

// passOn hands everything that is no query to the querier as it is, under the tenant it is made for.
func passOn(base *url.URL, transport http.RoundTripper, source tenancy.Source, logger *zap.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.SetXForwarded()
			if tenant, err := source.Tenant(r.In); err == nil {
				r.Out.Header.Set(tenancy.DefaultHeader, tenant)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			logger.Debug("pass request on", zap.String("path", r.URL.Path), zap.Error(err))
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := source.Tenant(r); err != nil {
			_ = promapi.RespondError(w, promapi.NewError(promapi.ErrorBadData, err)) // the client is gone, then
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// readyPoll is how often the querier is asked whether it is ready.
const readyPoll = time.Second

// awaitReady returns when the querier is ready, or ctx has ended.
func awaitReady(ctx context.Context, base *url.URL, transport http.RoundTripper, logger *zap.Logger) {
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for logged := false; ; {
		err := askReady(ctx, client, base)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !logged {
			logger.Warn("the querier is not ready yet", zap.Error(err))
			logged = true
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func askReady(ctx context.Context, client *http.Client, base *url.URL) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/-/ready").String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers with status %d", r.URL.Redacted(), resp.StatusCode)
	}
	return nil
}
