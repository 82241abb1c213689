// Package demo is a small shop that does not exist: three web services and two machines, with the metrics that such
// things have. Counters grow by day and night and start anew when a pod restarts, requests have latencies as classic
// and native histograms, machines burn CPU, and now and then a target is down.
//
// The central idea is that every value is a pure function of the series and the time. The same shop can hence be
// written into blocks for days that are over and be scraped today, by as many replicas as one likes, and what they see
// fits together.
package demo

import (
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Metric names and their help texts.
const (
	metricRequests = "http_requests_total"
	metricDuration = "http_request_duration_seconds"
	metricCPU      = "node_cpu_seconds_total"
	metricMemory   = "process_resident_memory_bytes"
	metricQueue    = "http_requests_in_flight"
	metricLoad     = "node_load1"
)

var help = map[string]string{
	metricRequests: "Requests answered, by method, handler and status code.",
	metricDuration: "Time to answer a request.",
	metricCPU:      "Seconds the CPUs spent in each mode.",
	metricMemory:   "Resident memory size in bytes.",
	metricQueue:    "Requests being answered.",
	metricLoad:     "Load average over one minute.",
}

// Target is one thing to be scraped. It is immutable and may be used concurrently.
type Target struct {
	Job, Instance, Namespace, Pod string
	// Series are its series without `up`, in no particular order. Labels hold those of the target too.
	Series []Series

	durations                 *durations // of its requests; nil where it answers none
	lifetime, downtime, phase float64    // seconds; see birth
}

// Series is one series of a target.
type Series struct {
	Labels labels.Labels
	// Float is the value at a time; nil for a native histogram. Both may be asked only about times at which the
	// target is up.
	Float func(at time.Time) float64
	// Histogram is the native histogram at a time, owned by the caller; nil for a series of floats.
	Histogram func(at time.Time) *histogram.Histogram

	kind kind
	own  labels.Labels // the labels that the target itself exposes, without the name
}

// kind is how a series is exposed.
type kind int

const (
	counter kind = iota
	gauge
	bucket // a part of a classic histogram
	native
)

// Targets returns the shop: what there is and what it does is fixed.
func Targets() []*Target {
	var targets []*Target
	for _, app := range []struct {
		job       string
		pods      int
		rate      float64 // requests per second and pod, on average
		median    float64 // seconds
		memory    float64 // bytes
		networkID int
	}{
		{"frontend", 3, 40, 0.020, 180e6, 1},
		{"catalog", 2, 55, 0.008, 320e6, 2},
		{"checkout", 2, 6, 0.120, 240e6, 3},
	} {
		for i := range app.pods {
			t := newTarget(app.job, fmt.Sprintf("10.0.%d.%d:8080", app.networkID, 11+i), "shop", fmt.Sprintf("%s-%d", app.job, i))
			t.addRequests(app.rate, app.median)
			t.addGauge(metricQueue, curve{base: app.rate * app.median, waves: daily(t.phase)}, 1)
			t.addGauge(metricMemory, curve{base: app.memory, waves: []wave{{0.12, 7 * hour, t.phase}, {0.03, 23 * 60, 0}}}, 4096)
			targets = append(targets, t)
		}
	}
	for i := range 2 {
		t := newTarget("node", fmt.Sprintf("10.0.0.%d:9100", 11+i), "monitoring", fmt.Sprintf("node-exporter-%d", i))
		t.addCPUs(4)
		t.addGauge(metricLoad, curve{base: 1.4, waves: daily(t.phase)}, 0.01)
		targets = append(targets, t)
	}
	return targets
}

func newTarget(job, instance, namespace, pod string) *Target {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(pod)) // never fails
	seed := float64(hash.Sum64() % 100_000)
	return &Target{
		Job: job, Instance: instance, Namespace: namespace, Pod: pod,
		lifetime: 29*hour + math.Mod(seed, 11*hour),
		downtime: 90,
		phase:    math.Mod(seed, 5*hour),
	}
}

// daily is the rhythm of people: busy afternoons, and a little restlessness.
func daily(phase float64) []wave {
	return []wave{{0.55, day, 8 * hour}, {0.15, day / 2, 3 * hour}, {0.08, 47 * 60, phase}, {0.04, 13 * 60, phase}}
}

// Labels are those that discovery gives to every series of the target, sorted.
func (t *Target) Labels() labels.Labels {
	return labels.FromStrings("instance", t.Instance, "job", t.Job, "namespace", t.Namespace, "pod", t.Pod)
}

// Up tells whether the target answers at a time. It is down for a while before each start, and a new start begins all
// counters at zero.
func (t *Target) Up(at time.Time) bool {
	_, up := t.birth(seconds(at))
	return up
}

