package demo

import "math"

// curve is a rate over time that is known together with its integral, so that a counter that follows it has a value at
// any time without anybody having counted. It is base × (1 + Σ waves), and never negative as long as the waves'
// amplitudes sum up to at most 1. Times are seconds since the Unix epoch.
type curve struct {
	base  float64 // per second
	waves []wave
}

// wave is one periodic part of a curve: amplitude × sin(2π(t−phase)/period).
type wave struct{ amplitude, period, phase float64 }

const (
	day  = 24 * 3600.0
	hour = 3600.0
)

// at is the rate at time t.
func (c curve) at(t float64) float64 {
	sum := 1.0
	for _, w := range c.waves {
		sum += w.amplitude * math.Sin(2*math.Pi*(t-w.phase)/w.period)
	}
	return c.base * sum
}

// between is the integral of the rate from one time to another, which grows with to.
func (c curve) between(from, to float64) float64 {
	sum := to - from
	for _, w := range c.waves {
		k := 2 * math.Pi / w.period
		sum += w.amplitude / k * (math.Cos(k*(from-w.phase)) - math.Cos(k*(to-w.phase)))
	}
	return c.base * sum
}

// lognormal is the share of durations of at most seconds, where the middle one is median and spread is the standard
// deviation of the logarithm.
func lognormal(seconds, median, spread float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return 0.5 * math.Erfc(-(math.Log(seconds)-math.Log(median))/(spread*math.Sqrt2))
}
