package cachebucket

import (
	"fmt"
	"strings"
	"time"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// typeGroupcache is a cache that several processes have in common by asking each other. It is accepted, and each process
// keeps its own: the configuration goes on to work, with as much memory and more requests to the bucket.
const typeGroupcache = "GROUPCACHE"

// groupcacheConfig is what such a configuration says. Only the size has an effect.
type groupcacheConfig struct {
	SelfURL     string         `yaml:"self_url"`
	Peers       []string       `yaml:"peers"`
	Group       string         `yaml:"groupcache_group"`
	DNSInterval cache.Duration `yaml:"dns_interval"`
	DNSResolver string         `yaml:"dns_sd_resolver"`
	Timeout     cache.Duration `yaml:"timeout"`
	MaxSize     cache.ByteSize `yaml:"max_size"`
}

// parseGroupcache reads a configuration of that type; ok is false for all others.
func parseGroupcache(source string, text []byte, s *Settings) (b backend.Config, ok bool, err error) {
	var loose struct {
		Type string         `yaml:"type"`
		Rest map[string]any `yaml:",inline"`
	}
	if strictyaml.Decode(source, text, &loose) != nil || !strings.EqualFold(loose.Type, typeGroupcache) {
		return b, false, nil //nolint:nilerr // whoever reads it next says what is wrong
	}
	doc := struct {
		Type     string           `yaml:"type"`
		Config   groupcacheConfig `yaml:"config"`
		Settings `yaml:",inline"`
	}{
		Settings: *s,
		Config: groupcacheConfig{
			DNSInterval: cache.Duration(time.Minute), DNSResolver: "golang", Timeout: cache.Duration(2 * time.Second), MaxSize: 250 * cache.MiB,
		},
	}
	if err := strictyaml.Decode(source, text, &doc); err != nil {
		return b, true, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	*s = doc.Settings
	b = backend.DefaultConfig()
	b.Memory = cache.MemoryConfig{MaxSize: doc.Config.MaxSize}.WithDefaults()
	return b, true, b.Validate()
}
