// Package peers finds the HTTP servers that a ruler talks to, queriers and Alertmanagers: listed,
// looked up in DNS, or in files.
package peers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
)

// Section is servers that are reached in the same way.
type Section struct {
	HTTP       httpclient.Config `yaml:"http_config"`
	Static     []string          `yaml:"static_configs"`
	Files      []FileSD          `yaml:"file_sd_configs"`
	Scheme     string            `yaml:"scheme"`
	PathPrefix string            `yaml:"path_prefix"`
}

// FileSD is files that list addresses.
type FileSD struct {
	Files           []string       `yaml:"files"`
	RefreshInterval model.Duration `yaml:"refresh_interval"`
}

// DefaultSection is an empty section.
func DefaultSection() Section { return Section{HTTP: httpclient.DefaultConfig(), Scheme: "http"} }

// ParseAddress makes a section of an address as flags have it: host:port or a URL, with a DNS prefix
// before either.
func ParseAddress(addr string) (Section, error) {
	s := DefaultSection()
	lookup, rest, found := strings.Cut(addr, "+")
	if !found || strings.Contains(lookup, "/") {
		lookup, rest = "", addr
	} else {
		lookup += "+"
	}
	if strings.Contains(rest, "://") {
		u, err := url.Parse(rest)
		if err != nil {
			return s, err
		}
		s.Scheme, s.PathPrefix, rest = u.Scheme, u.Path, u.Host
		if u.User != nil {
			password, _ := u.User.Password()
			s.HTTP.BasicAuth = httpclient.BasicAuth{Username: u.User.Username(), Password: config.Secret(password)}
		}
	} else if host, path, ok := strings.Cut(rest, "/"); ok {
		rest, s.PathPrefix = host, "/"+path
	}
	s.Static = []string{lookup + rest}
	return s, s.Validate(0)
}

// Validate returns everything that is wrong. A port other than 0 is that of names without one.
func (s *Section) Validate(defaultPort int) error {
	var errs []error
	if s.Scheme != "http" && s.Scheme != "https" {
		errs = append(errs, fmt.Errorf("scheme: %q is neither http nor https", s.Scheme))
	}
	if err := s.HTTP.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("http_config: %w", err))
	}
	for _, a := range s.Static {
		if defaultPort != 0 {
			a = discovery.WithDefaultPort(a, defaultPort)
		}
		if err := discovery.ValidateAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("address %q: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// Options make a Pool.
type Options struct {
	Sections []Section
	// DefaultPort is that of names to look up that have none; 0 for none.
	DefaultPort int
	DNSInterval time.Duration
	Resolver    discovery.Resolver
	// MetricPrefix goes before the names of the metrics of look-ups.
	MetricPrefix string
	Logger       *zap.Logger
	Registerer   prometheus.Registerer
}

// Pool keeps the addresses of sections. It is safe for concurrent use.
type Pool struct {
	opts     Options
	files    [][]*discovery.Files // by section
	provider *discovery.Provider
	wake     chan struct{}
}

// NewPool returns a pool that knows no address yet.
func NewPool(opts Options) (*Pool, error) {
	p := &Pool{opts: opts, files: make([][]*discovery.Files, len(opts.Sections)), wake: make(chan struct{}, 1)}
	for i, s := range opts.Sections {
		for _, f := range s.Files {
			files, err := discovery.NewFiles(discovery.FilesOptions{
				Patterns: f.Files, Interval: time.Duration(f.RefreshInterval), Logger: opts.Logger,
			})
			if err != nil {
				return nil, fmt.Errorf("file_sd_configs: %w", err)
			}
			p.files[i] = append(p.files[i], files)
		}
	}
	p.provider = discovery.NewProvider(discovery.Options{
		Resolver: opts.Resolver, Logger: opts.Logger, Registerer: opts.Registerer, MetricPrefix: opts.MetricPrefix,
	})
	return p, nil
}

// names are the configured addresses of a section.
func (p *Pool) names(section int) []string {
	var out []string
	add := func(addr string) {
		if p.opts.DefaultPort != 0 {
			addr = discovery.WithDefaultPort(addr, p.opts.DefaultPort)
		}
		out = append(out, addr)
	}
	for _, a := range p.opts.Sections[section].Static {
		add(a)
	}
	for _, f := range p.files[section] {
		for _, t := range f.Targets() {
			add(t.Addr)
		}
	}
	return out
}

func (p *Pool) allNames() []string {
	var out []string
	for i := range p.opts.Sections {
		out = append(out, p.names(i)...)
	}
	return out
}

// Prepare makes the first look-ups. Failures are in the log, and Run repeats them.
func (p *Pool) Prepare(ctx context.Context) {
	for _, files := range p.files {
		for _, f := range files {
			if err := f.Refresh(); err != nil {
				p.opts.Logger.Warn("read files of addresses", zap.Error(err))
			}
		}
	}
	if err := p.provider.Resolve(ctx, p.allNames()); err != nil && ctx.Err() == nil {
		p.opts.Logger.Warn("look up addresses", zap.Error(err))
	}
}

// Run keeps the addresses up to date until ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, files := range p.files {
		for _, f := range files {
			g.Go(func() error { return f.Run(ctx) })
			g.Go(func() error { return p.forward(ctx, f.Changed()) })
		}
	}
	g.Go(func() error { return p.provider.Run(ctx, p.opts.DNSInterval, p.allNames, p.wake, nil) })
	return g.Wait()
}

func (p *Pool) forward(ctx context.Context, changed <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			select {
			case p.wake <- struct{}{}:
			default:
			}
		}
	}
}

// URLs returns the base URLs of a section's servers, each once. duplicates is how often one came up again.
func (p *Pool) URLs(section int) (urls []*url.URL, duplicates int) {
	s := p.opts.Sections[section]
	mine := map[string]bool{}
	for _, n := range p.names(section) {
		if mine[n] {
			duplicates++
		}
		mine[n] = true
	}
	seen := map[string]bool{}
	for _, a := range p.provider.Addresses() {
		if !mine[a.From] {
			continue
		}
		u := &url.URL{Scheme: s.Scheme, Host: a.Addr, Path: s.PathPrefix}
		if strings.Contains(a.Addr, "://") {
			if parsed, err := url.Parse(a.Addr); err == nil {
				u = parsed
			}
		}
		if seen[u.String()] {
			duplicates++
			continue
		}
		seen[u.String()] = true
		urls = append(urls, u)
	}
	return urls, duplicates
}
