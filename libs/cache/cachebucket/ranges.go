package cachebucket

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// windowBytes is how much of a range is held at once. Larger ones are read window by window.
const windowBytes = 4 << 20

// piece is an aligned part of an object.
type piece struct {
	start, end int64
	key        string
	value      []byte
	flight     *flight // of who reads it
	mine       bool
}

// GetRange reads a part of an object; those of chunk files are put together from pieces in the cache and in the bucket.
func (b *Bucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if !isChunkFile(name) || off < 0 || length <= 0 {
		return b.Bucket.GetRange(ctx, name, off, length)
	}
	size, err := b.size(ctx, name, off+length)
	if err != nil || off >= size {
		// The bucket says best what is wrong.
		return b.Bucket.GetRange(ctx, name, off, length)
	}
	end := min(off+length, size)
	b.metrics.requested.WithLabelValues(kindChunks).Add(float64(end - off))
	r := &rangeReader{ctx: ctx, b: b, name: name, pos: off, end: end, size: size}
	// Errors come out here where they can, as they do without a cache.
	if err := r.fill(); err != nil {
		return nil, err
	}
	return r, nil
}

// size returns the size of an object. A cached one that is less than what is wanted is not believed.
func (b *Bucket) size(ctx context.Context, name string, want int64) (int64, error) {
	if value, ok := b.sizes.Get(name); ok {
		if size, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			return size, nil
		}
	}
	attrs, err := b.Attributes(ctx, name)
	if err == nil && want > attrs.Size {
		attrs, err = b.freshAttributes(ctx, name)
	}
	return attrs.Size, err
}

// rangeReader reads a range window by window.
type rangeReader struct {
	ctx    context.Context //nolint:containedctx // that of the GetRange whose answer this is
	b      *Bucket
	name   string
	pos    int64 // where the window after the present one begins
	end    int64
	size   int64
	window [][]byte      // what is left of the present one
	direct io.ReadCloser // the rest from the bucket, where pieces did not work out
}

var _ io.ReadCloser = (*rangeReader)(nil)

