// Package grpcapi is a ruler's gRPC surface: Info and Rules, and where it has a database, the Store
// API and Status over that.
package grpcapi

import (
	"context"
	"errors"
	"math"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/rulefilter"
	"github.com/promontory-io/promontory/libs/tsdbstore"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/ruler/internal/database"
	"github.com/promontory-io/promontory/services/ruler/internal/evaluate"
	"github.com/promontory-io/promontory/services/ruler/internal/view"
)

// componentType is how peers know a ruler.
const componentType = "rule"

// errNotReady is what peers are told while the ruler starts.
var errNotReady = errors.New("Not ready") // the text that peers know

// Rules knows the rules; *evaluate.Evaluator is one.
type Rules interface{ Groups() []evaluate.Group }

// Deps is what a server works with.
type Deps struct {
	Rules    Rules
	External labels.Labels
	// Database is nil in a ruler that has none.
	Database   *database.Database
	Ready      func() bool
	Registerer prometheus.Registerer
}

// Server answers for a ruler. It is safe for concurrent use.
type Server struct {
	deps   Deps
	limits storeapi.Limits
	store  storeapi.Store // nil without a database
}

// New returns a server whose Series answers are bounded by limits.
func New(limits storeapi.Limits, deps Deps) *Server {
	s := &Server{deps: deps, limits: limits}
	if deps.Database != nil {
		s.store = tsdbstore.New(deps.Database, func() labels.Labels { return deps.External })
	}
	return s
}

// Register adds all services to r, whose server must have been made with storeapi.ServerOption.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	info.RegisterInfoServer(r, &infoServer{deps: s.deps})
	thanos.RegisterRulesServer(r, &rulesServer{deps: s.deps})
	if s.store != nil {
		storeapi.Register(r, s.store, storeapi.ServerConfig{Limits: s.limits, Registerer: s.deps.Registerer})
		thanos.RegisterStatusServer(r, &statusServer{deps: s.deps})
	}
}

type infoServer struct {
	info.UnimplementedInfoServer
	deps Deps
}

// Info tells what this ruler has.
func (s *infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	if !s.deps.Ready() {
		return nil, errNotReady
	}
	external := storeapi.LabelSet(s.deps.External)
	out := &info.InfoResponse{ComponentType: componentType, LabelSets: []*thanos.LabelSet{external}, Rules: &info.RulesInfo{}}
	if s.deps.Database == nil {
		return out, nil
	}
	mint, err := s.deps.Database.StartTime()
	if err != nil {
		return nil, storeapi.ToStatus(err)
	}
	out.Store = &info.StoreInfo{
		MinTime: mint, MaxTime: math.MaxInt64, SupportsSharding: true, SupportsWithoutReplicaLabels: true,
		TsdbInfos: []*info.TSDBInfo{{Labels: external, MinTime: mint, MaxTime: math.MaxInt64}},
	}
	out.Status = &info.StatusInfo{}
	return out, nil
}

type rulesServer struct {
	thanos.UnimplementedRulesServer
	deps Deps
}

// Rules sends one frame per group, sorted by file and name.
func (s *rulesServer) Rules(req *thanos.RulesRequest, stream grpc.ServerStreamingServer[thanos.RulesResponse]) error {
	filter, err := rulefilter.New(req)
	if err != nil {
		return storeapi.ToStatus(err)
	}
	for _, g := range view.Groups(s.deps.Rules.Groups(), s.deps.External, filter) {
		if err := stream.Send(&thanos.RulesResponse{Result: &thanos.RulesResponse_Group{Group: g}}); err != nil {
			return err
		}
	}
	return nil
}

type statusServer struct {
	thanos.UnimplementedStatusServer
	deps Deps
}

// defaultLimit is how long lists are that the request does not bound.
const defaultLimit = 10

// TSDBStatistics tells what is in the head of the database.
func (s *statusServer) TSDBStatistics(req *thanos.TSDBStatisticsRequest, stream grpc.ServerStreamingServer[thanos.TSDBStatisticsResponse]) error {
	ms, err := storeapi.Matchers(req.GetMatchers())
	if err != nil {
		return storeapi.ToStatus(err)
	}
	rest, ok := storeapi.MatchExternal(s.deps.External, ms)
	if !ok || len(rest) > 0 {
		return nil
	}
	db, err := s.deps.Database.DB()
	if err != nil {
		return storeapi.ToStatus(err)
	}
	limit := int(req.GetLimit())
	if limit <= 0 {
		limit = defaultLimit
	}
	entry := statistics(db, limit)
	return stream.Send(&thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Statistics{
		Statistics: &thanos.TSDBStatistics{Statistics: map[string]*thanos.TSDBStatisticsEntry{"": entry}},
	}})
}

func statistics(db *tsdb.DB, limit int) *thanos.TSDBStatisticsEntry {
	stats := db.Head().Stats(labels.MetricName, limit)
	out := &thanos.TSDBStatisticsEntry{HeadStatistics: &thanos.HeadStatistics{
		NumSeries: stats.NumSeries, MinTime: stats.MinTime, MaxTime: stats.MaxTime,
		NumLabelPairs: int64(stats.IndexPostingStats.NumLabelPairs),
	}}
	p := stats.IndexPostingStats
	for _, v := range p.CardinalityMetricsStats {
		out.SeriesCountByMetricName = append(out.SeriesCountByMetricName, &thanos.Statistic{Name: v.Name, Value: v.Count})
	}
	for _, v := range p.CardinalityLabelStats {
		out.LabelValueCountByLabelName = append(out.LabelValueCountByLabelName, &thanos.Statistic{Name: v.Name, Value: v.Count})
	}
	for _, v := range p.LabelValueStats {
		out.MemoryInBytesByLabelName = append(out.MemoryInBytesByLabelName, &thanos.Statistic{Name: v.Name, Value: v.Count})
	}
	for _, v := range p.LabelValuePairsStats {
		out.SeriesCountByLabelValuePair = append(out.SeriesCountByLabelValuePair, &thanos.Statistic{Name: v.Name, Value: v.Count})
	}
	return out
}
