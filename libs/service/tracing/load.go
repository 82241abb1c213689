package tracing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Types of --tracing.config.
const (
	typeOTLP        = "OTLP"
	typeJaeger      = "JAEGER"
	typeGoogleCloud = "GOOGLE_CLOUD"
	typeStackdriver = "STACKDRIVER"
	typeElasticAPM  = "ELASTIC_APM"
	typeLightstep   = "LIGHTSTEP"
)

// document is the outer form of --tracing.config.
type document struct {
	Type   string    `yaml:"type"`
	Config yaml.Node `yaml:"config"`
}

// plan is what any of the types comes down to: where spans go, which are made, and what is said of
// the process in them.
type plan struct {
	disabled    bool
	serviceName string
	attributes  []attribute.KeyValue
	sampler     sdktrace.Sampler
	exporter    exporterConfig
	batch       []sdktrace.BatchSpanProcessorOption
	// warnings are what of the configuration could not be kept.
	warnings []string
}

// Load reads the content of --tracing.config and starts exporting. An unset pair gives tracing that
// does nothing. A back end that cannot be reached is no error: export is tried again, and
// its failures are logged. Errors name the file or flag. Shutdown has to be called in the end.
func Load(ctx context.Context, c *flags.Content, opts Options) (*Tracing, error) {
	off := &Tracing{provider: noProvider(), propagator: defaultPropagator()}
	if !c.IsSet() {
		return off, nil
	}
	p, kind, err := parse(c)
	if err != nil {
		return nil, err
	}
	logger := opts.Logger.Named("tracing")
	for _, w := range p.warnings {
		logger.Warn("tracing configuration", zap.String("type", kind), zap.String("note", w))
	}
	if p.disabled {
		return off, nil
	}
	exporter, err := p.exporter.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.Source(), kind, err)
	}
	name := p.serviceName
	if name == "" {
		name = opts.ServiceName
	}
	attrs := append([]attribute.KeyValue{
		attribute.String("service.name", name),
		attribute.String("service.version", opts.Version),
	}, p.attributes...)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&loggedExporter{SpanExporter: exporter, logger: logger}, p.batch...),
		// What the configuration says of the service goes before what we say.
		sdktrace.WithResource(resource.NewSchemaless(attrs...)),
		sdktrace.WithSampler(forceable{p.sampler}),
	)
	logger.Info("exporting traces", zap.String("type", kind), zap.String("endpoint", p.exporter.endpoint),
		zap.String("protocol", p.exporter.protocol), zap.String("sampler", p.sampler.Description()))
	return &Tracing{provider: provider, sdk: provider, propagator: defaultPropagator()}, nil
}

// Check reads the document as Load does and connects to nothing. Errors name its source and, where there is one, the line.
func Check(c *flags.Content) error {
	_, _, err := parse(c)
	return err
}

// parse reads the document into a plan and returns the type it was written for.
func parse(c *flags.Content) (plan, string, error) {
	data, err := c.Bytes()
	if err != nil {
		return plan{}, "", err
	}
	var doc document
	if err := flags.DecodeYAML(c.Source(), data, &doc); err != nil {
		return plan{}, "", err
	}
	builders := map[string]func(source string, data []byte) (plan, error){
		typeOTLP:        built(otlpConfig.plan),
		typeJaeger:      built(jaegerConfig.plan),
		typeGoogleCloud: built(googleConfig.plan),
		typeStackdriver: built(googleConfig.plan),
		typeElasticAPM:  built(elasticConfig.plan),
		typeLightstep:   built(lightstepConfig.plan),
	}
	kind := strings.ToUpper(doc.Type)
	build, ok := builders[kind]
	if !ok {
		known := make([]string, 0, len(builders))
		for k := range builders {
			known = append(known, k)
		}
		slices.Sort(known)
		return plan{}, "", fmt.Errorf("%s: unknown tracing type %q, want one of %s", c.Source(), doc.Type, strings.Join(known, ", "))
	}
	p, err := build(c.Source(), data)
	return p, kind, err
}

// built reads the document once more with the config of its type, so that the lines in errors are
// those of the document.
func built[T any](toPlan func(T) (plan, error)) func(source string, data []byte) (plan, error) {
	return func(source string, data []byte) (plan, error) {
		var doc struct {
			Type   string `yaml:"type"`
			Config T      `yaml:"config"`
		}
		if err := flags.DecodeYAML(source, data, &doc); err != nil {
			return plan{}, err
		}
		p, err := toPlan(doc.Config)
		if err != nil {
			return plan{}, fmt.Errorf("%s: config: %w", source, err)
		}
		return p, nil
	}
}

// loggedExporter logs what the exporter could not send, at most once a minute.
type loggedExporter struct {
	sdktrace.SpanExporter
	logger *zap.Logger
	last   time.Time // only touched by ExportSpans, which the processor never calls concurrently
	lost   int
}

func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	e.lost += len(spans)
	if now := time.Now(); now.Sub(e.last) >= time.Minute {
		e.logger.Warn("send traces", zap.Int("spans_lost", e.lost), zap.Error(err))
		e.last, e.lost = now, 0
	}
	// Reported already; the processor would print it by the global handler once more.
	return nil
}
