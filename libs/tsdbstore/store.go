// Package tsdbstore serves the Store API over a Prometheus TSDB, for processes
// that hold one: receiver and ruler.
//
// Chunks go from the TSDB into frames as they lie there. Series come in the TSDB's
// order and are brought into that of their extended label sets while they stream;
// only a TSDB whose own labels clash with external or replica labels has to sort
// its label sets first.
package tsdbstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	tsdbchunks "github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// TSDB is what the store needs of a *tsdb.DB.
type TSDB interface {
	storage.ChunkQueryable
	// StartTime is the time of the oldest sample, Unix milliseconds.
	StartTime() (int64, error)
}

// Store answers from one TSDB. It is safe for concurrent use.
type Store struct {
	db       TSDB
	external func() labels.Labels
}

var _ storeapi.Store = (*Store)(nil)

// New returns a store over db, which stays the caller's. external gives the
// external labels; it is asked once a call.
func New(db TSDB, external func() labels.Labels) *Store {
	return &Store{db: db, external: external}
}

// External is the current external label set.
func (s *Store) External() labels.Labels { return s.external() }

// MinTime is the time of the oldest sample, Unix milliseconds.
func (s *Store) MinTime() (int64, error) { return s.db.StartTime() }

// Series writes the series that match.
func (s *Store) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	ext := s.external()
	rest, ok := storeapi.MatchExternal(ext, ms)
	if !ok {
		return nil
	}
	if len(rest) == 0 {
		return storeapi.Invalidf("no matcher is left besides those on external labels %s", ext)
	}
	q, err := s.db.ChunkQuerier(req.GetMinTime(), req.GetMaxTime())
	if err != nil {
		return fmt.Errorf("open querier: %w", err)
	}
	defer q.Close() //nolint:errcheck // read side

	ans := &answer{
		req: req, w: w, extender: storeapi.NewExtender(ext, req.GetWithoutReplicaLabels()),
		shard: storeapi.NewShard(req.GetShardInfo()),
	}
	hints := &storage.SelectHints{Start: req.GetMinTime(), End: req.GetMaxTime(), DisableTrimming: true}
	if req.GetSkipChunks() {
		hints.Func = "series" // the TSDB then leaves chunks alone
	}
	clash, err := hasAny(ctx, q, ans.extender.Affected())
	if err != nil {
		return err
	}
	set := q.Select(ctx, true, hints, rest...)
	if clash {
		return ans.sorted(set)
	}
	return ans.streamed(set)
}

