package forward

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/golang/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// storer is a remote-write client.
type storer interface {
	Store(ctx context.Context, req []byte, attempt int) (remote.WriteResponseStats, error)
}

// target is where samples go.
type target struct {
	name         string
	client       storer
	message      remoteapi.WriteMessageType
	relabel      []*relabel.Config
	histograms   bool
	batch        int
	minBackoff   time.Duration
	maxBackoff   time.Duration
	positionFile string

	sent, failed, retried, dropped, bytes prometheus.Counter
	highest                               prometheus.Gauge
}

// Sender sends the log to all targets.
type Sender struct {
	log     *Log
	targets []*target
	logger  *zap.Logger

	mu sync.Mutex
	at []position // guarded by mu; by target
}

// NewSender returns a sender to the targets that configs describe.
func NewSender(log *Log, configs []*config.RemoteWriteConfig, logger *zap.Logger, reg prometheus.Registerer) (*Sender, error) {
	s := &Sender{log: log, logger: logger, at: make([]position, len(configs))}
	f := promauto.With(reg)
	names := []string{"remote_name", "url"}
	vec := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "prometheus_remote_storage_" + name, Help: help}, names)
	}
	sent := vec("samples_total", "Samples that were sent and accepted.")
	failed := vec("samples_failed_total", "Samples that a target has refused for good.")
	retried := vec("samples_retried_total", "Samples that have to be sent again.")
	dropped := vec("samples_dropped_total", "Samples that are not sent because of relabelling or because the target does not take histograms.")
	bytes := vec("bytes_total", "Bytes of samples sent, after compression.")
	highest := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "prometheus_remote_storage_queue_highest_sent_timestamp_seconds", Help: "Time of the newest sample that was sent and accepted.",
	}, names)
	var used []string
	for i, c := range configs {
		name := c.Name
		if name == "" {
			name = fmt.Sprintf("remote-%d", i)
		}
		if slices.Contains(used, name) {
			return nil, fmt.Errorf("remote_write: two targets are named %q", name)
		}
		used = append(used, name)
		client, err := remote.NewWriteClient(name, &remote.ClientConfig{
			URL: c.URL, Timeout: c.RemoteTimeout, HTTPClientConfig: c.HTTPClientConfig, SigV4Config: c.SigV4Config,
			AzureADConfig: c.AzureADConfig, GoogleIAMConfig: c.GoogleIAMConfig, Headers: c.Headers,
			RetryOnRateLimit: true, WriteProtoMsg: c.ProtobufMessage, RoundRobinDNS: c.RoundRobinDNS,
		})
		if err != nil {
			return nil, fmt.Errorf("remote_write to %s: %w", c.URL.Redacted(), err)
		}
		values := []string{name, c.URL.Redacted()}
		t := &target{
			name: name, client: client, message: c.ProtobufMessage, relabel: c.WriteRelabelConfigs, histograms: c.SendNativeHistograms,
			batch:      max(1, c.QueueConfig.MaxSamplesPerSend),
			minBackoff: max(time.Millisecond, time.Duration(c.QueueConfig.MinBackoff)), maxBackoff: max(time.Millisecond, time.Duration(c.QueueConfig.MaxBackoff)),
			positionFile: filepath.Join(log.dir, "sent."+safe(name)+".json"),
			sent:         sent.WithLabelValues(values...), failed: failed.WithLabelValues(values...), retried: retried.WithLabelValues(values...),
			dropped: dropped.WithLabelValues(values...), bytes: bytes.WithLabelValues(values...), highest: highest.WithLabelValues(values...),
		}
		if s.at[i], err = loadPosition(t.positionFile); err != nil {
			// Sending all again costs duplicates; the other choice costs samples.
			logger.Warn("how much of the log of samples a target has is not known, all is sent again", zap.String("target", name), zap.Error(err))
			s.at[i] = position{}
		}
		s.targets = append(s.targets, t)
	}
	return s, nil
}

// safe makes a file name of a name.
func safe(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			b[i] = '_'
		}
	}
	return string(b)
}

// Run sends until ctx ends. What is not sent by then is sent after the next start.
func (s *Sender) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.targets {
		g.Go(func() error { return s.follow(ctx, i) })
	}
	return g.Wait()
}

// idle is how often the log is looked at besides when it was written to.
const idle = 5 * time.Second

