package lifecycle

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Status is what a process says of itself to those who probe it: whether it is
// alive, and whether it wants requests. Both are false at first. It is safe for
// concurrent use.
type Status struct {
	gauge *prometheus.GaugeVec

	mu       sync.Mutex // guards all below
	healthy  bool
	ready    bool
	onChange []func(ready bool)
	name     string
}

// NewStatus returns the status of a component and exports it as
// thanos_status{component,check}, with both series present from the start. A nil registerer works.
func NewStatus(component string, reg prometheus.Registerer) *Status {
	s := &Status{
		name: component,
		gauge: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_status",
			Help: "Whether the component passes the check: 1 for yes, 0 for no.",
		}, []string{"component", "check"}),
	}
	s.gauge.WithLabelValues(component, "ready").Set(0)
	s.gauge.WithLabelValues(component, "healthy").Set(0)
	return s
}

// Component returns the name given to NewStatus.
func (s *Status) Component() string { return s.name }

// Healthy reports whether the process is alive and well.
func (s *Status) Healthy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.healthy
}

// Ready reports whether the process wants requests.
func (s *Status) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// SetHealthy changes what Healthy reports.
func (s *Status) SetHealthy(healthy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.healthy = healthy
	s.gauge.WithLabelValues(s.name, "healthy").Set(number(healthy))
}

// SetReady changes what Ready reports and tells those who asked by OnReadyChange.
func (s *Status) SetReady(ready bool) {
	s.mu.Lock()
	changed := s.ready != ready
	s.ready = ready
	s.gauge.WithLabelValues(s.name, "ready").Set(number(ready))
	var tell []func(bool)
	if changed {
		tell = s.onChange
	}
	s.mu.Unlock()
	for _, f := range tell {
		f(ready)
	}
}

// OnReadyChange has f called with the present readiness at once and after each change.
// It is meant for wiring: all calls come before the first SetReady.
func (s *Status) OnReadyChange(f func(ready bool)) {
	s.mu.Lock()
	s.onChange = append(s.onChange, f)
	ready := s.ready
	s.mu.Unlock()
	f(ready)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