// hasAny reports whether a label name is in use in the querier's range.
func hasAny(ctx context.Context, q storage.LabelQuerier, names []string) (bool, error) {
	for _, n := range names {
		values, _, err := q.LabelValues(ctx, n, &storage.LabelHints{Limit: 1})
		if err != nil {
			return false, fmt.Errorf("look up label %q: %w", n, err)
		}
		if len(values) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// answer is the state of one Series call.
type answer struct {
	req      *thanos.SeriesRequest
	w        *storeapi.Writer
	extender *storeapi.Extender
	shard    *storeapi.Shard
	iter     tsdbchunks.Iterator
	free     [][]chunks.AggrChunk
}

// streamed writes series as they come; a few wait for their place in the order.
func (a *answer) streamed(set storage.ChunkSeriesSet) error {
	order := storeapi.NewOrderer(a.write)
	for set.Next() && !a.w.Full() {
		lset := a.extender.Extend(set.At().Labels())
		if !a.shard.Has(lset) {
			continue
		}
		chks, err := a.chunks(set.At())
		if err != nil {
			return fmt.Errorf("read chunks of %s: %w", lset, err)
		}
		if err := order.Add(lset, chks); err != nil {
			return err
		}
	}
	if err := set.Err(); err != nil {
		return fmt.Errorf("select series: %w", err)
	}
	return order.Flush()
}

// sorted writes series whose new label sets are in another order altogether. Label
// sets are held, chunks are read when their series' turn comes.
func (a *answer) sorted(set storage.ChunkSeriesSet) error {
	type entry struct {
		lset   labels.Labels
		series storage.ChunkSeries
	}
	var entries []entry
	for set.Next() {
		if lset := a.extender.Extend(set.At().Labels()); a.shard.Has(lset) {
			entries = append(entries, entry{lset, set.At()})
		}
	}
	if err := set.Err(); err != nil {
		return fmt.Errorf("select series: %w", err)
	}
	slices.SortStableFunc(entries, func(x, y entry) int { return labels.Compare(x.lset, y.lset) })
	for _, e := range entries {
		if a.w.Full() {
			break
		}
		chks, err := a.chunks(e.series)
		if err != nil {
			return fmt.Errorf("read chunks of %s: %w", e.lset, err)
		}
		if err := a.write(e.lset, chks); err != nil {
			return err
		}
	}
	return nil
}

// chunks returns the chunks of a series in a slice that write takes back.
func (a *answer) chunks(s storage.ChunkSeries) ([]chunks.AggrChunk, error) {
	if a.req.GetSkipChunks() {
		return nil, nil
	}
	var out []chunks.AggrChunk
	if n := len(a.free); n > 0 {
		out, a.free = a.free[n-1][:0], a.free[:n-1]
	}
	a.iter = s.Iterator(a.iter)
	for a.iter.Next() {
		m := a.iter.At()
		out = append(out, chunks.AggrChunk{
			MinTime: m.MinTime, MaxTime: m.MaxTime,
			Raw: chunks.Chunk{Encoding: m.Chunk.Encoding(), Data: m.Chunk.Bytes()},
		})
	}
	return out, a.iter.Err()
}

func (a *answer) write(lset labels.Labels, chks []chunks.AggrChunk) error {
	if len(chks) == 0 && !a.req.GetSkipChunks() {
		return nil // all samples in range were deleted
	}
	err := a.w.Series(lset, chks)
	if cap(chks) > 0 {
		a.free = append(a.free, chks)
	}
	return err
}

// LabelNames returns the names of the TSDB and of the external labels.
func (s *Store) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	resp := &thanos.LabelNamesResponse{}
	ext := s.external()
	rest, ok := storeapi.MatchExternal(ext, ms)
	if !ok {
		return resp, nil
	}
	q, err := s.db.ChunkQuerier(req.GetStart(), req.GetEnd())
	if err != nil {
		return nil, fmt.Errorf("open querier: %w", err)
	}
	defer q.Close() //nolint:errcheck // read side
	names, _, err := q.LabelNames(ctx, nil, rest...)
	if err != nil {
		return nil, fmt.Errorf("label names: %w", err)
	}
	if len(names) == 0 {
		return resp, nil
	}
	var extNames []string
	ext.Range(func(l labels.Label) { extNames = append(extNames, l.Name) })
	resp.Names = slices.DeleteFunc(storeapi.Union(cloneAll(names), extNames), func(n string) bool {
		return slices.Contains(req.GetWithoutReplicaLabels(), n)
	})
	return resp, nil
}

// LabelValues returns the values of a label; an external one has a single value.
func (s *Store) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	resp := &thanos.LabelValuesResponse{}
	ext := s.external()
	rest, ok := storeapi.MatchExternal(ext, ms)
	if !ok || req.GetLabel() == "" || slices.Contains(req.GetWithoutReplicaLabels(), req.GetLabel()) {
		return resp, nil
	}
	q, err := s.db.ChunkQuerier(req.GetStart(), req.GetEnd())
	if err != nil {
		return nil, fmt.Errorf("open querier: %w", err)
	}
	defer q.Close() //nolint:errcheck // read side
	if value := ext.Get(req.GetLabel()); value != "" {
		// Only a TSDB with a matching series has anything under its external labels.
		names, _, err := q.LabelNames(ctx, &storage.LabelHints{Limit: 1}, rest...)
		if err != nil {
			return nil, fmt.Errorf("label values of %q: %w", req.GetLabel(), err)
		}
		if len(names) > 0 {
			resp.Values = []string{value}
		}
		return resp, nil
	}
	values, _, err := q.LabelValues(ctx, req.GetLabel(), nil, rest...)
	if err != nil {
		return nil, fmt.Errorf("label values of %q: %w", req.GetLabel(), err)
	}
	resp.Values = storeapi.Union(cloneAll(values))
	return resp, nil
}

// cloneAll copies strings that may live in a mapped index, which the answer
// outlives.
func cloneAll(list []string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = strings.Clone(v)
	}
	return out
}