func (s *Sender) follow(ctx context.Context, i int) error {
	t, more := s.targets[i], s.log.listen()
	s.mu.Lock()
	r := newReader(s.log, s.at[i])
	s.mu.Unlock()
	defer r.close()
	ticker := time.NewTicker(idle)
	defer ticker.Stop()
	for {
		batch, err := t.read(r)
		if err != nil {
			s.logger.Error("read the log of samples", zap.String("target", t.name), zap.Error(err))
		}
		if len(batch) > 0 && !s.deliver(ctx, t, batch) {
			return nil
		}
		if err := s.acknowledge(i, r.at); err != nil {
			s.logger.Error("note what was sent", zap.String("target", t.name), zap.Error(err))
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-ticker.C:
		}
	}
}

// acknowledge notes what a target has, and deletes what all of them have.
func (s *Sender) acknowledge(i int, at position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[i] == at {
		return nil
	}
	moved := s.at[i].Segment != at.Segment
	s.at[i] = at
	if err := at.store(s.targets[i].positionFile); err != nil {
		return err
	}
	if !moved {
		return nil
	}
	oldest := at.Segment
	for _, p := range s.at {
		oldest = min(oldest, p.Segment)
	}
	return s.log.free(oldest)
}

// read takes records until there are enough samples for a request, or no more.
func (t *target) read(r *reader) ([]prompb.TimeSeries, error) {
	var out []prompb.TimeSeries
	b := labels.NewBuilder(labels.EmptyLabels())
	scratch := labels.NewScratchBuilder(0)
	for len(out) < t.batch {
		req, ok, err := r.next()
		if err != nil || !ok {
			return out, err
		}
		for _, ts := range req.Timeseries {
			if len(ts.Histograms) > 0 && !t.histograms {
				t.dropped.Inc()
				continue
			}
			if len(t.relabel) > 0 {
				b.Reset(ts.ToLabels(&scratch, nil))
				if !relabel.ProcessBuilder(b, t.relabel...) || b.Labels().IsEmpty() {
					t.dropped.Inc()
					continue
				}
				ts.Labels = prompb.FromLabels(b.Labels(), nil)
			}
			out = append(out, ts)
		}
	}
	return out, nil
}

// deliver sends a batch for as long as it takes. False means that ctx ended first.
func (s *Sender) deliver(ctx context.Context, t *target, batch []prompb.TimeSeries) bool {
	body, err := t.encode(batch)
	if err != nil {
		s.logger.Error("encode samples", zap.String("target", t.name), zap.Error(err))
		t.failed.Add(float64(len(batch)))
		return true
	}
	backoff := t.minBackoff
	for attempt := 0; ; attempt++ {
		_, err := t.client.Store(ctx, body, attempt)
		if err == nil {
			t.sent.Add(float64(len(batch)))
			t.bytes.Add(float64(len(body)))
			t.highest.Set(float64(newest(batch)) / 1000)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !errors.As(err, new(remote.RecoverableError)) {
			t.failed.Add(float64(len(batch)))
			s.logger.Error("samples were refused", zap.String("target", t.name), zap.Int("samples", len(batch)), zap.Error(err))
			return true
		}
		t.retried.Add(float64(len(batch)))
		if attempt == 0 {
			s.logger.Warn("samples cannot be sent, trying again", zap.String("target", t.name), zap.Error(err))
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		backoff = min(2*backoff, t.maxBackoff)
	}
}

func newest(batch []prompb.TimeSeries) (t int64) {
	for _, s := range batch {
		for _, v := range s.Samples {
			t = max(t, v.Timestamp)
		}
		for _, h := range s.Histograms {
			t = max(t, h.Timestamp)
		}
	}
	return t
}

// encode makes a request of the version that the target wants.
func (t *target) encode(batch []prompb.TimeSeries) ([]byte, error) {
	if t.message != remoteapi.WriteV2MessageType {
		raw, err := (&prompb.WriteRequest{Timeseries: batch}).Marshal()
		return snappy.Encode(nil, raw), err
	}
	symbols := writev2.NewSymbolTable()
	scratch := labels.NewScratchBuilder(0)
	req := &writev2.Request{}
	for i := range batch {
		in := &batch[i]
		ts := writev2.TimeSeries{LabelsRefs: symbols.SymbolizeLabels(in.ToLabels(&scratch, nil), nil)}
		for _, v := range in.Samples {
			ts.Samples = append(ts.Samples, writev2.Sample{Value: v.Value, Timestamp: v.Timestamp})
		}
		for _, h := range in.Histograms {
			if h.IsFloatHistogram() {
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(h.Timestamp, h.ToFloatHistogram()))
			} else {
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(h.Timestamp, h.ToIntHistogram()))
			}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	raw, err := req.Marshal()
	return snappy.Encode(nil, raw), err
}
