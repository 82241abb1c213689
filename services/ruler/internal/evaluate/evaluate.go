// Package evaluate runs rule groups: one of upstream's managers for each strategy about incomplete
// answers, over queriers.
//
// Around each evaluation of a group it restores and remembers alerts, lets rules read what earlier
// ones have recorded, decides whether an incomplete answer will do, and notes what was left out.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/ownwrites"
	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/services/ruler/internal/gaps"
	"github.com/promontory-io/promontory/services/ruler/internal/memory"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

// Config says how rules are evaluated.
type Config struct {
	// External are the labels that recorded series get outside, Dropped those of them that
	// tell replicas apart and that queriers remove.
	External labels.Labels
	Dropped  []string
	// Interval is that of groups that do not say theirs.
	Interval    time.Duration
	QueryOffset time.Duration
	// Concurrency is how many independent rules of a manager are evaluated at once.
	Concurrency                               int64
	ResendDelay, OutageTolerance, GracePeriod time.Duration
	// ExternalURL is for templates; never nil.
	ExternalURL *url.URL
}

// Deps is what rules are evaluated with.
type Deps struct {
	Query      *query.Client
	Appendable storage.Appendable
	Memory     *memory.Memory
	// Gaps keeps account of evaluations without result.
	Gaps *gaps.Log
	// Notify takes alerts that are to be sent.
	Notify     rules.NotifyFunc
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// Evaluator evaluates all groups.
type Evaluator struct {
	cfg      Config
	deps     Deps
	logger   *zap.Logger
	metrics  *metrics
	engine   *ownwrites.Engine
	visible  labels.Labels // external labels of recorded series as queriers show them
	set      atomic.Pointer[rulefile.Set]
	managers map[rulefile.Strategy]*rules.Manager

	// loading is held while rules are loaded.
	loading sync.Mutex
	cancel  context.CancelFunc
}

// New returns an evaluator without rules. Run starts it, and ends it when the context that it was given
// ends; ctx lends its values alone.
func New(ctx context.Context, cfg Config, deps Deps) *Evaluator {
	e := &Evaluator{
		cfg: cfg, deps: deps, logger: deps.Logger.Named("rules"), metrics: newMetrics(deps.Registerer),
		engine: ownwrites.NewEngine(query.Timeout), managers: map[rulefile.Strategy]*rules.Manager{},
	}
	b := labels.NewBuilder(cfg.External)
	b.Del(cfg.Dropped...)
	e.visible = b.Labels()
	e.set.Store(&rulefile.Set{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	for _, s := range rulefile.Strategies() {
		name := prometheus.Labels{"strategy": strings.ToLower(string(s))}
		var reg prometheus.Registerer
		if deps.Registerer != nil {
			reg = prometheus.WrapRegistererWith(name, deps.Registerer)
		}
		e.managers[s] = rules.NewManager(&rules.ManagerOptions{
			NameValidationScheme: model.UTF8Validation,
			ExternalURL:          cfg.ExternalURL,
			QueryFunc:            e.queryFunc(s),
			NotifyFunc:           deps.Notify,
			Context:              ctx,
			Appendable:           recording{deps.Appendable},
			// Alerts are restored by Memory; upstream's own way finds nothing.
			Queryable:              storage.QueryableFunc(func(int64, int64) (storage.Querier, error) { return storage.NoopQuerier(), nil }),
			Logger:                 logging.Slog(e.logger.With(zap.String("strategy", string(s)))),
			Registerer:             reg,
			OutageTolerance:        cfg.OutageTolerance,
			ForGracePeriod:         cfg.GracePeriod,
			ResendDelay:            cfg.ResendDelay,
			GroupLoader:            loader{e, s},
			DefaultRuleQueryOffset: func() time.Duration { return cfg.QueryOffset },
			MaxConcurrentEvals:     cfg.Concurrency,
			ConcurrentEvalsEnabled: cfg.Concurrency > 1,
		})
	}
	return e
}

// loader gives a manager its groups of the present set.
type loader struct {
	e        *Evaluator
	strategy rulefile.Strategy
}

func (l loader) Load(file string, ignore bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	return l.e.set.Load().Loader(l.strategy).Load(file, ignore, scheme)
}

func (l loader) Parse(expr string) (parser.Expr, error) { return parser.ParseExpr(expr) }

// Load makes set the rules to evaluate. Groups that did not change go on undisturbed.
func (e *Evaluator) Load(set *rulefile.Set) error {
	e.loading.Lock()
	defer e.loading.Unlock()
	old := e.set.Swap(set)
	var errs []error
	for _, s := range rulefile.Strategies() {
		err := e.managers[s].Update(e.cfg.Interval, set.Files(s), e.cfg.External, e.cfg.ExternalURL.String(), e.iteration(s))
		if err != nil {
			errs = append(errs, fmt.Errorf("load rules of strategy %s: %w", s, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		e.set.Store(old)
		return err
	}
	e.metrics.loaded.Reset()
	for _, g := range set.Groups {
		e.metrics.loaded.WithLabelValues(string(g.Strategy), g.File, g.Name).Set(float64(len(g.Rules)))
	}
	present := map[string]bool{}
	for _, g := range e.Groups() {
		for i, r := range g.Rules() {
			present[identity(ruleOf(g.Group, i, r))] = true
		}
	}
	e.deps.Gaps.Keep(func(r gaps.Rule) bool { return present[identity(r)] })
	return nil
}

// Run evaluates until ctx ends and the evaluations under way have ended.
func (e *Evaluator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, m := range e.managers {
		wg.Go(m.Run)
	}
	<-ctx.Done()
	e.cancel()
	for _, m := range e.managers {
		wg.Go(m.Stop)
	}
	wg.Wait()
	return nil
}

// Group is a group with what it makes of incomplete answers.
type Group struct {
	*rules.Group
	Strategy rulefile.Strategy
}

// Groups returns all groups, sorted by file and name.
func (e *Evaluator) Groups() []Group {
	var out []Group
	for s, m := range e.managers {
		for _, g := range m.RuleGroups() {
			out = append(out, Group{g, s})
		}
	}
	slices.SortFunc(out, func(a, b Group) int {
		if c := strings.Compare(a.File(), b.File()); c != 0 {
			return c
		}
		return strings.Compare(a.Name(), b.Name())
	})
	return out
}

// evaluation is what belongs to one evaluation of a group.
type evaluation struct {
	group  *rulefile.Group // nil if the group has been removed meanwhile
	writes *ownwrites.Writes
}

type evaluationKey struct{}

func evaluationOf(ctx context.Context) *evaluation {
	ev, _ := ctx.Value(evaluationKey{}).(*evaluation)
	return ev
}

// iteration is one evaluation of a group.
func (e *Evaluator) iteration(s rulefile.Strategy) rules.GroupEvalIterationFunc {
	return func(ctx context.Context, g *rules.Group, ts time.Time) {
		ctx = context.WithValue(ctx, evaluationKey{}, &evaluation{
			group: e.set.Load().Group(g.File(), g.Name()), writes: ownwrites.New(e.visible),
		})
		e.deps.Memory.Before(ctx, g, ts)
		rules.DefaultEvalIterationFunc(ctx, g, ts)
		if ctx.Err() != nil {
			return // what a stop has cut short says nothing
		}
		e.deps.Memory.After(ctx, g, ts)
		e.note(g, s, ts)
	}
}

// note keeps account of rules that could not be evaluated.
func (e *Evaluator) note(g *rules.Group, s rulefile.Strategy, ts time.Time) {
	for i, r := range g.Rules() {
		var err error
		if r.Health() == rules.HealthBad {
			if err = r.LastError(); err == nil {
				err = errors.New("unknown reason")
			}
		}
		if n := e.deps.Gaps.Note(ruleOf(g, i, r), ts, err); n > 0 {
			e.metrics.skipped.WithLabelValues(strings.ToLower(string(s))).Add(float64(n))
		}
	}
}

func ruleOf(g *rules.Group, i int, r rules.Rule) gaps.Rule {
	kind := gaps.Recording
	if _, alerting := r.(*rules.AlertingRule); alerting {
		kind = gaps.Alerting
	}
	return gaps.Rule{
		File: g.File(), Group: g.Name(), Name: r.Name(), Index: i, Type: kind, Query: r.Query().String(), Labels: r.Labels(),
		Interval: g.Interval().Seconds(), Offset: g.QueryOffset().Seconds(),
	}
}

// identity is what makes a rule the same after its files were read again.
func identity(r gaps.Rule) string {
	return strings.Join([]string{r.File, r.Group, r.Name, r.Query, r.Labels.String(), strconv.Itoa(r.Index)}, "\xff")
}

// Gaps returns the evaluations without result, sorted by rule and time.
func (e *Evaluator) Gaps() []gaps.Gap { return e.deps.Gaps.List() }

// GapsFilled forgets gaps that have been made good, and returns how many.
func (e *Evaluator) GapsFilled(filled []gaps.Gap) int { return e.deps.Gaps.Filled(filled) }

// recording lets the evaluation that an appender is for know what it commits.
type recording struct{ storage.Appendable }

func (r recording) Appender(ctx context.Context) storage.Appender {
	app := r.Appendable.Appender(ctx)
	if ev := evaluationOf(ctx); ev != nil {
		return ev.writes.Record(app)
	}
	return app
}
