package reload

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	reloads, reloadsFailed      prometheus.Counter
	lastSuccessful, lastSuccess prometheus.Gauge
	applies, appliesFailed      prometheus.Counter
	expansionErrors             prometheus.Gauge
	watches                     prometheus.Gauge
	watchEvents, watchErrors    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, method string) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "thanos_sidecar_reloader_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "thanos_sidecar_reloader_" + name, Help: help})
	}
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "thanos_sidecar_reloader_info",
		Help: "1, with the way in which Prometheus is reloaded as label.",
	}, []string{"method"}).WithLabelValues(method).Set(1)
	return &metrics{
		reloads:         counter("reloads_total", "Attempts to reload Prometheus."),
		reloadsFailed:   counter("reloads_failed_total", "Attempts to reload Prometheus that failed."),
		lastSuccessful:  gauge("last_reload_successful", "Whether the last attempt to reload Prometheus was successful: 1 for yes, 0 for no."),
		lastSuccess:     gauge("last_reload_success_timestamp_seconds", "Unix time of the last successful reload."),
		applies:         counter("config_apply_operations_total", "Times the watched files were read and compared."),
		appliesFailed:   counter("config_apply_operations_failed_total", "Times the watched files could not be read or not be brought into effect."),
		expansionErrors: gauge("config_environment_variable_expansion_errors", "Environment variables that the configuration names and that were not set, the last time it was read."),
		watches:         gauge("watches", "Folders that are watched."),
		watchEvents:     counter("watch_events_total", "Events of watched folders."),
		watchErrors:     counter("watch_errors_total", "Errors while watching folders."),
	}
}
