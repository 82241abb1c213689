package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/storeapi"
	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// batchSize is how many series a querier sends at once.
const batchSize = 64

type grpcTarget struct {
	client thanos.QueryClient
	name   string
}

// NewGRPC returns the querier at the end of a connection, which stays the caller's.
func NewGRPC(name string, conn grpc.ClientConnInterface) Target {
	return &grpcTarget{client: thanos.NewQueryClient(conn), name: name}
}

func (g *grpcTarget) Name() string { return g.name }

func (g *grpcTarget) Query(ctx context.Context, expr string, t time.Time, partial bool) (Answer, error) {
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream where it is left early
	defer cancel()
	stream, err := g.client.Query(ctx, &thanos.QueryRequest{
		Query: expr, TimeSeconds: t.Unix(), EnableDedup: true, EnablePartialResponse: partial, ResponseBatchSize: batchSize,
	})
	if err != nil {
		return Answer{}, err
	}
	var (
		series   []*prometheuscopy.TimeSeries
		warnings []string
		whole    bool
	)
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if status.Code(err) == codes.InvalidArgument {
				err = fmt.Errorf("%w: %w", errInvalid, err)
			}
			return Answer{}, err
		}
		switch {
		case frame.GetTimeseries() != nil:
			series = append(series, frame.GetTimeseries())
		case frame.GetTimeseriesBatch() != nil:
			series = append(series, frame.GetTimeseriesBatch().GetSeries()...)
		case frame.GetStats() != nil:
			whole = true
		case frame.GetWarnings() != "":
			warnings = append(warnings, frame.GetWarnings())
		}
	}
	if !whole && len(series) == 0 && len(warnings) > 0 {
		// With partial responses a failure comes as a warning, and without the statistics at the end.
		return Answer{}, errors.New(warnings[len(warnings)-1])
	}
	return Answer{Value: fromSeries(series, parsed.Type()), Warnings: warnings}, nil
}

// fromSeries makes a value of the type that the expression has.
func fromSeries(series []*prometheuscopy.TimeSeries, typ parser.ValueType) parser.Value {
	if typ == parser.ValueTypeMatrix {
		out := make(promql.Matrix, 0, len(series))
		for _, s := range series {
			one := promql.Series{Metric: fromWireLabels(s.GetLabels())}
			for _, p := range s.GetSamples() {
				one.Floats = append(one.Floats, promql.FPoint{T: p.GetTimestamp(), F: p.GetValue()})
			}
			for _, p := range s.GetHistograms() {
				one.Histograms = append(one.Histograms, promql.HPoint{T: p.GetTimestamp(), H: storeapi.FloatHistogram(p)})
			}
			out = append(out, one)
		}
		return out
	}
	out := make(promql.Vector, 0, len(series))
	for _, s := range series {
		lset := fromWireLabels(s.GetLabels())
		for _, p := range s.GetSamples() {
			out = append(out, promql.Sample{Metric: lset, T: p.GetTimestamp(), F: p.GetValue()})
		}
		for _, p := range s.GetHistograms() {
			out = append(out, promql.Sample{Metric: lset, T: p.GetTimestamp(), H: storeapi.FloatHistogram(p)})
		}
	}
	if typ == parser.ValueTypeScalar && len(out) == 1 {
		return promql.Scalar{T: out[0].T, V: out[0].F}
	}
	return out
}

func fromWireLabels(in []*prometheuscopy.Label) labels.Labels {
	b := labels.NewScratchBuilder(len(in))
	for _, l := range in {
		b.Add(l.GetName(), l.GetValue())
	}
	b.Sort()
	return b.Labels()
}
