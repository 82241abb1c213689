package app

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
)

const wait, tick = 20 * time.Second, 20 * time.Millisecond

func TestRulesRecordReadTheirOwnWritesAndFire(t *testing.T) {
	q, am := newQuerier(t), newAlertmanager(t)
	q.add(t, labels.FromStrings("__name__", "up", "job", "x"), time.Now(), 3)
	rules := ruleFile(t, `
groups:
- name: g
  interval: 200ms
  labels: {team: a}
  rules:
  - {record: job:up, expr: sum by (job) (up)}
  - {record: job:up:double, expr: 2 * job:up + on (job) group_left () sum by (job) (up)}
  - {alert: Up, expr: job:up:double > 1, labels: {severity: '{{ $externalLabels.cluster }}'}, annotations: {summary: '{{ $labels.job }} is {{ $value }}'}}
`)
	r := start(t, func(c *Config) {
		c.Query.Addresses, c.Alertmanagers.URLs = []string{q.URL}, []string{am.URL + "/am"}
		c.RuleFiles = []string{rules}
		c.Labels = []flags.Label{{Name: "cluster", Value: "eu1"}, {Name: "rule_replica", Value: "r0"}}
		c.Alert.LabelDrop, c.Alert.QueryURL = []string{"rule_replica"}, "http://q/x"
	})
	require.Eventually(t, func() bool { return len(am.alerts()) > 0 }, wait, tick)
	a := am.alerts()[0]
	require.Equal(t, "/am/api/v2/alerts", a.path)
	require.Equal(t, map[string]string{"alertname": "Up", "cluster": "eu1", "job": "x", "severity": "eu1", "team": "a"}, a.Labels)
	require.Equal(t, "x is 9", a.Annotations["summary"], "2 * 3 of this evaluation + 3")
	require.Equal(t, "http://q/x/graph?g0.expr=job%3Aup%3Adouble+%3E+1&g0.tab=1", a.GeneratorURL)
	require.True(t, a.EndsAt.After(time.Now().Add(time.Minute)), "it counts as firing until then")

	_, body := r.get(t, "/api/v1/rules?type=alert")
	var got struct {
		Data struct {
			Groups []struct {
				Name, File, PartialResponseStrategy string
				Rules                               []struct {
					Name, State, Health, Type string
					Labels                    map[string]string
					Alerts                    []any
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Len(t, got.Data.Groups, 1)
	require.Equal(t, rules, got.Data.Groups[0].File)
	require.Equal(t, "ABORT", got.Data.Groups[0].PartialResponseStrategy)
	require.Len(t, got.Data.Groups[0].Rules, 1)
	require.Equal(t, "firing", got.Data.Groups[0].Rules[0].State)
	require.Equal(t, "r0", got.Data.Groups[0].Rules[0].Labels["rule_replica"])
	_, body = r.get(t, "/api/v1/alerts")
	require.Contains(t, body, `"data":{"Alerts":[{"labels":{"alertname":"Up"`)
	code, _ := r.get(t, "/api/v1/rules?match[]={")
	require.Equal(t, http.StatusBadRequest, code)
	_, body = r.get(t, `/api/v1/rules?rule_name[]=nope`)
	require.Contains(t, body, `"rules":[]`)

	// A reload that fails says where, and the rules go on.
	reload := func() (int, string) {
		resp, err := http.Post(r.base+"/-/reload", "", nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	require.NoError(t, os.WriteFile(rules, []byte("groups:\n- name: g\n  rulez: []"), 0o600))
	code, body = reload()
	require.Equal(t, http.StatusInternalServerError, code)
	require.Contains(t, body, rules+":3:3")
	_, body = r.get(t, "/metrics")
	require.Contains(t, body, "thanos_rule_config_last_reload_successful 0")
	_, body = r.get(t, "/api/v1/rules")
	require.Contains(t, body, "job:up:double")
	require.NoError(t, os.WriteFile(rules, []byte("groups:\n- name: h\n  partial_response_strategy: warn\n"), 0o600))
	code, body = reload()
	require.Equal(t, http.StatusOK, code, body)
	_, body = r.get(t, "/api/v1/rules")
	require.Contains(t, body, `"partialResponseStrategy":"WARN"`)
	require.NotContains(t, body, "job:up:double")
}

func TestAnAlertThatIsPendingWhenTheRulerDiesFiresOnTimeAfterwards(t *testing.T) {
	q, am := newQuerier(t), newAlertmanager(t)
	dir := t.TempDir()
	configure := func(c *Config) {
		c.DataDir = dir
		c.Query.Addresses, c.Alertmanagers.URLs = []string{q.URL}, []string{am.URL}
		c.RuleFiles = []string{ruleFile(t, `groups: [{name: g, interval: 200ms, rules: [{alert: A, expr: vector(1), for: 4s}]}]`)}
	}
	same := ""
	var pendingSince string
	r := start(t, func(c *Config) { configure(c); same = c.RuleFiles[0] })
	require.Eventually(t, func() bool {
		_, body := r.get(t, "/api/v1/alerts")
		_, pendingSince, _ = strings.Cut(body, `"activeAt":"`)
		pendingSince, _, _ = strings.Cut(pendingSince, `"`)
		return strings.Contains(body, `"state":"pending"`)
	}, wait, tick)
	r.stop()
	q.away.Store(true) // nobody can be asked at the start
	r = start(t, func(c *Config) { configure(c); c.RuleFiles[0] = same })
	require.Eventually(t, func() bool {
		_, body := r.get(t, "/api/v1/alerts")
		return strings.Contains(body, pendingSince)
	}, wait, tick, "the state is known although no querier is there")
	q.away.Store(false)
	require.Eventually(t, func() bool { return len(am.alerts()) > 0 }, wait, tick)
	since, err := time.Parse(time.RFC3339Nano, pendingSince)
	require.NoError(t, err)
	late := am.alerts()[0].StartsAt.Sub(since)
	require.GreaterOrEqual(t, late, 4*time.Second)
	require.Less(t, late, 7*time.Second)
}

func TestAnIncompleteAnswerMeansWhatTheGroupSays(t *testing.T) {
	q := newQuerier(t)
	q.add(t, labels.FromStrings("__name__", "up", "cluster", "eu1"), time.Now(), 1)
	lost := func(query string) string {
		if strings.Contains(query, `cluster="eu1"`) || !strings.Contains(query, "up") {
			return "" // the lost store has nothing that could match
		}
		return `no answer from 10.0.0.1:10901 ({cluster="us1"}): down`
	}
	q.incomplete.Store(&lost)
	r := start(t, func(c *Config) {
		c.Query.Addresses = []string{q.URL}
		c.RuleFiles = []string{ruleFile(t, `
groups:
- {name: abort, interval: 200ms, rules: [{record: a, expr: sum(up)}]}
- {name: warn, interval: 200ms, partial_response_strategy: warn, rules: [{record: b, expr: sum(up)}]}
- {name: covered, interval: 200ms, coverage: {require: ['{cluster="eu1"}']}, rules: [{record: c, expr: sum(up)}]}
- {name: uncovered, interval: 200ms, coverage: {require: ['{cluster="eu1"}', '{cluster="us1"}']}, rules: [{record: d, expr: sum(up)}]}
`)}
	})
	health := func() map[string]string {
		_, body := r.get(t, "/api/v1/rules")
		var got struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health string }
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(body), &got), body)
		out := map[string]string{}
		for _, g := range got.Data.Groups {
			for _, r := range g.Rules {
				out[r.Name] = r.Health
			}
		}
		return out
	}
	want := map[string]string{"a": "err", "b": "ok", "c": "ok", "d": "err"}
	require.Eventually(t, func() bool { return fmt.Sprint(health()) == fmt.Sprint(want) }, wait, tick, "%v", health())
	_, body := r.get(t, "/api/v1/rules/gaps")
	require.Contains(t, body, `"group":"abort","rule":"a"`)
	require.Contains(t, body, `"group":"uncovered","rule":"d"`)
	require.NotContains(t, body, `"rule":"b"`)
	require.NotContains(t, body, `"rule":"c"`)
	_, body = r.get(t, "/metrics")
	require.Regexp(t, `thanos_rule_evaluation_with_warnings_total\{strategy="warn"\} [1-9]`, body)
	require.Contains(t, body, `thanos_rule_evaluation_with_warnings_total{strategy="abort"} 0`)
	require.Regexp(t, `thanos_rule_evaluation_skipped_total\{strategy="abort"\} [1-9]`, body)
}

func TestAlertsArriveWhenAnAlertmanagerIsBack(t *testing.T) {
	q, am := newQuerier(t), newAlertmanager(t)
	am.away.Store(true)
	r := start(t, func(c *Config) {
		c.Query.Addresses, c.Alertmanagers.URLs = []string{q.URL}, []string{am.URL}
		c.Rules.ResendDelay = 300 * time.Millisecond
		c.RuleFiles = []string{ruleFile(t, `groups: [{name: g, interval: 100ms, rules: [{alert: A, expr: vector(1)}]}]`)}
	})
	require.Eventually(t, func() bool {
		_, body := r.get(t, "/metrics")
		return strings.Contains(body, "thanos_alert_sender_errors_total{")
	}, wait, tick)
	am.away.Store(false)
	require.Eventually(t, func() bool { return len(am.alerts()) > 0 }, wait, tick)
}

func TestWhatWasRecordedSurvivesADeadTargetAndARestart(t *testing.T) {
	q := newQuerier(t)
	var (
		mu    sync.Mutex
		times = map[int64]bool{}
		away  atomic.Bool
	)
	away.Store(true)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		b, _ := io.ReadAll(r.Body)
		raw, err := snappy.Decode(nil, b)
		var req prompb.WriteRequest
		if err != nil || req.Unmarshal(raw) != nil {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, ts := range req.Timeseries {
			require.Equal(t, []prompb.Label{{Name: "__name__", Value: "x"}, {Name: "cluster", Value: "eu1"}}, ts.Labels)
			times[ts.Samples[0].Timestamp] = true
		}
	}))
	defer target.Close()
	dir, rules := t.TempDir(), ruleFile(t, `groups: [{name: g, interval: 100ms, rules: [{record: x, expr: vector(1)}]}]`)
	configure := func(c *Config) {
		c.DataDir, c.RuleFiles, c.Query.Addresses = dir, []string{rules}, []string{q.URL}
		c.Labels = []flags.Label{{Name: "cluster", Value: "eu1"}}
		c.RemoteWrite = flags.InlineContent("remote-write.config", "remote_write: [{url: '"+target.URL+"', name: t, queue_config: {max_backoff: 100ms}}]")
	}
	evaluations := func(r running) float64 {
		_, body := r.get(t, "/metrics")
		_, rest, _ := strings.Cut(body, "\nprometheus_remote_storage_highest_timestamp_in_seconds ")
		var newest float64
		_, _ = fmt.Sscan(rest, &newest)
		return newest
	}
	r := start(t, configure)
	var first float64
	require.Eventually(t, func() bool { first = evaluations(r); return first > 0 }, wait, tick)
	require.Eventually(t, func() bool { return evaluations(r) > first+1 }, wait, tick)
	r.stop()
	away.Store(false)
	r = start(t, configure)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for at := range times {
			if float64(at)/1000 >= first && float64(at)/1000 <= first+1 {
				n++
			}
		}
		return n >= 10
	}, wait, tick, "all of the second in which the target was away: %v of %v", &times, first)
	_, body := r.get(t, "/metrics")
	require.Contains(t, body, `prometheus_remote_storage_samples_failed_total{remote_name="t"`)
}
