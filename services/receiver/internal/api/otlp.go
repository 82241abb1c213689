package api

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"
	otlptranslator "github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// errOTLP says that a body is no OTLP export request.
var errOTLP = errors.New("malformed OTLP request")

// OTLPConfig says how OTLP metrics become series.
type OTLPConfig struct {
	// TargetInfo makes a series target_info of each resource.
	TargetInfo bool
	// Promote lists resource attributes that become labels.
	Promote []string
}

type otlp struct {
	settings otlptranslator.Settings
	logger   *slog.Logger
}

func newOTLP(cfg OTLPConfig, logger *zap.Logger) *otlp {
	return &otlp{
		settings: otlptranslator.Settings{
			AddMetricSuffixes: true, DisableTargetInfo: !cfg.TargetInfo,
			PromoteResourceAttributes: otlptranslator.NewPromoteResourceAttributes(config.OTLPConfig{PromoteResourceAttributes: cfg.Promote}),
		},
		logger: logging.Slog(logger),
	}
}

// OTLP answers POST /api/v1/otlp/v1/metrics: protobuf or JSON, also gzipped, translated as Prometheus does.
func (a *API) OTLP() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.metrics.pending.Inc()
		defer a.metrics.pending.Dec()
		req, release, err := a.admit(r)
		if err != nil {
			a.refuse(w, r, req, err)
			return
		}
		if err := a.decodeOTLP(w, r, req); err != nil {
			release()
			a.refuse(w, r, req, err)
			return
		}
		a.write(w, r, req, release)
	})
}

func (a *API) decodeOTLP(w http.ResponseWriter, r *http.Request, req *request) error {
	typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || typ != "application/x-protobuf" && typ != "application/json" {
		return fmt.Errorf("%w: content type %q, application/x-protobuf or application/json is expected", remotewrite.ErrUnsupported, r.Header.Get("Content-Type"))
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "gzip" {
		return fmt.Errorf("%w: content encoding %q, gzip is expected", remotewrite.ErrUnsupported, enc)
	}
	r.Header.Set("Content-Type", typ) // the decoder compares the whole header
	r.Body = http.MaxBytesReader(w, r.Body, a.cfg.MaxBody)
	if r.Header.Get("Content-Encoding") == "gzip" {
		// Decompressed here, where what comes out can be bounded.
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return fmt.Errorf("%w: gzip: %w", errOTLP, err)
		}
		r.Body = http.MaxBytesReader(w, z, a.cfg.MaxBody*remotewrite.MaxDecodedFactor)
		r.Header.Del("Content-Encoding")
	}
	body, err := remote.DecodeOTLPWriteRequest(r)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fmt.Errorf("%w: more than %d bytes", remotewrite.ErrTooLarge, large.Limit)
	case err != nil:
		return fmt.Errorf("%w: %w", errOTLP, err)
	}
	c := &collector{index: map[string]int{}}
	conv := otlptranslator.NewPrometheusConverter(c)
	notes, err := conv.FromMetrics(r.Context(), body.Metrics(), a.otlp.settings)
	if err != nil {
		if cerr := context.Cause(r.Context()); cerr != nil {
			return cerr
		}
		// What could be translated is kept; the rest is told like a series that is refused.
		req.scratch.req.Bad = append(req.scratch.req.Bad, remotewrite.Bad{Err: fmt.Errorf("translate OTLP: %w", err), Floats: 0})
	}
	if warnings, _ := notes.AsStrings("", 0, 0); len(warnings) > 0 {
		a.otlp.logger.Debug("OTLP was translated with warnings", "warnings", warnings)
	}
	req.scratch.req.Series = append(req.scratch.req.Series, c.series...)
	req.scratch.req.Metadata = append(req.scratch.req.Metadata, c.metadata...)
	return nil
}

// collector takes what the translator makes and keeps it as series.
type collector struct {
	series   []remotewrite.Series
	index    map[string]int // of series by label bytes
	seen     map[string]bool
	metadata []remotewrite.Metadata
}

var _ otlptranslator.CombinedAppender = (*collector)(nil)

// of returns the series with these labels.
func (c *collector) of(ls labels.Labels) *remotewrite.Series {
	raw := remotewrite.AppendLabels(nil, ls)
	i, ok := c.index[string(raw)]
	if !ok {
		i = len(c.series)
		c.index[string(raw)] = i
		c.series = append(c.series, remotewrite.Series{Labels: raw})
	}
	return &c.series[i]
}

// AppendSample is part of otlptranslator.CombinedAppender.
func (c *collector) AppendSample(ls labels.Labels, meta otlptranslator.Metadata, st, t int64, v float64, es []exemplar.Exemplar) error {
	s := c.of(ls)
	s.Body = remotewrite.AppendSample(s.Body, t, v, st)
	s.Floats++
	c.exemplars(s, es)
	c.describe(meta)
	return nil
}

// AppendHistogram is part of otlptranslator.CombinedAppender.
func (c *collector) AppendHistogram(ls labels.Labels, meta otlptranslator.Metadata, st, t int64, h *histogram.Histogram, es []exemplar.Exemplar) error {
	if h == nil {
		return errors.New("the translator gave no histogram")
	}
	s := c.of(ls)
	msg := writev2.FromIntHistogram(t, h)
	msg.StartTimestamp = st
	body, err := remotewrite.AppendHistogram(s.Body, &msg)
	if err != nil {
		return err
	}
	s.Body = body
	s.Histograms++
	c.exemplars(s, es)
	c.describe(meta)
	return nil
}

func (*collector) exemplars(s *remotewrite.Series, es []exemplar.Exemplar) {
	for _, e := range es {
		s.Body = remotewrite.AppendExemplar(s.Body, e)
		s.Exemplars++
	}
}

func (c *collector) describe(m otlptranslator.Metadata) {
	if m.MetricFamilyName == "" || c.seen[m.MetricFamilyName] {
		return
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[m.MetricFamilyName] = true
	c.metadata = append(c.metadata, remotewrite.Metadata{
		Family: m.MetricFamilyName, Type: int32(writev2.FromMetadataType(m.Type)), Help: m.Help, Unit: m.Unit,
	})
}
