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

	"github.com/promontory-io/promontory/services/ruler/internal/peers"
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
	// Missing are warnings that something is missing, remarks of PromQL left out. What replicas have given is not
	// missing.
	Missing []string
	// Receipt says what is missing in detail; nil where the querier does not tell.
	Receipt *Receipt
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
	Query(ctx context.Context, expr string, t time.Time, partial bool) (Answer, error)
}

// Answer is what a querier says.
type Answer struct {
	Value    parser.Value
	Warnings []string
	Receipt  *Receipt // nil if it has none
}

// Client asks one of several queriers. It is safe for concurrent use.
type Client struct {
	targets func() []Target
	logger  *zap.Logger
	record  peers.Record

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
		answer, err := c.ask(ctx, target, expr, t, partial)
		c.note(ctx, target, err)
		if err == nil {
			c.mark(target, time.Time{})
			result := Result{Value: answer.Value, Missing: missing(answer.Warnings), Receipt: answer.Receipt, From: target.Name()}
			if r := answer.Receipt; r != nil && r.Coverage == Covered {
				result.Missing = nil
			}
			return result, nil
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

func (c *Client) ask(ctx context.Context, target Target, expr string, t time.Time, partial bool) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return target.Query(ctx, expr, t, partial)
}

// note keeps account of a querier. That a query was cut off, or makes no sense, says nothing about it.
func (c *Client) note(ctx context.Context, target Target, err error) {
	if err == nil || ctx.Err() == nil && !errors.Is(err, errInvalid) {
		c.record.Note(target.Name(), time.Now(), err)
	}
}

// Contacts returns how the queriers that are known now were the last times they were asked.
func (c *Client) Contacts() []peers.Contact {
	var names []string
	for _, t := range c.targets() {
		names = append(names, t.Name())
	}
	return c.record.List(names)
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
