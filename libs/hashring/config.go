package hashring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"
)

// Words of algorithm and tenant_matcher_type.
const (
	AlgorithmHashmod = "hashmod"
	AlgorithmKetama  = "ketama"

	matchExact = "exact"
	matchGlob  = "glob"
)

const defaultCapnProtoPort = "19391"

// Config is one ring of the configuration.
type Config struct {
	Name              string            `json:"hashring"`
	Tenants           []string          `json:"tenants"`
	TenantMatcherType string            `json:"tenant_matcher_type"`
	Endpoints         []Endpoint        `json:"endpoints"`
	Algorithm         string            `json:"algorithm"`
	ExternalLabels    map[string]string `json:"external_labels"`
	Shuffle           ShuffleSharding   `json:"shuffle_sharding_config"`
}

// ShuffleSharding is the value of the key shuffle_sharding_config.
type ShuffleSharding struct {
	ShardSize             int               `json:"shard_size"`
	CacheSize             int               `json:"cache_size"`
	ZoneAwarenessDisabled bool              `json:"zone_awareness_disabled"`
	Overrides             []ShuffleOverride `json:"overrides"`
}

// ShuffleOverride gives some tenants another shard size. A missing matcher type means exact.
type ShuffleOverride struct {
	ShardSize         int      `json:"shard_size"`
	Tenants           []string `json:"tenants"`
	TenantMatcherType string   `json:"tenant_matcher_type"`
}

// Endpoint is a node: an address, or an object with more.
type Endpoint struct {
	Address          string `json:"address"`
	CapnProtoAddress string `json:"capnproto_address"`
	Zone             string `json:"az"`
}

// UnmarshalJSON reads both forms.
func (e *Endpoint) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '"' {
		*e = Endpoint{}
		if err := json.Unmarshal(b, &e.Address); err != nil {
			return err
		}
	} else {
		type plain Endpoint
		if err := json.Unmarshal(b, (*plain)(e)); err != nil {
			return err
		}
		if e.Address == "" {
			return errors.New("an endpoint has no address")
		}
	}
	if e.CapnProtoAddress == "" {
		host, _, err := net.SplitHostPort(e.Address)
		if err != nil {
			host = e.Address
		}
		e.CapnProtoAddress = net.JoinHostPort(host, defaultCapnProtoPort)
	}
	return nil
}

// Parse reads a configuration: a JSON array of rings. Errors name what is wrong and where;
// whether a ring is possible is for [New] to say.
func Parse(data []byte) ([]Config, error) {
	var cfgs []Config
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&cfgs); err != nil {
		return nil, fmt.Errorf("line %d: %w", lineOf(data, err, dec.InputOffset()), err)
	}
	if dec.More() {
		return nil, fmt.Errorf("line %d: something follows the array", 1+bytes.Count(data[:dec.InputOffset()], []byte("\n")))
	}
	if len(cfgs) == 0 {
		return nil, errors.New("no hashring in the list")
	}
	return cfgs, nil
}

// lineOf is where err came up.
func lineOf(data []byte, err error, offset int64) int {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typ):
		offset = typ.Offset
	}
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// matcher decides whether a tenant belongs.
type matcher struct {
	exact map[string]bool
	globs []string
	all   bool
}

func newMatcher(tenants []string, kind string) (matcher, error) {
	m := matcher{all: len(tenants) == 0}
	switch kind {
	case "", matchExact:
		m.exact = make(map[string]bool, len(tenants))
		for _, t := range tenants {
			m.exact[t] = true
		}
	case matchGlob:
		for _, t := range tenants {
			if _, err := path.Match(t, ""); err != nil {
				return m, fmt.Errorf("tenant pattern %q: %w", t, err)
			}
		}
		m.globs = tenants
	default:
		return m, fmt.Errorf("tenant_matcher_type %q is neither %s nor %s", kind, matchExact, matchGlob)
	}
	return m, nil
}

func (m matcher) matches(tenant string) bool {
	if m.all || m.exact[tenant] {
		return true
	}
	for _, g := range m.globs {
		if ok, _ := path.Match(g, tenant); ok {
			return true
		}
	}
	return false
}

// nodes are the members that the configuration lists.
func (c *Config) nodes() []Node {
	out := make([]Node, len(c.Endpoints))
	for i, e := range c.Endpoints {
		out[i] = Node{Address: strings.TrimSpace(e.Address), CapnProtoAddress: e.CapnProtoAddress, Zone: e.Zone}
	}
	return out
}
