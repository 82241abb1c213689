package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// ErrNoRing says that no ring of the configuration takes a tenant.
var ErrNoRing = errors.New("no matching hashring")

const defaultShardCache = 100

// Settings are what the configuration does not say.
type Settings struct {
	// Algorithm is that of rings that do not name theirs.
	Algorithm string
	// Replicas is how many owners each series has.
	Replicas int
}

// Rings is a whole configuration, built. It is safe for concurrent use.
type Rings struct {
	rings []tenantRing
}

type tenantRing struct {
	cfg      Config
	name     string
	tenants  matcher
	count    int // tenants listed
	nodes    []Node
	whole    *Ring
	external labels.Labels

	shuffle   ShuffleConfig
	overrides []override
	replicas  int
	shards    *shardCache
}

type override struct {
	tenants matcher
	size    int
}

// New builds all rings. The error joins everything that is wrong, with the ring's name; rings
// that cannot work are [ErrImpossible].
func New(cfgs []Config, s Settings) (*Rings, error) {
	r := &Rings{}
	var errs []error
	for i, c := range cfgs {
		tr, err := newTenantRing(c, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("hashring %d %q: %w", i, c.Name, err))
			continue
		}
		r.rings = append(r.rings, tr)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func (c *Config) algorithm(s Settings) string {
	if c.Algorithm != "" {
		return c.Algorithm
	}
	return s.Algorithm
}

func newTenantRing(c Config, s Settings) (tr tenantRing, err error) {
	c.Algorithm = cmp.Or(c.algorithm(s), AlgorithmHashmod)
	tr = tenantRing{cfg: c, name: c.Name, nodes: c.nodes(), count: len(c.Tenants), replicas: s.Replicas, external: labels.FromMap(c.ExternalLabels)}
	if tr.tenants, err = newMatcher(c.Tenants, c.TenantMatcherType); err != nil {
		return tr, err
	}
	switch a := c.algorithm(s); a {
	case AlgorithmKetama:
		tr.whole, err = NewKetama(tr.nodes, s.Replicas)
	case AlgorithmHashmod, "":
		if c.Shuffle.ShardSize > 0 {
			return tr, fmt.Errorf("shuffle sharding needs algorithm %s", AlgorithmKetama)
		}
		tr.whole, err = NewHashmod(tr.nodes, s.Replicas)
	default:
		return tr, fmt.Errorf("algorithm %q is neither %s nor %s", a, AlgorithmHashmod, AlgorithmKetama)
	}
	if err != nil {
		return tr, err
	}
	return tr, tr.prepareShuffle(c.Shuffle)
}

// prepareShuffle checks that a shard can be had for each size there is, so that none fails later.
func (t *tenantRing) prepareShuffle(c ShuffleSharding) error {
	if c.ShardSize < 0 {
		return fmt.Errorf("shard_size %d is negative", c.ShardSize)
	}
	t.shuffle = ShuffleConfig{ShardSize: c.ShardSize, ZoneAwarenessDisabled: c.ZoneAwarenessDisabled}
	if c.ShardSize == 0 {
		return nil
	}
	size := c.CacheSize
	if size <= 0 {
		size = defaultShardCache
	}
	t.shards = newShardCache(size)
	sizes := []int{c.ShardSize}
	for i, o := range c.Overrides {
		m, err := newMatcher(o.Tenants, o.TenantMatcherType)
		if err != nil {
			return fmt.Errorf("override %d: %w", i, err)
		}
		if o.ShardSize < 1 {
			return fmt.Errorf("override %d: shard_size %d is not positive", i, o.ShardSize)
		}
		m.all = false // one without tenants is for nobody
		t.overrides = append(t.overrides, override{tenants: m, size: o.ShardSize})
		sizes = append(sizes, o.ShardSize)
	}
	for _, n := range sizes {
		cfg := t.shuffle
		cfg.ShardSize = n
		if _, err := Shard(t.nodes, t.replicas, "", cfg); err != nil {
			return err
		}
	}
	return nil
}

// For returns the ring of a tenant. The error is [ErrNoRing] where the configuration has none.
func (r *Rings) For(tenant string) (*Ring, error) {
	t := r.find(tenant)
	if t == nil {
		return nil, fmt.Errorf("tenant %q: %w", tenant, ErrNoRing)
	}
	return t.ring(tenant)
}

func (r *Rings) find(tenant string) *tenantRing {
	for i := range r.rings {
		if r.rings[i].tenants.matches(tenant) {
			return &r.rings[i]
		}
	}
	return nil
}

func (t *tenantRing) ring(tenant string) (*Ring, error) {
	if t.shards == nil {
		return t.whole, nil
	}
	if ring, ok := t.shards.get(tenant); ok {
		return ring, nil
	}
	cfg := t.shuffle
	for _, o := range t.overrides {
		if o.tenants.matches(tenant) {
			cfg.ShardSize = o.size
			break
		}
	}
	ring, err := Shard(t.nodes, t.replicas, tenant, cfg)
	if err != nil {
		return nil, err
	}
	t.shards.add(tenant, ring)
	return ring, nil
}

// ExternalLabels are those that the tenant's ring adds to its blocks.
func (r *Rings) ExternalLabels(tenant string) labels.Labels {
	if t := r.find(tenant); t != nil {
		return t.external
	}
	return labels.EmptyLabels()
}

// Nodes are the members of all rings, each address once, sorted.
func (r *Rings) Nodes() []Node {
	var out []Node
	for _, t := range r.rings {
		out = append(out, t.nodes...)
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Address, b.Address) })
	return slices.CompactFunc(out, func(a, b Node) bool { return a.Address == b.Address })
}

// Info describes a ring for metrics.
type Info struct {
	Name           string
	Nodes, Tenants int
}

// Infos describes all rings.
func (r *Rings) Infos() []Info {
	out := make([]Info, len(r.rings))
	for i, t := range r.rings {
		out[i] = Info{Name: t.name, Nodes: len(t.nodes), Tenants: t.count}
	}
	return out
}

// Configs are what the rings were built of, with the algorithm of each; they must not be changed.
func (r *Rings) Configs() []Config {
	out := make([]Config, len(r.rings))
	for i := range r.rings {
		out[i] = r.rings[i].cfg
	}
	return out
}

// Reshuffles reports whether the change from old to r moves keys between nodes that stay: that of a hashmod ring does,
// while ketama moves only those of nodes that come or go.
func (r *Rings) Reshuffles(old *Rings) bool {
	hashmod := func(r *Rings) (parts []string) {
		for _, c := range r.Configs() {
			if c.Algorithm != AlgorithmHashmod {
				continue
			}
			parts = append(parts, c.TenantMatcherType+"\x00"+strings.Join(c.Tenants, "\x00"))
			for _, e := range c.Endpoints {
				parts = append(parts, e.Address)
			}
		}
		return parts
	}
	return !slices.Equal(hashmod(old), hashmod(r))
}

// SingleRings is the configuration of a process that keeps what it gets, of every tenant.
func SingleRings(address string) *Rings {
	return &Rings{rings: []tenantRing{{
		cfg: Config{Endpoints: []Endpoint{{Address: address}}}, tenants: matcher{all: true}, nodes: []Node{{Address: address}}, whole: Single(address), replicas: 1,
		external: labels.EmptyLabels(),
	}}}
}
