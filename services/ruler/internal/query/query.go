// Package query evaluates PromQL by asking queriers, over HTTP or gRPC.
//
// One querier is asked, picked at random; when it fails the others are, those last that failed a
// moment ago. An expression that is wrong is wrong everywhere and is asked once.
package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/zap"
)

// Timeout bounds one query to one querier: longer than a querier's own default, so that it is the
// querier that says what took too long.
const Timeout = 150 * time.Second

// avoidFor is how long a querier that failed is asked after the others.
const avoidFor = 30 * time.Second

// ErrNoQuerier tells that there is nobody to ask.
var ErrNoQuerier = errors.New("no querier is known")

// errInvalid marks an answer that every querier would give.
var errInvalid = errors.New("query is not valid")

// Result is the answer of a querier.
type Result struct {
	// Value is a promql.Vector, Matrix, Scalar or String.
	Value parser.Value
	// Missing are warnings that something is missing, remarks of PromQL left out.
	Missing []string
	// From names the querier.
	From string
}

// Vector returns a vector or scalar as a vector with all samples at t, which is the time asked about,
// while a querier may have it less exactly.
func (r Result) Vector(t time.Time) (promql.Vector, error) {
	switch v := r.Value.(type) {
	case promql.Vector:
		for i := range v {
			v[i].T = t.UnixMilli()
		}
		return v, nil
	case promql.Scalar:
		return promql.Vector{{T: t.UnixMilli(), F: v.V}}, nil
	default:
		return nil, fmt.Errorf("result is a %s, where a rule needs a vector or scalar", r.Value.Type())
	}
}

// Target is one querier.
type Target interface {
	// Name is unique.
	Name() string
	// Query evaluates expr at t. Without partial, an answer from which a store is missing is an error.
	Query(ctx context.Context, expr string, t time.Time, partial bool) (parser.Value, []string, error)
}

// Client asks one of several queriers. It is safe for concurrent use.
type Client struct {
	targets func() []Target
	logger  *zap.Logger

	mu    sync.Mutex
	avoid map[string]time.Time // guarded by mu
}

// New returns a client of the queriers that targets returns at the time of a query.
func New(targets func() []Target, logger *zap.Logger) *Client {
	return &Client{targets: targets, logger: logger.Named("query"), avoid: map[string]time.Time{}}
}

// Query evaluates expr at t. Without partial, an answer from which something is missing is an error. The
// error names each querier that was asked.
func (c *Client) Query(ctx context.Context, expr string, t time.Time, partial bool) (Result, error) {
	targets := c.order(time.Now())
	if len(targets) == 0 {
		return Result{}, ErrNoQuerier
	}
	var errs []error
	for _, target := range targets {
		value, warnings, err := c.ask(ctx, target, expr, t, partial)
		if err == nil {
			c.mark(target, time.Time{})
			return Result{Value: value, Missing: missing(warnings), From: target.Name()}, nil
		}
		errs = append(errs, fmt.Errorf("query %s: %w", target.Name(), err))
		if ctx.Err() != nil || errors.Is(err, errInvalid) {
			break
		}
		c.mark(target, time.Now().Add(avoidFor))
	}
	if len(errs) > 1 {
		c.logger.Debug("no querier could answer", zap.Int("asked", len(errs)))
	}
	return Result{}, errors.Join(errs...)
}

func (c *Client) ask(ctx context.Context, target Target, expr string, t time.Time, partial bool) (parser.Value, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return target.Query(ctx, expr, t, partial)
}

// order shuffles the targets, with those to avoid at the end.
func (c *Client) order(now time.Time) []Target {
	targets := slices.Clone(c.targets())
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[string]time.Time{}
	for _, t := range targets {
		if until, ok := c.avoid[t.Name()]; ok && until.After(now) {
			known[t.Name()] = until
		}
	}
	c.avoid = known
	slices.SortStableFunc(targets, func(a, b Target) int { return known[a.Name()].Compare(known[b.Name()]) })
	return targets
}

func (c *Client) mark(t Target, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.IsZero() {
		delete(c.avoid, t.Name())
		return
	}
	c.avoid[t.Name()] = until
}

// missing leaves out what PromQL remarks about the query itself.
func missing(warnings []string) []string {
	return slices.DeleteFunc(slices.Clone(warnings), func(w string) bool {
		return strings.HasPrefix(w, "PromQL warning:") || strings.HasPrefix(w, "PromQL info:")
	})
}
