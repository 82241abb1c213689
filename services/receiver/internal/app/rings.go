package app

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // a fingerprint for a metric, as dashboards have it
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/hashring"
)

// ringPoll is how often the file of hashrings is looked at. Polling sees what watching does not: links that
// move, as those of mounted configuration do.
const ringPoll = time.Second

type ringMetrics struct {
	hash, ok, okAt             prometheus.Gauge
	changes, errors, refreshes prometheus.Counter
	nodes, tenants             *prometheus.GaugeVec
}

func newRingMetrics(reg prometheus.Registerer) *ringMetrics {
	f := promauto.With(reg)
	return &ringMetrics{
		hash:      f.NewGauge(prometheus.GaugeOpts{Name: "thanos_receive_config_hash", Help: "Fingerprint of the hashrings in use."}),
		ok:        f.NewGauge(prometheus.GaugeOpts{Name: "thanos_receive_config_last_reload_successful", Help: "Whether the hashrings could be read last time."}),
		okAt:      f.NewGauge(prometheus.GaugeOpts{Name: "thanos_receive_config_last_reload_success_timestamp_seconds", Help: "When the hashrings were last read."}),
		changes:   f.NewCounter(prometheus.CounterOpts{Name: "thanos_receive_hashrings_file_changes_total", Help: "Changes of the hashrings file."}),
		errors:    f.NewCounter(prometheus.CounterOpts{Name: "thanos_receive_hashrings_file_errors_total", Help: "Failures to read or use the hashrings file."}),
		refreshes: f.NewCounter(prometheus.CounterOpts{Name: "thanos_receive_hashrings_file_refreshes_total", Help: "Readings of the hashrings file."}),
		nodes:     f.NewGaugeVec(prometheus.GaugeOpts{Name: "thanos_receive_hashring_nodes", Help: "Nodes of a hashring."}, []string{"name"}),
		tenants:   f.NewGaugeVec(prometheus.GaugeOpts{Name: "thanos_receive_hashring_tenants", Help: "Tenants that a hashring lists."}, []string{"name"}),
	}
}

// ringLoader reads the hashrings and gives them to whoever uses them. Rings that cannot be used leave those
// before in place.
type ringLoader struct {
	cfg      RingConfig
	settings hashring.Settings
	apply    func(*hashring.Rings)
	logger   *zap.Logger
	metrics  *ringMetrics
	loaded   chan struct{} // closed when there are rings

	mu   sync.Mutex
	raw  []byte // guarded by mu
	once sync.Once
}

func newRingLoader(cfg RingConfig, apply func(*hashring.Rings), logger *zap.Logger, reg prometheus.Registerer) *ringLoader {
	return &ringLoader{
		cfg: cfg, settings: hashring.Settings{Algorithm: cfg.Algorithm, Replicas: cfg.Replicas}, apply: apply,
		logger: logger.Named("hashrings"), metrics: newRingMetrics(reg), loaded: make(chan struct{}),
	}
}

func (l *ringLoader) source() string {
	if l.cfg.File != "" {
		return l.cfg.File
	}
	return "--receive.hashrings"
}

func (l *ringLoader) read() ([]byte, error) {
	if l.cfg.File != "" {
		return os.ReadFile(l.cfg.File)
	}
	return []byte(l.cfg.Content), nil
}

// start loads what there is. A file that is not there yet may come; a broken one is an error.
func (l *ringLoader) start() error {
	err := l.load(true)
	if errors.Is(err, os.ErrNotExist) {
		l.logger.Warn("hashrings file is not there yet", zap.String("path", l.cfg.File))
		return nil
	}
	return err
}

// load reads the rings and applies them where they are new, or always.
func (l *ringLoader) load(always bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, err := l.read()
	if err == nil && !always && bytes.Equal(raw, l.raw) {
		return nil
	}
	l.metrics.refreshes.Inc()
	if err == nil && l.raw != nil && !bytes.Equal(raw, l.raw) {
		l.metrics.changes.Inc()
	}
	var rings *hashring.Rings
	if err == nil {
		rings, err = l.build(raw)
		l.raw = raw // also a broken one: it is reported once
	}
	if err != nil {
		l.metrics.errors.Inc()
		l.metrics.ok.Set(0)
		return fmt.Errorf("%s: %w", l.source(), err)
	}
	l.show(raw, rings)
	l.apply(rings)
	l.once.Do(func() { close(l.loaded) })
	return nil
}

func (l *ringLoader) build(raw []byte) (*hashring.Rings, error) {
	cfgs, err := hashring.Parse(raw)
	if err != nil {
		return nil, err
	}
	return hashring.New(cfgs, l.settings)
}

func (l *ringLoader) show(raw []byte, rings *hashring.Rings) {
	sum := md5.Sum(raw) //nolint:gosec // see above
	var short [8]byte
	copy(short[:6], sum[:6])
	l.metrics.hash.Set(float64(binary.LittleEndian.Uint64(short[:])))
	l.metrics.ok.Set(1)
	l.metrics.okAt.SetToCurrentTime()
	l.metrics.nodes.Reset()
	l.metrics.tenants.Reset()
	for _, i := range rings.Infos() {
		l.metrics.nodes.WithLabelValues(i.Name).Set(float64(i.Nodes))
		l.metrics.tenants.WithLabelValues(i.Name).Set(float64(i.Tenants))
	}
}

// run follows the file until ctx is done.
func (l *ringLoader) run(ctx context.Context) error {
	if l.cfg.File == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(min(ringPoll, l.cfg.RefreshInterval))
	defer tick.Stop()
	var missing bool
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		err := l.load(false)
		gone := errors.Is(err, os.ErrNotExist)
		if err != nil && !(gone && missing) {
			l.logger.Error("hashrings stay as they were", zap.Error(err))
		}
		missing = gone
	}
}
