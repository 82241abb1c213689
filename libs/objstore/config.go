package objstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/thanos-io/objstore"
)

// The top-level keys of a bucket configuration.
const (
	keyType    = "type"
	keyConfig  = "config"
	keyPrefix  = "prefix"
	keyHedging = "hedging_config"
	keyFaults  = "faults"
)

// Config is a bucket configuration, parsed. It holds secrets: log Redacted, never the Config.
type Config struct {
	// Type is the provider, in upper case.
	Type Provider
	// Prefix is put, with a slash, before the name of every object; without slashes around it.
	Prefix string
	// Hedging are the settings of hedged reads; defaults apply where the document says nothing.
	Hedging HedgingConfig
	// Faults are failures to inject, for tests only; nil in any sane installation.
	Faults *faults.Config

	source        string // names the document in errors
	provider      []byte // the value of "config"
	providerLines bool   // whether its lines are numbered as in the document
	redacted      string
	secrets       []string
}

// ParseConfig reads a bucket configuration.
//
// The top level is strict: type (upper or lower case), config, prefix; hedging_config, which Thanos documents at this place;
// faults, for tests. What config holds is up to the provider and is looked at by New.
//
// Errors are one line, name the source (see WithSource) and the line, and never show a secret.
func ParseConfig(cfgYAML []byte, opts ...Option) (*Config, error) {
	o := newOptions(opts)
	cfg, err := parseConfig(cfgYAML)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.source, err)
	}
	cfg.source = o.source
	return cfg, nil
}

func parseConfig(cfgYAML []byte) (*Config, error) {
	doc, err := parseDocument(cfgYAML, keyType, keyConfig, keyPrefix, keyHedging, keyFaults)
	if err != nil {
		return nil, err
	}
	cfg := &Config{Hedging: DefaultHedgingConfig()}
	if err := cfg.parseType(doc); err != nil {
		return nil, err
	}
	prefix, err := doc.str(keyPrefix)
	if err != nil {
		return nil, err
	}
	cfg.Prefix = strings.Trim(prefix, DirDelim)
	if err := doc.decodeStrict(keyHedging, &cfg.Hedging); err != nil {
		return nil, err
	}
	if err := cfg.Hedging.Validate(); err != nil {
		return nil, fmt.Errorf("line %d: %s: %w", doc.value[keyHedging].Line, keyHedging, err)
	}
	if node := doc.value[keyFaults]; node != nil {
		cfg.Faults = &faults.Config{}
		if err := doc.decodeStrict(keyFaults, cfg.Faults); err != nil {
			return nil, err
		}
		if err := cfg.Faults.Validate(); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", node.Line, keyFaults, oneLine(err))
		}
	}
	if cfg.provider, cfg.providerLines, err = doc.section(keyConfig); err != nil {
		return nil, err
	}
	cfg.redacted, cfg.secrets = redact(doc)
	return cfg, nil
}

func (c *Config) parseType(doc *document) error {
	known := make([]string, 0, len(Providers()))
	for _, p := range Providers() {
		known = append(known, string(p))
	}
	s, err := doc.str(keyType)
	if err != nil {
		return err
	}
	if s == "" {
		return fmt.Errorf("bucket type is missing (known: %s)", strings.Join(known, ", "))
	}
	c.Type = Provider(strings.ToUpper(s))
	if !slices.Contains(Providers(), c.Type) {
		return fmt.Errorf("line %d: unknown bucket type %q (known: %s)", doc.value[keyType].Line, s, strings.Join(known, ", "))
	}
	return nil
}

// Redacted returns the configuration as YAML for logs and status pages. Only values known to be harmless are shown.
func (c *Config) Redacted() string { return c.redacted }

// Providers returns the bucket types that a configuration may name, sorted.
func Providers() []Provider {
	return []Provider{
		objstore.ALIYUNOSS, objstore.AZURE, objstore.BOS, objstore.COS, objstore.FILESYSTEM,
		objstore.GCS, objstore.OBS, objstore.OCI, objstore.S3, objstore.SWIFT,
	}
}

// oneLine joins the lines of errors.Join.
func oneLine(err error) error {
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}