// birth is when the process that runs at a time was started; false while there is none.
func (t *Target) birth(at float64) (float64, bool) {
	since := math.Mod(at-t.phase, t.lifetime)
	if since < t.downtime {
		return 0, false
	}
	return at - since + t.downtime, true
}

// grown is how much a curve has brought together since the start of the process.
func (t *Target) grown(c curve, at time.Time) float64 {
	now := seconds(at)
	birth, up := t.birth(now)
	if !up {
		return math.NaN()
	}
	return c.between(birth, now)
}

func (t *Target) add(kind kind, name string, own []string, s Series) {
	builder := labels.NewBuilder(t.Labels()).Set(labels.MetricName, name)
	for i := 0; i < len(own); i += 2 {
		builder.Set(own[i], own[i+1])
	}
	s.kind, s.Labels, s.own = kind, builder.Labels(), labels.FromStrings(own...)
	t.Series = append(t.Series, s)
}

func (t *Target) addCounter(c curve, round float64, name string, own ...string) {
	t.add(counter, name, own, Series{Float: func(at time.Time) float64 { return floor(t.grown(c, at), round) }})
}

func (t *Target) addGauge(name string, c curve, round float64) {
	t.add(gauge, name, nil, Series{Float: func(at time.Time) float64 { return floor(c.at(seconds(at)), round) }})
}

// floor rounds down to a multiple of unit, which keeps what grows growing.
func floor(v, unit float64) float64 {
	// A unit below 1 is the inverse of a whole number: dividing by that gives the shortest decimals.
	if unit < 1 {
		inverse := math.Round(1 / unit)
		return math.Floor(v*inverse) / inverse
	}
	return math.Floor(v/unit) * unit
}

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// addCPUs adds the time of n CPUs in four modes; together they always make up the time that passed.
func (t *Target) addCPUs(n int) {
	for cpu := range n {
		busy := []struct {
			mode  string
			curve curve
		}{
			{"user", curve{0.22 + 0.03*float64(cpu), daily(t.phase)}},
			{"system", curve{0.06, daily(t.phase)}},
			{"iowait", curve{0.02, []wave{{0.9, 6 * hour, t.phase}}}},
		}
		for _, b := range busy {
			t.addCounter(b.curve, 0.01, metricCPU, "cpu", fmt.Sprint(cpu), "mode", b.mode)
		}
		t.add(counter, metricCPU, []string{"cpu", fmt.Sprint(cpu), "mode", "idle"}, Series{Float: func(at time.Time) float64 {
			idle := t.grown(curve{base: 1}, at)
			for _, b := range busy {
				idle -= t.grown(b.curve, at)
			}
			return floor(idle, 0.01)
		}})
	}
}

// addRequests adds request counters and the durations as a classic and as a native histogram of the same name.
func (t *Target) addRequests(rate, median float64) {
	for _, handler := range []struct {
		path  string
		share float64
	}{{"/api/items", 0.7}, {"/api/cart", 0.3}} {
		for _, method := range []struct {
			name  string
			share float64
		}{{"GET", 0.85}, {"POST", 0.15}} {
			for _, code := range []struct {
				code  string
				share float64
				waves []wave
			}{
				{"200", 0.985, daily(t.phase)},
				{"404", 0.012, daily(t.phase)},
				// Errors come in bursts.
				{"500", 0.003, []wave{{0.98, 5 * hour, t.phase}}},
			} {
				c := curve{rate * handler.share * method.share * code.share, code.waves}
				t.addCounter(c, 1, metricRequests, "code", code.code, "handler", handler.path, "method", method.name)
			}
		}
	}
	t.addDurations(newDurations(
		stream{curve{rate * 0.9, daily(t.phase)}, median, 0.6},
		// Nightly jobs make slow requests, so that the quantiles move.
		stream{curve{rate * 0.1, []wave{{0.9, day, 20 * hour}}}, median * 12, 0.5},
	))
}

// addDurations adds the classic histogram, as the series that one is made of, and the native one of the same name.
func (t *Target) addDurations(d *durations) {
	t.durations = d
	total := func(at time.Time) float64 { return float64(d.count(d.grown(t, at))) }
	for i, bound := range classicBounds {
		t.add(bucket, metricDuration+"_bucket", []string{"le", labels.FormatOpenMetricsFloat(bound)}, Series{Float: func(at time.Time) float64 {
			return float64(d.below(i, d.grown(t, at)))
		}})
	}
	t.add(bucket, metricDuration+"_bucket", []string{"le", "+Inf"}, Series{Float: total})
	t.add(bucket, metricDuration+"_count", nil, Series{Float: total})
	t.add(bucket, metricDuration+"_sum", nil, Series{Float: func(at time.Time) float64 { return d.sum(d.grown(t, at)) }})
	t.add(native, metricDuration, nil, Series{Histogram: func(at time.Time) *histogram.Histogram { return d.native(d.grown(t, at)) }})
}
