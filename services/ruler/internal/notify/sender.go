package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/ruler/internal/peers"
)

// The versions of Alertmanager's API.
const (
	APIv1 = "v1"
	APIv2 = "v2"
)

// Alertmanager is a group of servers that are called in the same way.
type Alertmanager struct {
	// URLs returns the base URLs of the servers known now.
	URLs    func() []*url.URL
	Client  *http.Client
	Timeout time.Duration
	// Version is APIv1 or APIv2. The body is the same.
	Version string
}

// Sender gives alerts to Alertmanagers.
type Sender struct {
	queue    *Queue
	managers []Alertmanager
	logger   *zap.Logger
	sent     *prometheus.CounterVec
	errors   *prometheus.CounterVec
	dropped  prometheus.Counter
	latency  *prometheus.HistogramVec
	record   peers.Record
}

// Contacts returns how the Alertmanagers that are known now were the last times they were called.
func (s *Sender) Contacts() []peers.Contact {
	var addresses []string
	for i := range s.managers {
		for _, u := range s.managers[i].URLs() {
			addresses = append(addresses, u.Redacted())
		}
	}
	return s.record.List(addresses)
}

// NewSender returns a sender of the alerts in queue.
func NewSender(queue *Queue, managers []Alertmanager, logger *zap.Logger, reg prometheus.Registerer) *Sender {
	f := promauto.With(reg)
	return &Sender{
		queue: queue, managers: managers, logger: logger,
		sent: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_alert_sender_alerts_sent_total", Help: "Alerts that an Alertmanager has accepted.",
		}, []string{"alertmanager"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_alert_sender_errors_total", Help: "Batches of alerts that an Alertmanager did not accept.",
		}, []string{"alertmanager"}),
		dropped: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_alert_sender_alerts_dropped_total", Help: "Alerts that no Alertmanager has accepted.",
		}),
		latency: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thanos_alert_sender_latency_seconds", Help: "How long an Alertmanager took to accept a batch of alerts.",
		}, []string{"alertmanager"}),
	}
}

// drain is how long alerts are still sent after the end.
const drain = 5 * time.Second

// Run sends until ctx ends, and then for a moment what is still queued, as long as that is accepted: alerts
// of the last evaluations would else be missing for as long as this process is.
func (s *Sender) Run(ctx context.Context) error {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })()
	for batch := s.queue.Pop(ctx); batch != nil; batch = s.queue.Pop(ctx) {
		if !s.send(sending, batch) && ctx.Err() != nil {
			break
		}
	}
	return nil
}

// send gives a batch to all Alertmanagers at once and reports whether one of them has it.
func (s *Sender) send(ctx context.Context, alerts []*Alert) bool {
	if len(s.managers) == 0 {
		return true // nobody wants to know
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		s.logger.Error("encode alerts", zap.Error(err))
		s.dropped.Add(float64(len(alerts)))
		return false
	}
	var (
		wg       sync.WaitGroup
		accepted atomic.Bool
		known    int
	)
	for i := range s.managers {
		m := &s.managers[i]
		for _, base := range m.URLs() {
			known++
			wg.Go(func() {
				start := time.Now()
				target := base.JoinPath("api", m.Version, "alerts")
				err := post(ctx, m, target, body)
				s.record.Note(base.Redacted(), time.Now(), err)
				if err != nil {
					s.errors.WithLabelValues(base.Host).Inc()
					s.logger.Warn("alerts were not accepted", zap.String("alertmanager", base.Redacted()), zap.Int("alerts", len(alerts)), zap.Error(err))
					return
				}
				s.latency.WithLabelValues(base.Host).Observe(time.Since(start).Seconds())
				s.sent.WithLabelValues(base.Host).Add(float64(len(alerts)))
				accepted.Store(true)
			})
		}
	}
	wg.Wait()
	if !accepted.Load() {
		s.dropped.Add(float64(len(alerts)))
		s.logger.Error("no Alertmanager has accepted a batch of alerts; what still fires is sent again", zap.Int("alerts", len(alerts)), zap.Int("alertmanagers", known))
		return false
	}
	return true
}

func post(ctx context.Context, m *Alertmanager, target *url.URL, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s: %s", target.Redacted(), resp.Status, bytes.TrimSpace(text))
	}
	return nil
}
