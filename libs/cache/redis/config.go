package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/config"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/remote"
)

// Config is how Redis is used.
type Config struct {
	// Addr is host:port; several with commas between are nodes of one cluster, or the sentinels of MasterName.
	Addr     string `yaml:"addr"`
	Username string `yaml:"username"`
	Password string `yaml:"password"`
	DB       int    `yaml:"db"`
	// Prefix goes before every key.
	Prefix string `yaml:"prefix"`
	// MasterName is the set that sentinels watch; empty: Addr is no sentinel.
	MasterName string `yaml:"master_name"`

	DialTimeout  cache.Duration `yaml:"dial_timeout"`
	ReadTimeout  cache.Duration `yaml:"read_timeout"`
	WriteTimeout cache.Duration `yaml:"write_timeout"`
	// GetMultiBatchSize and SetMultiBatchSize are how many keys one request has, and the concurrencies how many requests
	// are under way at once. Zero: any number.
	MaxGetMultiConcurrency int `yaml:"max_get_multi_concurrency"`
	GetMultiBatchSize      int `yaml:"get_multi_batch_size"`
	MaxSetMultiConcurrency int `yaml:"max_set_multi_concurrency"`
	SetMultiBatchSize      int `yaml:"set_multi_batch_size"`

	TLSEnabled bool      `yaml:"tls_enabled"`
	TLS        TLSConfig `yaml:"tls_config"`

	// CacheSize is the memory for values in this process, which the server keeps true; zero: none.
	CacheSize cache.ByteSize `yaml:"cache_size"`
	// MaxAsyncBufferSize is how many items wait to be stored, and MaxAsyncConcurrency how many requests store at once.
	MaxAsyncBufferSize  int                  `yaml:"max_async_buffer_size"`
	MaxAsyncConcurrency int                  `yaml:"max_async_concurrency"`
	Breaker             remote.BreakerConfig `yaml:"set_async_circuit_breaker_config"`
	// Observer is told of every operation; nil is none.
	Observer remote.Observer `yaml:"-"`
}

// TLSConfig is how TLS is spoken; the files are PEM.
type TLSConfig struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
	// MinVersion is TLS10, TLS11, TLS12 or TLS13, or the same as 1.0 to 1.3; empty: what Go takes, 1.2.
	MinVersion string `yaml:"min_version"`
}

// DefaultConfig returns all defaults; the address is missing.
func DefaultConfig() Config {
	return Config{
		DialTimeout: cache.Duration(5 * time.Second), ReadTimeout: cache.Duration(3 * time.Second), WriteTimeout: cache.Duration(3 * time.Second),
		MaxGetMultiConcurrency: 100, GetMultiBatchSize: 100, MaxSetMultiConcurrency: 100, SetMultiBatchSize: 100,
		MaxAsyncBufferSize: 10_000, MaxAsyncConcurrency: 20, Breaker: remote.DefaultBreakerConfig(),
	}
}

func (c Config) addresses() []string {
	var addrs []string
	for addr := range strings.SplitSeq(c.Addr, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// Validate returns all that is wrong with the configuration, without looking at files.
func (c Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(len(c.addresses()) > 0, "addr: there must be an address")
	add(c.DB >= 0, "db %d is negative", c.DB)
	add(c.DialTimeout > 0, "dial_timeout must be more than 0")
	add(c.ReadTimeout > 0, "read_timeout must be more than 0")
	add(c.WriteTimeout > 0, "write_timeout must be more than 0")
	for name, n := range map[string]int{
		"max_get_multi_concurrency": c.MaxGetMultiConcurrency, "get_multi_batch_size": c.GetMultiBatchSize,
		"max_set_multi_concurrency": c.MaxSetMultiConcurrency, "set_multi_batch_size": c.SetMultiBatchSize,
	} {
		add(n >= 0, "%s %d is negative", name, n)
	}
	add(c.MaxAsyncBufferSize > 0, "max_async_buffer_size must be more than 0")
	add(c.MaxAsyncConcurrency > 0, "max_async_concurrency must be more than 0")
	add((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "tls_config: give both cert_file and key_file, or none")
	if _, err := c.TLS.minVersion(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.Breaker.Validate())
	return errors.Join(errs...)
}

func (c TLSConfig) minVersion() (config.TLSVersion, error) {
	if c.MinVersion == "" {
		return 0, nil
	}
	name := c.MinVersion
	if !strings.HasPrefix(name, "TLS") {
		name = "TLS" + strings.ReplaceAll(name, ".", "")
	}
	version, ok := config.TLSVersions[name]
	if !ok {
		return 0, fmt.Errorf("tls_config: min_version %q is none of TLS10, TLS11, TLS12, TLS13", c.MinVersion)
	}
	return version, nil
}

// tls reads the files; nil where TLS is off.
func (c Config) tls() (*tls.Config, error) {
	if !c.TLSEnabled {
		return nil, nil
	}
	version, err := c.TLS.minVersion()
	if err != nil {
		return nil, err
	}
	cfg, err := config.NewTLSConfig(&config.TLSConfig{
		CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ServerName: c.TLS.ServerName,
		InsecureSkipVerify: c.TLS.InsecureSkipVerify, MinVersion: version,
	})
	if err != nil {
		return nil, fmt.Errorf("tls_config: %w", err)
	}
	return cfg, nil
}
