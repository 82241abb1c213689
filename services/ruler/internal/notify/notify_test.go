package notify_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/ruler/internal/notify"
)

func alert(name string) *notify.Alert {
	return &notify.Alert{Labels: labels.FromStrings("alertname", name, "rule_replica", "inner", "keep", "own")}
}

func TestLabelsAreDroppedThenExternalOnesAddedThenRelabelled(t *testing.T) {
	t.Parallel()
	rule := relabel.DefaultRelabelConfig
	rule.SourceLabels, rule.Regex, rule.Action = model.LabelNames{"alertname"}, relabel.MustNewRegexp("Noise"), relabel.Drop
	rule.NameValidationScheme = model.UTF8Validation
	q := notify.NewQueue(notify.QueueConfig{
		Capacity: 10, Batch: 10, Drop: []string{"rule_replica"}, Relabel: []*relabel.Config{&rule},
		External: labels.FromStrings("cluster", "eu1", "keep", "external", "rule_replica", "r0"),
	}, zap.NewNop(), nil)
	in := alert("A")
	q.Push(in, alert("Noise"))
	got := q.Pop(t.Context())
	require.Len(t, got, 1)
	require.Equal(t, `{alertname="A", cluster="eu1", keep="own"}`, got[0].Labels.String())
	require.Equal(t, "inner", in.Labels.Get("rule_replica"), "the caller's alert is its own")
}

func TestAFullQueueDropsTheOldest(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	q := notify.NewQueue(notify.QueueConfig{Capacity: 3, Batch: 2}, zap.NewNop(), reg)
	q.Push(alert("1"), alert("2"))
	q.Push(alert("3"), alert("4"), alert("5"))
	var got []string
	for q.Len() > 0 {
		batch := q.Pop(t.Context())
		require.LessOrEqual(t, len(batch), 2)
		for _, a := range batch {
			got = append(got, a.Labels.Get("alertname"))
		}
	}
	require.Equal(t, []string{"3", "4", "5"}, got)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_alert_queue_alerts_dropped_total Alerts that were dropped because the queue was full.
# TYPE thanos_alert_queue_alerts_dropped_total counter
thanos_alert_queue_alerts_dropped_total 2
`), "thanos_alert_queue_alerts_dropped_total"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Nil(t, q.Pop(ctx))
}

func TestEveryAlertmanagerGetsEveryBatchAndOneSuffices(t *testing.T) {
	t.Parallel()
	var (
		mu     sync.Mutex
		bodies = map[string]string{}
	)
	server := func(name string, status int) *url.URL {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			bodies[name+" "+r.URL.Path] = string(b)
			mu.Unlock()
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		return u
	}
	one := func(u *url.URL, version string) notify.Alertmanager {
		return notify.Alertmanager{URLs: func() []*url.URL { return []*url.URL{u} }, Client: http.DefaultClient, Timeout: 5 * time.Second, Version: version}
	}
	for name, tc := range map[string]struct {
		statusB int
		dropped float64
	}{"one is broken": {500, 0}, "both are broken": {502, 1}} {
		reg := prometheus.NewRegistry()
		q := notify.NewQueue(notify.QueueConfig{Capacity: 3, Batch: 2}, zap.NewNop(), reg)
		statusA := http.StatusOK
		if tc.dropped > 0 {
			statusA = http.StatusServiceUnavailable
		}
		s := notify.NewSender(q, []notify.Alertmanager{one(server("a", statusA), notify.APIv2), one(server("b", tc.statusB), notify.APIv1)}, zap.NewNop(), reg)
		a := alert("A")
		a.StartsAt, a.EndsAt, a.GeneratorURL = time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC(), "http://x"
		q.Push(a)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, s.Run(ctx), name) // what is queued still goes
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "thanos_alert_sender_alerts_dropped_total" {
				require.InDelta(t, tc.dropped, f.GetMetric()[0].GetCounter().GetValue(), 0, name)
			}
		}
	}
	const want = `[{"labels":{"alertname":"A","keep":"own","rule_replica":"inner"},"annotations":{},"startsAt":"1970-01-01T00:00:01Z","endsAt":"1970-01-01T00:00:02Z","generatorURL":"http://x"}]`
	require.JSONEq(t, want, bodies["a /api/v2/alerts"])
	require.JSONEq(t, want, bodies["b /api/v1/alerts"])
}
