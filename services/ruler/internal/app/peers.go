package app

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promontory-io/promontory/services/ruler/internal/notify"
	"github.com/promontory-io/promontory/services/ruler/internal/peers"
)

// alertmanagerPort is that of names without one.
const alertmanagerPort = 9093

// queryEntry is one entry of --query.config.
type queryEntry struct {
	peers.Section `yaml:",inline"`
	GRPC          *struct {
		Addresses []string `yaml:"endpoint_addresses"`
	} `yaml:"grpc_config"`
}

// UnmarshalYAML gives keys that are not there their defaults. It takes the older form of the method because only
// that keeps unknown keys errors.
func (e *queryEntry) UnmarshalYAML(unmarshal func(any) error) error {
	*e = queryEntry{Section: peers.DefaultSection()}
	type plain queryEntry
	return unmarshal((*plain)(e))
}

// alertmanagerEntry is one entry of --alertmanagers.config.
type alertmanagerEntry struct {
	peers.Section `yaml:",inline"`
	Timeout       model.Duration `yaml:"timeout"`
	APIVersion    string         `yaml:"api_version"`
}

// UnmarshalYAML is as that of queryEntry.
func (e *alertmanagerEntry) UnmarshalYAML(unmarshal func(any) error) error {
	*e = defaultAlertmanager()
	type plain alertmanagerEntry
	return unmarshal((*plain)(e))
}

func defaultAlertmanager() alertmanagerEntry {
	return alertmanagerEntry{Section: peers.DefaultSection(), Timeout: model.Duration(10 * time.Second), APIVersion: notify.APIv2}
}

// parseAlertmanager reads an address of --alertmanagers.url. Its errors do not show passwords.
func parseAlertmanager(addr string) (alertmanagerEntry, error) {
	e := defaultAlertmanager()
	s, err := peers.ParseAddress(withAlertmanagerPort(addr))
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return e, err
	}
	e.Section = s
	return e, nil
}

// withAlertmanagerPort adds the port where a name to look up has none.
func withAlertmanagerPort(addr string) string {
	lookup, rest, found := strings.Cut(addr, "+")
	if !found || lookup != "dns" && lookup != "dnsdualstack" {
		return addr
	}
	scheme, host, hasScheme := strings.Cut(rest, "://")
	if !hasScheme {
		scheme, host = "", rest
	} else {
		scheme += "://"
	}
	host, path, hasPath := strings.Cut(host, "/")
	name := host[strings.LastIndex(host, "@")+1:]
	if !strings.Contains(name, ":") {
		host += fmt.Sprintf(":%d", alertmanagerPort)
	}
	if hasPath {
		host += "/" + path
	}
	return lookup + "+" + scheme + host
}

// querySections returns the queriers asked over HTTP, and the addresses of those asked over gRPC.
func querySections(cfg *QueryConfig) ([]peers.Section, []string, error) {
	if !cfg.Config.IsSet() {
		var sections []peers.Section
		for _, a := range cfg.Addresses {
			s, err := peers.ParseAddress(a)
			if err != nil {
				return nil, nil, fmt.Errorf("--query=%s: %w", a, err)
			}
			sections = append(sections, s)
		}
		if len(cfg.Files) > 0 {
			s := peers.DefaultSection()
			s.Files = []peers.FileSD{{Files: cfg.Files, RefreshInterval: model.Duration(cfg.FilesInterval)}}
			sections = append(sections, s)
		}
		return sections, cfg.GRPCEndpoints, nil
	}
	var entries []queryEntry
	if err := cfg.Config.Decode(&entries); err != nil {
		return nil, nil, fmt.Errorf("--query.config: %w", err)
	}
	var sections []peers.Section
	addresses := cfg.GRPCEndpoints
	var errs []error
	for i := range entries {
		if g := entries[i].GRPC; g != nil && len(g.Addresses) > 0 {
			addresses = append(addresses, g.Addresses...)
			continue
		}
		if err := entries[i].Validate(0); err != nil {
			errs = append(errs, fmt.Errorf("--query.config: %s: entry %d: %w", cfg.Config.Source(), i, err))
		}
		sections = append(sections, entries[i].Section)
	}
	if len(sections) == 0 && len(addresses) == 0 {
		errs = append(errs, fmt.Errorf("--query.config: %s: lists no querier", cfg.Config.Source()))
	}
	return sections, addresses, errors.Join(errs...)
}

// alertmanagers returns what is known of Alertmanagers.
func alertmanagers(cfg *AlertmanagersConfig) ([]alertmanagerEntry, error) {
	if !cfg.Config.IsSet() {
		var out []alertmanagerEntry
		for _, a := range cfg.URLs {
			e, err := parseAlertmanager(a)
			if err != nil {
				return nil, fmt.Errorf("--alertmanagers.url: %w", err)
			}
			e.Timeout = model.Duration(cfg.SendTimeout)
			out = append(out, e)
		}
		return out, nil
	}
	var doc struct {
		Alertmanagers []alertmanagerEntry `yaml:"alertmanagers"`
	}
	if err := cfg.Config.Decode(&doc); err != nil {
		return nil, fmt.Errorf("--alertmanagers.config: %w", err)
	}
	var errs []error
	for i := range doc.Alertmanagers {
		e := &doc.Alertmanagers[i]
		fail := func(err error) {
			errs = append(errs, fmt.Errorf("--alertmanagers.config: %s: entry %d: %w", cfg.Config.Source(), i, err))
		}
		if err := e.Validate(alertmanagerPort); err != nil {
			fail(err)
		}
		if e.APIVersion != notify.APIv1 && e.APIVersion != notify.APIv2 {
			fail(fmt.Errorf("api_version: %q is neither v1 nor v2", e.APIVersion))
		}
		if e.Timeout <= 0 {
			fail(fmt.Errorf("timeout: %s is not above 0", e.Timeout))
		}
	}
	return doc.Alertmanagers, errors.Join(errs...)
}

// links makes the links of alerts to their expression.
type links struct {
	base string
	tmpl *template.Template
}

func newLinks(cfg AlertConfig) (*links, error) {
	tmpl, err := template.New("alert.query-template").Option("missingkey=error").Parse(cfg.QueryTemplate)
	if err != nil {
		return nil, fmt.Errorf("--alert.query-template: %w", err)
	}
	l := &links{base: strings.TrimSuffix(cfg.QueryURL, "/"), tmpl: tmpl}
	_, err = l.of("up")
	return l, err
}

func (l *links) of(expr string) (string, error) {
	var b strings.Builder
	if err := l.tmpl.Execute(&b, struct{ Expr string }{url.QueryEscape(expr)}); err != nil {
		return "", fmt.Errorf("--alert.query-template: %w", err)
	}
	return l.base + b.String(), nil
}
