// Package forward brings recorded samples to remote-write targets by way of a log on disk.
//
// What a rule has recorded is on disk when its evaluation ends. Each target has a reader of its own,
// which remembers how far the target has said yes: a target that is away for a while, a crash or a
// restart delay samples and lose none. Samples arrive in the order in which they were recorded, and those
// sent just before a crash may arrive twice, which receivers tell by their time stamps.
//
// The log is a write-ahead log of Prometheus' making, whose records are remote-write 1.0 requests
// with external labels already in them.
package forward

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/logging"
)

const (
	// segmentSize is how much of the log is deleted at once.
	segmentSize = 4 << 20
	// recordSeries is how many samples a record holds, which is the least that is sent at once.
	recordSeries = 500
	// DefaultMaxBytes bounds the log.
	DefaultMaxBytes = 2 << 30
)

// Log is the log. It is safe for concurrent use.
type Log struct {
	dir      string
	external labels.Labels
	maxBytes int64
	logger   *zap.Logger
	highest  prometheus.Gauge
	lost     prometheus.Counter

	mu      sync.Mutex
	wal     *wlog.WL        // guarded by mu; nil after Close
	waiting []chan struct{} // guarded by mu
	newest  int64           // guarded by mu
	segment int             // guarded by mu; the newest
}

// Open opens the log in dir, which it makes where it is not there. Samples get the external labels
// that they lack. At maxBytes the oldest samples go.
func Open(dir string, external labels.Labels, maxBytes int64, logger *zap.Logger, reg prometheus.Registerer) (*Log, error) {
	return open(dir, external, maxBytes, segmentSize, logger, reg)
}

func open(dir string, external labels.Labels, maxBytes int64, segmentBytes int, logger *zap.Logger, reg prometheus.Registerer) (*Log, error) {
	wal, err := wlog.NewSize(logging.Slog(logger), nil, dir, segmentBytes, compression.Snappy)
	if err != nil {
		return nil, fmt.Errorf("open the log of samples in %s: %w", dir, err)
	}
	_, last, err := wlog.Segments(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list the log of samples in %s: %w", dir, err), wal.Close())
	}
	f := promauto.With(reg)
	return &Log{
		dir: dir, external: external, maxBytes: maxBytes, logger: logger, wal: wal, segment: last,
		highest: f.NewGauge(prometheus.GaugeOpts{
			Name: "prometheus_remote_storage_highest_timestamp_in_seconds", Help: "Time of the newest sample that was recorded.",
		}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_rule_remote_write_log_truncations_total", Help: "How often samples that may not have been sent were deleted to keep the log within its bound.",
		}),
	}, nil
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wal == nil {
		return nil
	}
	err := l.wal.Close()
	l.wal = nil
	return err
}

// listen returns a channel that is signalled when there is more.
func (l *Log) listen() <-chan struct{} {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, c)
	return c
}

func (l *Log) write(series []prompb.TimeSeries, newest int64) error {
	var records [][]byte
	for len(series) > 0 {
		n := min(len(series), recordSeries)
		record, err := (&prompb.WriteRequest{Timeseries: series[:n]}).Marshal()
		if err != nil {
			return fmt.Errorf("encode samples: %w", err)
		}
		records, series = append(records, record), series[n:]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wal == nil {
		return errors.New("the log of samples is closed")
	}
	if err := l.wal.Log(records...); err != nil {
		return fmt.Errorf("write to the log of samples: %w", err)
	}
	if newest > l.newest {
		l.newest = newest
		l.highest.Set(float64(newest) / 1000)
	}
	for _, c := range l.waiting {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return l.bound()
}

// bound deletes the oldest segment of a log that has become too large. It is called under mu.
func (l *Log) bound() error {
	first, last, err := wlog.Segments(l.dir)
	if err != nil {
		return fmt.Errorf("list the log of samples: %w", err)
	}
	if last == l.segment {
		return nil // sizes change by whole segments
	}
	l.segment = last
	size, err := l.wal.Size()
	if err != nil {
		return fmt.Errorf("measure the log of samples: %w", err)
	}
	for ; size > l.maxBytes && first < last; first++ {
		info, err := os.Stat(filepath.Join(l.dir, fmt.Sprintf("%08d", first)))
		if err != nil {
			return fmt.Errorf("measure the log of samples: %w", err)
		}
		if err := l.wal.Truncate(first + 1); err != nil {
			return fmt.Errorf("bound the log of samples: %w", err)
		}
		size -= info.Size()
		l.lost.Inc()
		l.logger.Error("the log of samples is full, its oldest part was deleted", zap.Int64("max_bytes", l.maxBytes))
	}
	return nil
}

// free deletes segments before the one given, which every target has.
func (l *Log) free(before int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wal == nil {
		return nil
	}
	return l.wal.Truncate(before)
}

// Appender implements storage.Appendable. Samples are on disk after Commit.
func (l *Log) Appender(context.Context) storage.Appender { return &appender{log: l} }

type appender struct {
	log    *Log
	series []prompb.TimeSeries
	newest int64
}

func (a *appender) labels(lset labels.Labels) []prompb.Label {
	b := labels.NewBuilder(lset)
	a.log.external.Range(func(l labels.Label) {
		if lset.Get(l.Name) == "" {
			b.Set(l.Name, l.Value)
		}
	})
	return prompb.FromLabels(b.Labels(), nil)
}

func (a *appender) Append(_ storage.SeriesRef, lset labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.series = append(a.series, prompb.TimeSeries{Labels: a.labels(lset), Samples: []prompb.Sample{{Timestamp: t, Value: v}}})
	a.newest = max(a.newest, t)
	return 0, nil
}

func (a *appender) AppendHistogram(_ storage.SeriesRef, lset labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	var one prompb.Histogram
	if h != nil {
		one = prompb.FromIntHistogram(t, h)
	} else {
		one = prompb.FromFloatHistogram(t, fh)
	}
	a.series = append(a.series, prompb.TimeSeries{Labels: a.labels(lset), Histograms: []prompb.Histogram{one}})
	a.newest = max(a.newest, t)
	return 0, nil
}

func (a *appender) Commit() error {
	if len(a.series) == 0 {
		return nil
	}
	return a.log.write(a.series, a.newest)
}

func (a *appender) Rollback() error {
	a.series = nil
	return nil
}

func (*appender) SetOptions(*storage.AppendOptions) {}

// Rules record neither exemplars nor start times nor metadata.
func (*appender) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, nil
}

func (*appender) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, nil
}

func (*appender) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, nil
}

func (*appender) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 0, nil
}
