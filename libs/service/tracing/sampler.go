package tracing

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// forceable samples what the caller insists on, and leaves the rest to another sampler.
type forceable struct{ sdktrace.Sampler }

func (s forceable) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if !forced(p.ParentContext) {
		return s.Sampler.ShouldSample(p)
	}
	return sdktrace.SamplingResult{
		Decision:   sdktrace.RecordAndSample,
		Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
}

// otlpSampler understands the words of OTLP's sampler_type. They are compared without regard to
// case and separators, so that the names of OpenTelemetry's environment variables work too.
// The default is to follow the parent, and to sample where there is none.
func otlpSampler(kind, param string) (sdktrace.Sampler, error) {
	word := strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(kind))
	rest, parentBased := strings.CutPrefix(word, "parentbased")
	var s sdktrace.Sampler
	switch rest {
	case "alwayssample", "alwayson", "":
		s = sdktrace.AlwaysSample()
	case "neversample", "alwaysoff":
		s = sdktrace.NeverSample()
	case "traceidratiobased", "traceidratio":
		ratio, err := strconv.ParseFloat(param, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("sampler_param: %q is not a number from 0 to 1, as sampler_type %q needs it", param, kind)
		}
		s = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("sampler_type: unknown sampler %q, want alwayssample, neversample, traceidratiobased, or one of these with parentbased before it", kind)
	}
	if parentBased || word == "" {
		s = sdktrace.ParentBased(s)
	}
	return s, nil
}

// rateLimited samples at most so many traces a second, the first ones of each second's share.
type rateLimited struct {
	perSecond float64
	now       func() time.Time

	mu      sync.Mutex // guards all below
	balance float64
	last    time.Time
}

func newRateLimited(perSecond float64, now func() time.Time) sdktrace.Sampler {
	// A burst of one second's worth, and of one trace where the rate is below that.
	return &rateLimited{perSecond: perSecond, now: now, balance: max(perSecond, 1), last: now()}
}

func (s *rateLimited) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := sdktrace.SamplingResult{
		Decision:   sdktrace.Drop,
		Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.balance = min(s.balance+now.Sub(s.last).Seconds()*s.perSecond, max(s.perSecond, 1))
	s.last = now
	if s.balance >= 1 {
		s.balance--
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

func (s *rateLimited) Description() string {
	return fmt.Sprintf("RateLimited{%g/s}", s.perSecond)
}
