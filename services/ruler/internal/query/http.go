package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// HTTPOptions is how queriers are asked over HTTP.
type HTTPOptions struct {
	Client *http.Client
	// ByGET asks by GET, else by POST.
	ByGET bool
	// OnlyPrometheusParams leaves out what a Prometheus does not know. Whether an answer is complete is
	// then for the server to decide.
	OnlyPrometheusParams bool
	// Excuse tells which missing parts make no difference to an expression; nil for none.
	Excuse func(ctx context.Context, expr string, m Missing) bool
}

type httpTarget struct {
	client *promclient.Client
	name   string
	plain  bool
	excuse func(ctx context.Context, expr string, m Missing) bool
}

// NewHTTP returns the querier at a base URL.
func NewHTTP(base *url.URL, opts HTTPOptions) Target {
	return &httpTarget{
		client: promclient.New(base, promclient.Options{HTTP: opts.Client, QueryByGET: opts.ByGET}),
		name:   base.Redacted(), plain: opts.OnlyPrometheusParams, excuse: opts.Excuse,
	}
}

func (h *httpTarget) Name() string { return h.name }

// Query asks the querier. That a replica stands in for a store that is missing is no reason to have no answer: where it
// refuses an answer that is not complete it is asked what is missing.
func (h *httpTarget) Query(ctx context.Context, expr string, t time.Time, partial bool) (Answer, error) {
	answer, err := h.ask(ctx, expr, t, partial)
	if err == nil || partial || h.plain || ctx.Err() != nil {
		return answer, err
	}
	if e := (*promclient.Error)(nil); !errors.As(err, &e) || e.Kind != promclient.Execution {
		return answer, err
	}
	if second, otherwise := h.ask(ctx, expr, t, true); otherwise == nil && second.Receipt.whole() {
		return second, nil
	}
	return answer, err
}

func (h *httpTarget) ask(ctx context.Context, expr string, t time.Time, partial bool) (Answer, error) {
	params := url.Values{}
	if !h.plain {
		params.Set("dedup", "true")
		params.Set("partial_response", fmt.Sprint(partial))
		params.Set("explain", "false")
		params.Set("analyze", "false")
		// Only queriers of ours know this one.
		params.Set("receipt", "true")
	}
	result, err := h.client.Query(ctx, expr, t, params)
	if err != nil {
		if e := (*promclient.Error)(nil); errors.As(err, &e) && e.Kind == promclient.Invalid {
			err = fmt.Errorf("%w: %w", errInvalid, err)
		}
		return Answer{}, err
	}
	value, err := fromModel(result.Value)
	receipt := parseReceipt(result.Receipt)
	if h.excuse != nil {
		receipt.excuse(func(m Missing) bool { return h.excuse(ctx, expr, m) })
	}
	return Answer{Value: value, Warnings: result.Warnings, Receipt: receipt}, err
}

// fromModel translates a value as JSON has it.
func fromModel(v model.Value) (parser.Value, error) {
	switch v := v.(type) {
	case *model.Scalar:
		return promql.Scalar{T: int64(v.Timestamp), V: float64(v.Value)}, nil
	case *model.String:
		return promql.String{T: int64(v.Timestamp), V: v.Value}, nil
	case model.Vector:
		out := make(promql.Vector, 0, len(v))
		for _, s := range v {
			sample := promql.Sample{Metric: fromMetric(s.Metric), T: int64(s.Timestamp), F: float64(s.Value)}
			if s.Histogram != nil {
				h, err := fromHistogram(s.Histogram)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", sample.Metric, err)
				}
				sample.H, sample.F = h, 0
			}
			out = append(out, sample)
		}
		return out, nil
	case model.Matrix:
		out := make(promql.Matrix, 0, len(v))
		for _, s := range v {
			series := promql.Series{Metric: fromMetric(s.Metric)}
			for _, p := range s.Values {
				series.Floats = append(series.Floats, promql.FPoint{T: int64(p.Timestamp), F: float64(p.Value)})
			}
			for _, p := range s.Histograms {
				h, err := fromHistogram(p.Histogram)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", series.Metric, err)
				}
				series.Histograms = append(series.Histograms, promql.HPoint{T: int64(p.Timestamp), H: h})
			}
			out = append(out, series)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("unknown kind of result %T", v)
	}
}

func fromHistogram(in *model.SampleHistogram) (*histogram.FloatHistogram, error) {
	h, err := promclient.FloatHistogram(in)
	if errors.Is(err, promclient.ErrCustomBuckets) {
		err = fmt.Errorf("%w; ask queriers by --grpc-query-endpoint", err)
	}
	return h, err
}

func fromMetric(m model.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(m))
	for name, value := range m {
		b.Add(string(name), string(value))
	}
	b.Sort()
	return b.Labels()
}
