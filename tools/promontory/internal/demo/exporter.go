package demo

import (
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
)

// MetricsPath is where Handler serves the metrics of a target.
func MetricsPath(t *Target) string { return "/targets/" + t.Pod + "/metrics" }

// Handler serves the metrics of each target at its path, as they are now according to clock, and /-/ready. A target
// that is down answers 503.
func Handler(targets []*Target, clock func() time.Time) http.Handler {
	mux := http.NewServeMux()
	for _, t := range targets {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collector{t, clock})
		metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
		mux.HandleFunc("GET "+MetricsPath(t), func(w http.ResponseWriter, r *http.Request) {
			if !t.Up(clock()) {
				http.Error(w, t.Pod+" is down at present, as the demo wants it", http.StatusServiceUnavailable)
				return
			}
			metrics.ServeHTTP(w, r)
		})
	}
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// collector exposes one target.
type collector struct {
	target *Target
	clock  func() time.Time
}

// Describe says nothing: what is collected depends on the target.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the values of now.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	now := c.clock()
	if !c.target.Up(now) {
		return // went down between the handler's look and ours
	}
	for _, s := range c.target.Series {
		switch s.kind {
		case counter:
			metrics <- constant(s, prometheus.CounterValue, now)
		case gauge:
			metrics <- constant(s, prometheus.GaugeValue, now)
		case native:
			name := s.Labels.Get(labels.MetricName)
			metrics <- durationMetric{prometheus.NewDesc(name, help[name], nil, nil), c.target, now}
		case bucket: // a part of the metric of the native one
		}
	}
}

func constant(s Series, kind prometheus.ValueType, now time.Time) prometheus.Metric {
	own := s.own.Map()
	names := slices.Sorted(maps.Keys(own))
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = own[name]
	}
	name := s.Labels.Get(labels.MetricName)
	metric, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help[name], names, nil), kind, s.Float(now), values...)
	if err != nil {
		return prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	return metric
}

// durationMetric is a histogram that is classic and native at once, which the client library makes only by observing.
type durationMetric struct {
	desc   *prometheus.Desc
	target *Target
	now    time.Time
}

// Desc is the metric's descriptor.
func (m durationMetric) Desc() *prometheus.Desc { return m.desc }

// Write fills in both histograms.
func (m durationMetric) Write(out *dto.Metric) error {
	d := m.target.durations
	grown := d.grown(m.target, m.now)
	h := d.native(grown)
	schema, zero, count, sum := h.Schema, h.ZeroThreshold, h.Count, h.Sum
	var none uint64
	out.Histogram = &dto.Histogram{
		SampleCount: &count, SampleSum: &sum, Schema: &schema, ZeroThreshold: &zero, ZeroCount: &none,
		PositiveDelta: h.PositiveBuckets,
	}
	for _, span := range h.PositiveSpans {
		out.Histogram.PositiveSpan = append(out.Histogram.PositiveSpan, &dto.BucketSpan{Offset: &span.Offset, Length: &span.Length})
	}
	for i, bound := range append(classicBounds[:], math.Inf(1)) {
		below := count
		if i < len(classicBounds) {
			below = uint64(d.below(i, grown))
		}
		out.Histogram.Bucket = append(out.Histogram.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: &below})
	}
	return nil
}
