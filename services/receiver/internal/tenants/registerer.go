package tenants

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// registerer gives the metrics of one TSDB the tenant's label, and takes them back when it is closed.
type registerer struct {
	prometheus.Registerer
	mu  sync.Mutex
	all []prometheus.Collector // guarded by mu
}

// newRegisterer returns nil for a nil reg, which a TSDB understands.
func newRegisterer(reg prometheus.Registerer, tenant string) *registerer {
	if reg == nil {
		return nil
	}
	return &registerer{Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"tenant": tenant}, reg)}
}

// Register is part of prometheus.Registerer.
func (r *registerer) Register(c prometheus.Collector) error {
	if err := r.Registerer.Register(c); err != nil {
		return err
	}
	r.mu.Lock()
	r.all = append(r.all, c)
	r.mu.Unlock()
	return nil
}

// MustRegister is part of prometheus.Registerer; it panics like every other on a programming error.
func (r *registerer) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err) //nolint:forbidigo // what the interface promises
		}
	}
}

// unregisterAll takes back what was registered.
func (r *registerer) unregisterAll() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		r.Unregister(c)
	}
	r.all = nil
}

// orNil keeps a nil *registerer from becoming a Registerer that is not nil.
func (r *registerer) orNil() prometheus.Registerer {
	if r == nil {
		return nil
	}
	return r
}
