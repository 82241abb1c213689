package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/sidecar/internal/promerr"
	"github.com/promontory-io/promontory/services/sidecar/internal/remoteread"
)

// distrustFor is how long all answers are sorted after one came in an order nobody foresaw.
const distrustFor = 10 * time.Minute

// errDisorder says that a series came after one that it sorts before.
var errDisorder = errors.New("series out of order")

// Series writes the series that match.
func (s *Store) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	q, err := s.query(req.GetMinTime(), req.GetMaxTime(), ms)
	if err != nil || q == nil {
		return err
	}
	if len(q.matchers) == 0 {
		return storeapi.Invalidf("no matcher is left besides those on external labels %s", q.state.External)
	}
	if q.empty() {
		return nil
	}
	a := &answer{
		s: s, w: w, extender: storeapi.NewExtender(q.state.External, req.GetWithoutReplicaLabels()),
		shard: storeapi.NewShard(req.GetShardInfo()),
	}
	if req.GetSkipChunks() {
		return a.labelSets(ctx, q)
	}
	return a.chunks(ctx, q)
}

// answer is the state of one Series call.
type answer struct {
	s        *Store
	w        *storeapi.Writer
	extender *storeapi.Extender
	shard    *storeapi.Shard

	last  labels.Labels // of the series written before
	wrote bool
}

// labelSets answers without reading a chunk.
func (a *answer) labelSets(ctx context.Context, q *query) error {
	found, warnings, err := a.s.client.Series(ctx, q.span(), 0, q.selector()...)
	if err != nil {
		return promerr.Wrap(err)
	}
	for _, text := range warnings {
		if err := a.w.Warning(text); err != nil {
			return err
		}
	}
	out := found[:0]
	for _, lset := range found {
		if lset = a.extender.Extend(lset); a.shard.Has(lset) {
			out = append(out, lset)
		}
	}
	slices.SortFunc(out, labels.Compare)
	for _, lset := range slices.CompactFunc(out, labels.Equal) {
		if a.w.Full() {
			return nil
		}
		if err := a.w.Series(lset, nil); err != nil {
			return err
		}
	}
	return nil
}

// chunks answers by remote read.
func (a *answer) chunks(ctx context.Context, q *query) error {
	// Both questions go out at once: the first is answered while Prometheus looks up the series.
	clashCtx, cancel := context.WithCancel(ctx)
	type verdict struct {
		clash bool
		err   error
	}
	asked := make(chan verdict, 1)
	go func() {
		clash, err := a.s.clash(clashCtx, q, a.extender.Affected())
		asked <- verdict{clash, err}
	}()
	stream, err := a.s.reader.Read(ctx, remoteread.Query{MinTime: q.mint, MaxTime: q.maxt, Matchers: q.matchers})
	if err != nil {
		cancel()
		<-asked
		return err
	}
	defer stream.Close()
	defer func() { a.s.frames.Observe(float64(stream.Frames())) }()
	v := <-asked
	cancel()
	if v.err != nil {
		return promerr.Wrap(v.err)
	}
	if v.clash || !stream.Ordered() {
		return a.sorted(stream)
	}
	return a.streamed(stream)
}

// next returns the next series that is wanted, under its extended label set; false at the end.
func (a *answer) next(stream *remoteread.Stream) (out storeapi.Series, ok bool) {
	for stream.Next() {
		in := stream.At()
		if len(in.Chunks) == 0 {
			continue
		}
		if lset := a.extender.Extend(in.Labels); a.shard.Has(lset) {
			return storeapi.Series{Labels: lset, Chunks: in.Chunks}, true
		}
	}
	return storeapi.Series{}, false
}

// streamed writes series as they come; a few wait for their place in the order.
func (a *answer) streamed(stream *remoteread.Stream) error {
	order := storeapi.NewOrderer(a.write)
	for !a.w.Full() {
		series, ok := a.next(stream)
		if !ok {
			if err := stream.Err(); err != nil {
				return err
			}
			return a.outOfOrder(order.Flush())
		}
		if err := order.Add(series.Labels, series.Chunks); err != nil {
			return a.outOfOrder(err)
		}
	}
	return nil
}

// write passes a series on unless that would break the order. The Orderer keeps order only
// among series that have none of the affected labels of their own, and a series that has one may have
// appeared since Prometheus said there was none. Whether its label is its own cannot be told from the
// answer, for Prometheus adds its external labels to all; so it is the result that is looked at.
func (a *answer) write(lset labels.Labels, chks []chunks.AggrChunk) error {
	if a.wrote && labels.Compare(a.last, lset) > 0 {
		return fmt.Errorf("%w: %s after %s", errDisorder, lset, a.last)
	}
	a.last, a.wrote = lset, true
	return a.w.Series(lset, chks)
}

// outOfOrder ends an answer whose order broke: what was sent cannot be taken back, and callers merge by
// order. They may ask again, and for a while all answers are sorted as a whole, whatever
// Prometheus says about its labels.
func (a *answer) outOfOrder(err error) error {
	if !errors.Is(err, errDisorder) {
		return err
	}
	a.s.distrusted.Store(time.Now().Add(distrustFor).UnixNano())
	a.s.logger.Warn("answers are sorted as a whole for a while", zap.Duration("for", distrustFor), zap.Error(err))
	return storeapi.Unavailablef("a series with an external or replica label of its own appeared while Prometheus at %s was read; ask again: %v",
		a.s.client.BaseURL().Redacted(), err)
}

// Memory that a held series and each of its chunks take beside their bytes.
const (
	seriesOverhead = int64(unsafe.Sizeof(storeapi.Series{})) + 64
	chunkOverhead  = int64(unsafe.Sizeof(chunks.AggrChunk{})) + 32
)

// sorted holds the whole answer, encoded as it came, sorts it, and writes it. All such answers
// together are bounded; one that goes over is refused with the numbers.
func (a *answer) sorted(stream *remoteread.Stream) error {
	var held int64
	defer func() { a.s.held.Add(-held) }()
	var all []storeapi.Series
	for {
		series, ok := a.next(stream)
		if !ok {
			break
		}
		size := seriesOverhead + int64(series.Labels.ByteSize())
		for i := range series.Chunks {
			size += chunkOverhead + int64(len(series.Chunks[i].Raw.Data))
		}
		held += size
		if total := a.s.held.Add(size); total > a.s.cfg.MaxHeldBytes {
			return storeapi.Limitf("series with labels of their own under %v have to be sorted in memory: this answer holds %d bytes after %d series, "+
				"all such answers hold %d and may hold %d; select fewer series or a shorter range",
				a.extender.Affected(), held, len(all)+1, total, a.s.cfg.MaxHeldBytes)
		}
		all = append(all, series)
	}
	if err := stream.Err(); err != nil {
		return err
	}
	// Stable: the parts of a series stay in the order of their chunks.
	slices.SortStableFunc(all, func(x, y storeapi.Series) int { return labels.Compare(x.Labels, y.Labels) })
	for i := range all {
		if a.w.Full() {
			return nil
		}
		if err := a.w.Series(all[i].Labels, all[i].Chunks); err != nil {
			return err
		}
	}
	return nil
}