func (r *rangeReader) Read(p []byte) (int, error) {
	for {
		if r.direct != nil {
			return r.direct.Read(p)
		}
		if len(p) == 0 {
			return 0, nil
		}
		if len(r.window) > 0 {
			n := copy(p, r.window[0])
			if r.window[0] = r.window[0][n:]; len(r.window[0]) == 0 {
				r.window = r.window[1:]
			}
			return n, nil
		}
		if r.pos >= r.end {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

func (r *rangeReader) Close() error {
	r.window, r.pos = nil, r.end
	if r.direct != nil {
		return r.direct.Close()
	}
	return nil
}

// fill brings the next window, or gives the rest to the bucket alone.
func (r *rangeReader) fill() error {
	step := r.b.cfg.ChunkSubrangeSize
	first := r.pos / step * step
	last := min(r.end, first+windowBytes/step*step)
	pieces := cut(r.name, first, last, r.size, step)
	if err := r.b.load(r.ctx, r.name, pieces); err != nil {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		r.b.logger.Debug("reading without the cache", zap.String("object", r.name), zap.Error(err))
		direct, err := r.b.Bucket.GetRange(r.ctx, r.name, r.pos, r.end-r.pos)
		if err != nil {
			return err
		}
		r.direct = direct
		return nil
	}
	for _, p := range pieces {
		from, to := max(r.pos, p.start), min(last, p.end)
		if from < to {
			r.window = append(r.window, p.value[from-p.start:to-p.start])
		}
	}
	r.pos = last
	return nil
}

// cut returns the pieces of the object from first, which is aligned, up to last.
func cut(name string, first, last, size, step int64) []piece {
	pieces := make([]piece, 0, (last-first+step-1)/step)
	for start := first; start < last; start += step {
		end := min(start+step, size)
		key := make([]byte, 0, len("subrange:")+len(name)+2*(1+19))
		key = append(append(append(key, "subrange:"...), name...), ':')
		key = append(strconv.AppendInt(key, start, 10), ':')
		pieces = append(pieces, piece{start: start, end: end, key: string(strconv.AppendInt(key, end, 10))})
	}
	return pieces
}

// load fills in the values of pieces.
func (b *Bucket) load(ctx context.Context, name string, pieces []piece) error {
	keys := make([]string, len(pieces))
	for i := range pieces {
		keys[i] = pieces[i].key
	}
	var total, had int64
	for i, value := range b.cache.Get(ctx, keys) {
		p := &pieces[i]
		total += p.end - p.start
		if value != nil && int64(len(value)) == p.end-p.start {
			p.value = value
			had += p.end - p.start
		}
	}
	b.metrics.asked(objstore.OpGetRange, kindChunks, float64(had)/float64(total))
	b.metrics.fetched.WithLabelValues(fromCache, kindChunks).Add(float64(had))
	if had == total {
		return nil
	}
	if err := b.fetchMine(ctx, name, pieces); err != nil {
		return err
	}
	return b.awaitOthers(ctx, name, pieces)
}

// fetchMine reads the missing pieces that nobody else is reading.
func (b *Bucket) fetchMine(ctx context.Context, name string, pieces []piece) error {
	for i := range pieces {
		if p := &pieces[i]; p.value == nil {
			p.flight, p.mine = b.flights.join(p.key)
		}
	}
	// Nobody must be left waiting, whatever happens.
	defer func() {
		for i := range pieces {
			if p := &pieces[i]; p.mine {
				b.flights.land(p.key, p.flight, p.value)
				p.mine = false
			}
		}
	}()
	return b.fetchMissing(ctx, name, pieces, func(p *piece) bool { return p.mine })
}

// awaitOthers takes what others have read, and reads what came to nothing there.
func (b *Bucket) awaitOthers(ctx context.Context, name string, pieces []piece) error {
	left := false
	for i := range pieces {
		p := &pieces[i]
		if p.value != nil {
			continue
		}
		select {
		case <-p.flight.done:
			p.value = p.flight.value
			left = left || p.value == nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !left {
		return nil
	}
	return b.fetchMissing(ctx, name, pieces, func(p *piece) bool { return p.value == nil })
}

// span is pieces first to last-1, read by one request.
type span struct{ first, last int }

func (b *Bucket) fetchMissing(ctx context.Context, name string, pieces []piece, wanted func(*piece) bool) error {
	spans := plan(pieces, b.cfg.MaxChunksGetRangeRequests, wanted)
	if len(spans) == 1 {
		return b.fetchSpan(ctx, name, pieces[spans[0].first:spans[0].last], wanted)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxRequestsAtOnce)
	for _, s := range spans {
		g.Go(func() error { return b.fetchSpan(ctx, name, pieces[s.first:s.last], wanted) })
	}
	return g.Wait()
}

// maxRequestsAtOnce is for configurations that do not bound the requests for one range.
const maxRequestsAtOnce = 16

// plan joins wanted pieces that touch, and then across the smallest gaps until there are no more than most requests.
func plan(pieces []piece, most int, wanted func(*piece) bool) []span {
	var spans []span
	for i := range pieces {
		switch {
		case !wanted(&pieces[i]):
		case len(spans) > 0 && spans[len(spans)-1].last == i:
			spans[len(spans)-1].last = i + 1
		default:
			spans = append(spans, span{i, i + 1})
		}
	}
	if most <= 0 || len(spans) <= most {
		return spans
	}
	gaps := make([]int, len(spans)-1) // gap i lies before span i+1
	for i := range gaps {
		gaps[i] = i
	}
	slices.SortStableFunc(gaps, func(x, y int) int {
		return cmp.Compare(spans[x+1].first-spans[x].last, spans[y+1].first-spans[y].last)
	})
	closed := make([]bool, len(gaps))
	for _, i := range gaps[:len(spans)-most] {
		closed[i] = true
	}
	joined := spans[:1]
	for i, s := range spans[1:] {
		if closed[i] {
			joined[len(joined)-1].last = s.last
		} else {
			joined = append(joined, s)
		}
	}
	return joined
}

// fetchSpan reads neighbouring pieces with one request and stores those that were wanted.
func (b *Bucket) fetchSpan(ctx context.Context, name string, pieces []piece, wanted func(*piece) bool) (err error) {
	start, end := pieces[0].start, pieces[len(pieces)-1].end
	r, err := b.Bucket.GetRange(ctx, name, start, end-start)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	for i := range pieces {
		p := &pieces[i]
		value := make([]byte, p.end-p.start)
		if n, err := io.ReadFull(r, value); err != nil {
			return fmt.Errorf("read %s at %d: got %d of %d bytes: %w", name, p.start, n, len(value), err)
		}
		b.metrics.fetched.WithLabelValues(fromBucket, kindChunks).Add(float64(len(value)))
		if wanted(p) {
			b.cache.Set(p.key, value, time.Duration(b.cfg.ChunkSubrangeTTL))
			p.value = value
		} else {
			b.metrics.refetched.WithLabelValues(fromCache, kindChunks).Add(float64(len(value)))
		}
	}
	return nil
}
