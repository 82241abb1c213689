package storeapi

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// Store answers the three calls of the Store API. Matchers come parsed; those on
// external labels are still among them, see [MatchExternal]. Errors are of the
// kinds of this package. Implementations are safe for concurrent use.
type Store interface {
	// Series writes the series that match, in order, see [Orderer] and [Extender].
	// shard and limit of the request are the store's to observe: [NewShard] and
	// [Writer.Full]. Frames are flushed by the caller.
	Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *Writer) error
	// LabelNames returns sorted, unique names, external ones included.
	LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error)
	// LabelValues returns sorted, unique values.
	LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error)
}

// ServerConfig is what a server adds to its store.
type ServerConfig struct {
	// Limits bound each Series answer.
	Limits Limits
	// Registerer takes the metrics that every server of the Store API has; nil is
	// none.
	Registerer prometheus.Registerer
	// OnSeries, if set, is told about each Series answer.
	OnSeries func(ctx context.Context, stats WriterStats, err error)
}

// Register serves store on r. The gRPC server must have been made with
// [ServerOption].
func Register(r grpc.ServiceRegistrar, store Store, cfg ServerConfig) {
	thanos.RegisterStoreServer(r, &server{store: store, cfg: cfg, metrics: newServerMetrics(cfg.Registerer)})
}

type server struct {
	thanos.UnimplementedStoreServer
	store   Store
	cfg     ServerConfig
	metrics *serverMetrics
}

func (s *server) Series(req *thanos.SeriesRequest, stream grpc.ServerStreamingServer[thanos.SeriesResponse]) error {
	ctx := stream.Context()
	s.metrics.pending.Inc()
	defer s.metrics.pending.Dec()
	w := newWriter(func(f *outFrame) error { return stream.SendMsg(f) }, WriterOptions{
		BatchSize: req.GetResponseBatchSize(), Limit: req.GetLimit(), Limits: s.cfg.Limits,
	})
	err := s.series(ctx, req, w)
	if err == nil {
		err = w.Flush()
	}
	s.metrics.answered(w.Stats(), s.cfg.Limits, err)
	if s.cfg.OnSeries != nil {
		s.cfg.OnSeries(ctx, w.Stats(), err)
	}
	return ToStatus(err)
}

// series calls the store. A runtime error in it costs this answer's completeness,
// which a warning says, and not the stream.
func (s *server) series(ctx context.Context, req *thanos.SeriesRequest, w *Writer) (err error) {
	ms, err := Matchers(req.GetMatchers())
	if err != nil {
		return err
	}
	if err := CheckRange(req.GetMinTime(), req.GetMaxTime()); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			re, ok := r.(runtime.Error)
			if !ok {
				panic(r) //nolint:forbidigo // not ours to answer for: it goes on to the recovery interceptor
			}
			err = w.Warning(fmt.Sprintf("runtime error while reading series: %v\n%s", re, debug.Stack()))
		}
	}()
	return s.store.Series(ctx, req, ms, w)
}

func (s *server) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest) (*thanos.LabelNamesResponse, error) {
	ms, err := Matchers(req.GetMatchers())
	if err == nil {
		err = CheckRange(req.GetStart(), req.GetEnd())
	}
	if err != nil {
		return nil, ToStatus(err)
	}
	resp, err := s.store.LabelNames(ctx, req, ms)
	if err != nil {
		return nil, ToStatus(err)
	}
	resp.Names = cut(resp.GetNames(), req.GetLimit())
	return resp, nil
}

func (s *server) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest) (*thanos.LabelValuesResponse, error) {
	ms, err := Matchers(req.GetMatchers())
	if err == nil {
		err = CheckRange(req.GetStart(), req.GetEnd())
	}
	if err != nil {
		return nil, ToStatus(err)
	}
	resp, err := s.store.LabelValues(ctx, req, ms)
	if err != nil {
		return nil, ToStatus(err)
	}
	resp.Values = cut(resp.GetValues(), req.GetLimit())
	return resp, nil
}

func cut(s []string, limit int64) []string {
	if limit > 0 && int64(len(s)) > limit {
		return s[:limit]
	}
	return s
}

// Union merges lists of strings into one that is sorted and unique.
func Union(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		out = append(out, l...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
