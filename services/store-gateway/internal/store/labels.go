package store

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// labelConcurrency is how many blocks a label request asks at once.
const labelConcurrency = 16

// labelRequest is what the two label calls have in common.
type labelRequest struct {
	s             *Store
	release       func()
	ms            []*labels.Matcher
	blockMatchers []*labels.Matcher
	mint, maxt    int64
	without       []string
	strategy      thanos.PartialResponseStrategy
	tenant        string
	ask           func(context.Context, *Block, *blockread.Query) ([]string, error)
	mu            sync.Mutex // guards all below
	lists         [][]string
	pending, held int64 // bytes of lists that are not merged yet, and of those that are
	warnings      []string
	blocks        []*Block
	stats         blockread.Stats
}

// LabelNames returns the names of the labels of the series that match.
func (s *Store) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	var hints hintspb.LabelNamesRequestHints
	if err := unpack(req.GetHints(), "LabelNamesRequestHints", &hints); err != nil {
		return nil, err
	}
	r := &labelRequest{
		s: s, release: func() {}, ms: ms, mint: req.GetStart(), maxt: req.GetEnd(), without: req.GetWithoutReplicaLabels(),
		strategy: storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy()),
		ask: func(ctx context.Context, b *Block, q *blockread.Query) ([]string, error) {
			names, err := b.LabelNames(ctx, q)
			if err != nil || len(names) == 0 {
				return nil, err
			}
			b.External.Range(func(l labels.Label) { names = append(names, l.Name) })
			return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(q.Without, n) }), nil
		},
	}
	names, any, err := r.run(ctx, hints.GetBlockMatchers(), "LabelNamesResponseHints", func(blocks []*hintspb.Block) vtMessage {
		return &hintspb.LabelNamesResponseHints{QueriedBlocks: blocks}
	})
	if err != nil {
		return nil, err
	}
	return &thanos.LabelNamesResponse{Names: names, Warnings: r.warnings, Hints: any}, nil
}

// LabelValues returns the values that a label has in the series that match.
func (s *Store) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	var hints hintspb.LabelValuesRequestHints
	if err := unpack(req.GetHints(), "LabelValuesRequestHints", &hints); err != nil {
		return nil, err
	}
	name := req.GetLabel()
	r := &labelRequest{
		s: s, release: func() {}, ms: ms, mint: req.GetStart(), maxt: req.GetEnd(), without: req.GetWithoutReplicaLabels(),
		strategy: storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy()),
		ask: func(ctx context.Context, b *Block, q *blockread.Query) ([]string, error) {
			if slices.Contains(q.Without, name) {
				return nil, nil
			}
			value := b.External.Get(name)
			if value == "" {
				return b.LabelValues(ctx, name, q)
			}
			if len(q.Matchers) > 0 {
				if found, err := b.Any(ctx, q); err != nil || !found {
					return nil, err
				}
			}
			return []string{value}, nil
		},
	}
	values, any, err := r.run(ctx, hints.GetBlockMatchers(), "LabelValuesResponseHints", func(blocks []*hintspb.Block) vtMessage {
		return &hintspb.LabelValuesResponseHints{QueriedBlocks: blocks}
	})
	if err != nil {
		return nil, err
	}
	return &thanos.LabelValuesResponse{Values: values, Warnings: r.warnings, Hints: any}, nil
}

// run asks all blocks, of any resolution, that overlap the range of time. It returns the union
// of what they say and the response hints.
func (r *labelRequest) run(ctx context.Context, hinted []*thanos.LabelMatcher, hintsName string,
	hints func([]*hintspb.Block) vtMessage,
) ([]string, *anypb.Any, error) {
	v, err := r.s.current()
	if err != nil {
		return nil, nil, err
	}
	if r.blockMatchers, err = blockMatchers(hinted); err != nil {
		return nil, nil, err
	}
	r.tenant = requestctx.TenantOrDefault(ctx)
	var ok bool
	if r.mint, r.maxt, ok = r.s.clip(r.mint, r.maxt); ok {
		defer func() { r.release() }()
		if err := r.askAll(ctx, v); err != nil {
			r.s.refused(err, r.tenant)
			return nil, nil, err
		}
	}
	slices.Sort(r.warnings)
	h, err := pack(hintsName, hints(queried(r.blocks)))
	return storeapi.Union(r.lists...), h, err
}

func (r *labelRequest) askAll(ctx context.Context, v *view) error {
	t := troubles{strategy: r.strategy, metrics: r.s.metrics, warn: func(text string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.warnings = append(r.warnings, text)
		return nil
	}}
	err := t.aside(v.aside, func(a *Aside) bool { return a.touches(r.ms, r.blockMatchers, r.mint, r.maxt, a.Resolution) })
	if err != nil {
		return err
	}
	limits := &blockread.Limits{
		Series: r.s.cfg.MaxSeries, Bytes: r.s.cfg.MaxBytes,
		OnDrop: func(reason string) { r.s.metrics.dropped.WithLabelValues(reason, r.tenant).Inc() },
	}
	memory, release, err := r.s.reserve(ctx, requestBytes+labelConcurrency*blockread.LookupBytes, r.ms)
	if err != nil {
		return err
	}
	r.release = release
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(labelConcurrency)
	for _, p := range v.parts(r.ms) {
		for _, b := range p.set.Overlapping(r.mint, r.maxt, keep(r.blockMatchers)) {
			r.blocks = append(r.blocks, b)
			q := &blockread.Query{
				Matchers: p.matchers, MinTime: r.mint, MaxTime: r.maxt, Without: r.without,
				SkipChunks: true, Tenant: r.tenant, Memory: memory, Limits: limits, Stats: &r.stats,
			}
			g.Go(func() error {
				list, err := r.ask(gctx, b, q)
				if err != nil {
					return t.read(gctx, err, fmt.Sprintf("labels of %s are incomplete", b.External))
				}
				return r.add(gctx, memory, list)
			})
		}
	}
	return g.Wait()
}

// mergeBytes is how many bytes of strings that blocks have in common are kept apart at most.
const mergeBytes = 1 << 20

// add takes what a block says. The lists of all blocks are merged now and then: mostly they say the same.
func (r *labelRequest) add(ctx context.Context, memory *blockread.Memory, list []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lists = append(r.lists, list)
	for _, s := range list {
		r.pending += int64(len(s)) + stringBytes
	}
	if r.pending < max(mergeBytes, r.held) {
		return nil
	}
	all := storeapi.Union(r.lists...)
	r.lists, r.pending = [][]string{all}, 0
	var size int64
	for _, s := range all {
		size += int64(len(s)) + stringBytes
	}
	// The list, its union with the next ones, and the encoded answer.
	if more := 3 * (size - r.held); more > 0 {
		if err := memory.Grow(ctx, more); err != nil {
			return err
		}
		r.held = size
	}
	return nil
}

// stringBytes is what a string takes besides its text.
const stringBytes = 16
