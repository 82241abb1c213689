package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	thanosengine "github.com/thanos-io/promql-engine/engine"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/distributed"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

// Modes.
const (
	ModeLocal       = "local"
	ModeDistributed = "distributed"
)

// Distribution is how queries are evaluated by peers.
type Distribution struct {
	distributed.Config
	// Endpoints are the peers.
	Endpoints endpoints.Source
}

// distributor evaluates queries by peers where that gives the same answer.
type distributor struct {
	cfg    Distribution
	engine *thanosengine.DistributedEngine
	logger *slog.Logger
	// outcomes counts queries by where they were evaluated.
	remote, local prometheus.Counter
}

func newDistributor(cfg Distribution, opts thanosengine.Opts, reg prometheus.Registerer) *distributor {
	queries := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "promontory_querier_distributed_queries_total",
		Help: "Queries in distributed mode, by where they were evaluated: remote, or local where distributing would change the answer.",
	}, []string{"evaluated"})
	return &distributor{
		cfg: cfg, engine: thanosengine.NewDistributedEngine(opts), logger: opts.Logger,
		remote: queries.WithLabelValues("remote"), local: queries.WithLabelValues("local"),
	}
}

// query prepares spec over the peers; nil says that it has to run here.
func (d *distributor) query(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec, opts promql.QueryOpts) (promql.Query, error) {
	if d == nil || spec.Remote == nil {
		return nil, nil
	}
	partitions, err := distributed.Plan(d.cfg.Endpoints.Endpoints(), d.cfg.Config, distributed.Query{
		Start: spec.Start, End: spec.End, Step: spec.Step, Lookback: opts.LookbackDelta().Truncate(time.Millisecond),
		ReplicaLabels: spec.Remote.ReplicaLabels,
	})
	if err != nil {
		d.logger.Debug("query is evaluated here", "reason", err.Error())
		d.local.Inc()
		return nil, nil
	}
	engines := distributed.Engines(partitions, distributed.Options{
		ReplicaLabels: spec.Remote.ReplicaLabels, PartialResponse: spec.Remote.PartialResponse, MaxSourceResolution: spec.MaxSourceResolution,
	})
	var query promql.Query
	if spec.Step > 0 {
		query, err = d.engine.MakeRangeQuery(ctx, q, engines, opts, spec.Text, spec.Start, spec.End, spec.Step)
	} else {
		query, err = d.engine.MakeInstantQuery(ctx, q, engines, opts, spec.Text, spec.Start)
	}
	if thanosengine.IsUnimplemented(err) {
		d.local.Inc()
		return nil, nil
	}
	if err == nil {
		d.remote.Inc()
	}
	return query, err
}

// thanosOptions are those of promql-engine; mode and engine label its metrics.
func (e *Engines) thanosOptions(logger *slog.Logger, reg prometheus.Registerer, mode string) thanosengine.Opts {
	return thanosengine.Opts{
		EngineOpts:       e.options(logger, reg, promapi.EngineThanos, mode),
		EnableXFunctions: e.cfg.XFunctions,
		EnableAnalysis:   true,
	}
}
