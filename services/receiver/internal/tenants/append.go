package tenants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// errFuture says that a sample lies too far ahead of the clock.
var errFuture = errors.New("timestamp is too far in the future")

// writer appends series to a TSDB. It is used by one goroutine for one write.
type writer struct {
	begin  func() storage.Appender
	app    storage.Appender
	commit error // of a commit; nothing is appended after it
	recent *recent
	cache  *seriesCache
	newest int64 // no sample may be later, Unix milliseconds

	// The series being appended.
	series *remotewrite.Series
	key    seriesKey
	old    known         // what the cache has of it
	known                // what it will have; its ref is 0 until the TSDB has named the series
	lset   labels.Labels // empty until the TSDB needs it
	fail   verdict.Failure
	err    error // the first of this series

	changed  []entry // what the cache is to be told
	failures []verdict.Failure
	told     int
}

var _ remotewrite.Visitor = (*writer)(nil)

// batchSize is how many series are looked up at once.
const batchSize = 128

// batch is the memory for looking up series.
type batch struct {
	keys    [batchSize]seriesKey
	known   [batchSize]known
	changed [batchSize]entry
}

var batches = sync.Pool{New: func() any { return new(batch) }} //nolint:gochecknoglobals // memory for reuse

// appendAll appends the series that pick names, all of them when it is nil. It returns the failures, with
// places in pick.
func (w *writer) appendAll(series []remotewrite.Series, pick []uint32) []verdict.Failure {
	total := len(series)
	if pick != nil {
		total = len(pick)
	}
	at := func(i int) *remotewrite.Series {
		if pick != nil {
			i = int(pick[i])
		}
		return &series[i]
	}
	b := batches.Get().(*batch)
	defer batches.Put(b)
	w.recent = recents.Get().(*recent)
	defer recents.Put(w.recent)
	w.recent.reset(total)
	for from := 0; from < total && w.commit == nil; from += batchSize {
		n := min(batchSize, total-from)
		for i := range n {
			b.keys[i] = w.cache.key(at(from + i).Labels)
		}
		w.cache.get(b.keys[:n], b.known[:n])
		w.changed = b.changed[:0]
		for i := range n {
			w.key, w.old = b.keys[i], b.known[i]
			w.one(uint32(from+i), at(from+i))
		}
		w.cache.put(w.changed)
	}
	return w.failures
}

// one appends a series, of which the key and what is known are set.
func (w *writer) one(place uint32, s *remotewrite.Series) {
	w.series, w.lset, w.err = s, labels.EmptyLabels(), nil
	w.fail = verdict.Failure{Series: place}
	w.known = w.old
	if w.ref == 0 && !w.resolve() {
		w.failWhole()
		return
	}
	if err := s.Walk(w); err != nil {
		w.note(verdict.Invalid, err)
	}
	switch {
	case w.err == nil:
		w.body = w.cache.bodyHash(s.Body)
	case w.fail.Kind == verdict.Conflict && w.body == w.cache.bodyHash(s.Body):
		// The sender did not hear that this was written, and says it again.
	default:
		w.report()
	}
	if w.ref != 0 && w.known != w.old {
		w.changed = append(w.changed, entry{w.key, w.known})
	}
}

// resolve builds the labels of a series that is not known. It returns false, with the failure noted, where
// they are no labels.
func (w *writer) resolve() bool {
	lset, err := remotewrite.ParseLabels(w.series.Labels)
	if err != nil {
		w.note(verdict.Invalid, err)
		return false
	}
	w.lset = lset
	return true
}

// do calls f with the series' reference, once more with its labels should the reference be stale.
func (w *writer) do(f func() (storage.SeriesRef, error)) error {
	ref, err := f()
	if err != nil && w.lset.IsEmpty() && errors.Is(err, tsdb.ErrInvalidSample) {
		// The TSDB has dropped the series since.
		if !w.resolve() {
			return w.err
		}
		ref, err = f()
	}
	if err == nil && ref != 0 {
		w.ref = ref
	}
	return err
}

// next prepares for a sample of the series: where the write has one already that is as new, that one is committed
// first, so that the TSDB can tell whether there is a place for both.
func (w *writer) next(t int64) {
	s := w.recent.at(w.key.pos)
	if t <= s.newest {
		w.settle()
		s = w.recent.at(w.key.pos)
	}
	s.newest = max(s.newest, t)
}

// settle commits what was appended and begins anew.
func (w *writer) settle() {
	if err := w.app.Commit(); err != nil && w.commit == nil {
		w.commit = err
	}
	w.app = w.begin()
	w.recent.forget()
}

