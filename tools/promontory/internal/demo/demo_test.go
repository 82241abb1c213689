package demo

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// begin is any time; the shop has none of its own.
var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func TestCurveIntegratesItsRate(t *testing.T) {
	t.Parallel()
	c := curve{base: 3, waves: daily(777)}
	from, to := seconds(begin), seconds(begin)+5*hour
	var sum float64
	for at := from; at < to; at++ {
		sum += c.at(at + 0.5)
		require.GreaterOrEqual(t, c.at(at), 0.0)
	}
	require.InEpsilon(t, sum, c.between(from, to), 1e-6)
}

func TestCountersNeverShrinkWhileTheirProcessLives(t *testing.T) {
	t.Parallel()
	for _, target := range Targets() {
		last := make([]float64, len(target.Series))
		lastHistogram := map[int]*histogram.Histogram{}
		wasUp, resets := true, 0
		for at := begin; at.Before(begin.Add(50 * time.Hour)); at = at.Add(45 * time.Second) {
			if !target.Up(at) {
				if wasUp {
					resets++
				}
				wasUp = false
				continue
			}
			for i, s := range target.Series {
				switch {
				case s.Histogram != nil:
					h := s.Histogram(at)
					require.NoError(t, h.Validate())
					if before := lastHistogram[i]; before != nil && wasUp {
						require.False(t, h.ToFloat(nil).DetectReset(before.ToFloat(nil)), "%s at %s", s.Labels, at)
					}
					lastHistogram[i] = h
				case s.kind != gauge:
					v := s.Float(at)
					require.False(t, math.IsNaN(v) || v < 0, "%s at %s is %v", s.Labels, at, v)
					if wasUp {
						require.GreaterOrEqual(t, v, last[i], "%s at %s", s.Labels, at)
					} else {
						require.Less(t, v, last[i]+1, "%s starts anew at %s", s.Labels, at)
					}
					last[i] = v
				}
			}
			wasUp = true
		}
		require.GreaterOrEqual(t, resets, 1, "%s restarts at least once in two days", target.Pod)
	}
}

func TestHistogramsOfATargetAgree(t *testing.T) {
	t.Parallel()
	for _, target := range Targets() {
		if target.durations == nil {
			continue
		}
		at := begin.Add(17 * time.Hour)
		require.True(t, target.Up(at))
		values := map[string]float64{}
		var native *histogram.Histogram
		for _, s := range target.Series {
			name := s.Labels.Get(labels.MetricName)
			if s.Histogram != nil {
				native = s.Histogram(at)
			} else if s.kind == bucket {
				values[name+s.Labels.Get("le")] = s.Float(at)
			}
		}
		require.InDelta(t, values[metricDuration+"_count"], native.Count, 0)
		require.InDelta(t, values[metricDuration+"_sum"], native.Sum, 0)
		require.InDelta(t, values[metricDuration+"_bucket+Inf"], native.Count, 0)
		before := 0.0
		for _, bound := range classicBounds {
			v := values[metricDuration+"_bucket"+labels.FormatOpenMetricsFloat(bound)]
			require.GreaterOrEqual(t, v, before, "bucket %v of %s", bound, target.Pod)
			before = v
		}
	}
}

func TestCPUsAreAlwaysDoingSomething(t *testing.T) {
	t.Parallel()
	for _, target := range Targets() {
		if target.Job != "node" {
			continue
		}
		birth, up := target.birth(seconds(begin))
		require.True(t, up)
		sum := 0.0
		for _, s := range target.Series {
			if s.Labels.Get(labels.MetricName) == metricCPU && s.Labels.Get("cpu") == "2" {
				sum += s.Float(begin)
			}
		}
		require.InDelta(t, seconds(begin)-birth, sum, 0.05)
	}
}

func TestSeriesAreDistinctAndCarryTheirTarget(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, target := range Targets() {
		for _, s := range target.Series {
			require.False(t, seen[s.Labels.String()], s.Labels)
			seen[s.Labels.String()] = true
			target.Labels().Range(func(l labels.Label) { require.Equal(t, l.Value, s.Labels.Get(l.Name)) })
		}
	}
	require.Greater(t, len(seen), 200)
}
