package memcached

import (
	"errors"
	"fmt"
	"time"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/remote"
	"github.com/promontory-io/promontory/libs/discovery"
)

// Config is how memcached servers are used.
type Config struct {
	// Addresses are host:port, a path of a socket, or a name with a lookup such as dnssrv+_memcached._tcp.example.org.
	Addresses []string `yaml:"addresses"`
	// Timeout bounds each connecting, writing and reading.
	Timeout cache.Duration `yaml:"timeout"`
	// MaxIdleConnections are kept for each server.
	MaxIdleConnections int `yaml:"max_idle_connections"`
	// MaxAsyncConcurrency is how many items are stored at once, and MaxAsyncBufferSize how many wait for it.
	MaxAsyncConcurrency int `yaml:"max_async_concurrency"`
	MaxAsyncBufferSize  int `yaml:"max_async_buffer_size"`
	// MaxGetMultiConcurrency is how many requests are under way at once, and MaxGetMultiBatchSize how many keys one of them
	// asks for; zero: any number.
	MaxGetMultiConcurrency int `yaml:"max_get_multi_concurrency"`
	MaxGetMultiBatchSize   int `yaml:"max_get_multi_batch_size"`
	// MaxItemSize bounds what is stored; zero: no bound but the server's.
	MaxItemSize cache.ByteSize `yaml:"max_item_size"`
	// DNSProviderUpdateInterval is how often names are looked up.
	DNSProviderUpdateInterval cache.Duration `yaml:"dns_provider_update_interval"`
	// AutoDiscovery asks the addresses for the servers of their cluster, as ElastiCache offers it.
	AutoDiscovery bool `yaml:"auto_discovery"`
	// Breaker is about storing.
	Breaker remote.BreakerConfig `yaml:"set_async_circuit_breaker_config"`
	// Observer is told of every operation; nil is none.
	Observer remote.Observer `yaml:"-"`
}

// DefaultConfig returns all defaults; the addresses are missing.
func DefaultConfig() Config {
	return Config{
		Timeout: cache.Duration(500 * time.Millisecond), MaxIdleConnections: 100,
		MaxAsyncConcurrency: 20, MaxAsyncBufferSize: 10_000,
		MaxGetMultiConcurrency: 100, MaxItemSize: cache.MiB,
		DNSProviderUpdateInterval: cache.Duration(10 * time.Second),
		Breaker:                   remote.DefaultBreakerConfig(),
	}
}

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("addresses: there must be at least one"))
	}
	for _, address := range c.Addresses {
		if err := discovery.ValidateAddress(address); err != nil {
			errs = append(errs, fmt.Errorf("addresses: %w", err))
		}
	}
	add(c.Timeout > 0, "timeout must be more than 0")
	add(c.MaxIdleConnections >= 0, "max_idle_connections %d is negative", c.MaxIdleConnections)
	add(c.MaxAsyncConcurrency > 0, "max_async_concurrency must be more than 0")
	add(c.MaxAsyncBufferSize > 0, "max_async_buffer_size must be more than 0")
	add(c.MaxGetMultiConcurrency >= 0, "max_get_multi_concurrency %d is negative", c.MaxGetMultiConcurrency)
	add(c.MaxGetMultiBatchSize >= 0, "max_get_multi_batch_size %d is negative", c.MaxGetMultiBatchSize)
	add(c.DNSProviderUpdateInterval > 0, "dns_provider_update_interval must be more than 0")
	errs = append(errs, c.Breaker.Validate())
	return errors.Join(errs...)
}