// Sample is part of remotewrite.Visitor.
func (w *writer) Sample(t int64, v float64, start int64) {
	if t > w.newest {
		w.fail.Floats++
		w.note(verdict.Conflict, fmt.Errorf("%w: %s", errFuture, at(t)))
		return
	}
	w.next(t)
	if start != 0 && w.start != start {
		// Where there is no place for the zero nothing is lost that was sent.
		_ = w.do(func() (storage.SeriesRef, error) { return w.app.AppendSTZeroSample(w.ref, w.lset, t, start) })
		w.start = start
	}
	ref, err := w.app.Append(w.ref, w.lset, t, v)
	if err != nil {
		err = w.do(func() (storage.SeriesRef, error) { return w.app.Append(w.ref, w.lset, t, v) })
		if err != nil {
			w.fail.Floats++
			w.noteSample(t, err)
		}
		return
	}
	w.ref = ref
}

// Histogram is part of remotewrite.Visitor.
func (w *writer) Histogram(h *writev2.Histogram) {
	if h.Timestamp > w.newest {
		w.fail.Histograms++
		w.note(verdict.Conflict, fmt.Errorf("%w: %s", errFuture, at(h.Timestamp)))
		return
	}
	ih, fh, err := toHistogram(h)
	if err != nil {
		w.fail.Histograms++
		w.note(verdict.Invalid, err)
		return
	}
	w.next(h.Timestamp)
	if h.StartTimestamp != 0 && w.start != h.StartTimestamp {
		_ = w.do(func() (storage.SeriesRef, error) {
			return w.app.AppendHistogramSTZeroSample(w.ref, w.lset, h.Timestamp, h.StartTimestamp, ih, fh)
		})
		w.start = h.StartTimestamp
	}
	err = w.do(func() (storage.SeriesRef, error) {
		return w.app.AppendHistogram(w.ref, w.lset, h.Timestamp, ih, fh)
	})
	if err != nil {
		w.fail.Histograms++
		w.noteSample(h.Timestamp, err)
	}
}

// toHistogram returns the histogram in the one of its two forms that it has.
func toHistogram(h *writev2.Histogram) (*histogram.Histogram, *histogram.FloatHistogram, error) {
	if h.IsFloatHistogram() {
		fh := h.ToFloatHistogram()
		if histogram.IsExponentialSchemaReserved(fh.Schema) && fh.Schema > histogram.ExponentialSchemaMax {
			if err := fh.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
				return nil, nil, err
			}
		}
		return nil, fh, nil
	}
	ih := h.ToIntHistogram()
	if histogram.IsExponentialSchemaReserved(ih.Schema) && ih.Schema > histogram.ExponentialSchemaMax {
		if err := ih.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
			return nil, nil, err
		}
	}
	return ih, nil, nil
}

// Exemplar is part of remotewrite.Visitor.
func (w *writer) Exemplar(e exemplar.Exemplar) {
	if w.ref == 0 {
		// Its series was refused or has no samples: there is nothing to point to.
		w.fail.Exemplars++
		w.note(verdict.Conflict, errors.New("exemplar of an unknown series"))
		return
	}
	if _, err := w.app.AppendExemplar(w.ref, w.lset, e); err != nil {
		w.fail.Exemplars++
		w.note(verdict.Conflict, fmt.Errorf("exemplar at %s: %w", at(e.Ts), err))
	}
}

// noteSample notes why a sample was not taken.
func (w *writer) noteSample(t int64, err error) {
	var bad histogram.Error
	switch {
	case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrTooOldSample),
		errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		w.note(verdict.Conflict, fmt.Errorf("sample at %s: %w", at(t), err))
	case errors.As(err, &bad), errors.Is(err, tsdb.ErrInvalidSample), errors.Is(err, remotewrite.ErrInvalidLabels):
		w.note(verdict.Invalid, err)
	default:
		w.note(verdict.Unavailable, fmt.Errorf("append sample: %w", err))
	}
}

// note keeps the first error of a series and the gravest kind.
func (w *writer) note(k verdict.Kind, err error) {
	if w.err == nil {
		w.err = err
	}
	w.fail.Kind = max(w.fail.Kind, k)
}

// failWhole reports a series of which nothing was appended.
func (w *writer) failWhole() {
	w.fail.Floats, w.fail.Histograms, w.fail.Exemplars = w.series.Floats, w.series.Histograms, w.series.Exemplars
	w.report()
}

func (w *writer) report() {
	if w.told < verdict.MaxReasons {
		w.told++
		w.fail.Reason = remotewrite.Describe(w.series.Labels) + ": " + w.err.Error()
	}
	w.failures = append(w.failures, w.fail)
}

func at(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// write appends series to db and commits what is good. After an error nobody knows what was.
func (t *Tenant) write(ctx context.Context, db *tsdb.DB, cache *seriesCache, series []remotewrite.Series, pick []uint32) ([]verdict.Failure, error) {
	begin := func() storage.Appender { return db.Appender(ctx) }
	w := writer{begin: begin, app: begin(), cache: cache, newest: t.opts.newest()}
	failures := w.appendAll(series, pick)
	if err := errors.Join(w.commit, w.app.Commit()); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return failures, nil
}
