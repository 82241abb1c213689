package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// outageEnv is how long a remote-write target is away, in place of some seconds.
const outageEnv = "PROMONTORY_E2E_OUTAGE"

// alerting is two Prometheus servers, of two clusters, with a sidecar beside each, behind a querier.
type alerting struct {
	*harness.Stack

	t        *testing.T
	querier  harness.Service
	sidecars map[string]harness.Service
	spec     procs.Spec // of the querier, which is not started yet
}

func newAlerting(t *testing.T) *alerting {
	t.Helper()
	harness.Peer(t, "alertmanager")
	a := &alerting{Stack: harness.New(t), t: t, sidecars: map[string]harness.Service{}}
	a.querier, a.spec = a.ServiceSpec("querier", "querier", "--query.replica-label=rule_replica", "--store.response-timeout=2s")
	target := harness.Target(t)
	for _, cluster := range []string{"eu1", "us1"} {
		prometheus := a.Prometheus("prometheus-"+cluster, harness.PrometheusConfig{
			ExternalLabels: map[string]string{"cluster": cluster}, Scrape: map[string][]string{"demo": {target}},
		})
		a.sidecars[cluster] = a.Sidecar("sidecar-"+cluster, prometheus)
		a.spec.Args = append(a.spec.Args, "--endpoint="+a.sidecars[cluster].GRPC)
	}
	return a
}

// ruler returns a ruler of the querier, as a replica of that name.
func (a *alerting) ruler(replica, rules string, args ...string) (harness.Service, procs.Spec) {
	a.t.Helper()
	r, spec := a.RulerSpec("ruler-"+replica, a.querier, rules, append([]string{
		`--label=team="x"`, `--label=rule_replica="` + replica + `"`, "--alert.label-drop=rule_replica",
	}, args...)...)
	a.spec.Args = append(a.spec.Args, "--endpoint="+r.GRPC)
	return r, spec
}

type ruleState struct{ Name, Health, State, LastError string }

// rules returns the rules of a ruler by name.
func (a *alerting) rules(r harness.Service) map[string]ruleState {
	a.t.Helper()
	var data struct {
		Groups []struct{ Rules []ruleState }
	}
	got := call(a.t, r, "GET", "/rules", nil)
	require.NoError(a.t, json.Unmarshal(got.Data, &data))
	out := map[string]ruleState{}
	for _, g := range data.Groups {
		for _, rule := range g.Rules {
			out[rule.Name] = rule
		}
	}
	return out
}

// await waits until the one alert of a name is in an Alertmanager.
func (a *alerting) await(am harness.Service, name string) (found harness.Alert) {
	a.t.Helper()
	harness.Eventually(a.t, func() error {
		alerts, err := a.TryAlerts(am)
		if err != nil {
			return err
		}
		alerts = slices.DeleteFunc(alerts, func(x harness.Alert) bool { return x.Labels["alertname"] != name })
		if len(alerts) != 1 {
			return fmt.Errorf("%d alerts %s, want one", len(alerts), name)
		}
		found = alerts[0]
		return nil
	})
	return found
}

func TestAnAlertFiresOnTimeThoughItsRulerWasKilledWhileItWasPending(t *testing.T) {
	t.Parallel()
	a := newAlerting(t)
	am, amSpec := a.AlertmanagerSpec("alertmanager")
	r, spec := a.ruler("r0", `groups: [{name: g, rules: [{alert: Slow, expr: 'sum by (cluster) (demo_gauge{cluster="eu1"}) > 0', for: 15s, annotations: {summary: '{{ $value }}'}}]}]`,
		"--alertmanagers.url="+am.URL(), "--alert.query-url=http://q")
	a.Start(a.spec, spec, amSpec)
	var since time.Time
	harness.Eventually(t, func() error {
		var data struct {
			Alerts []struct {
				State    string
				ActiveAt time.Time
			}
		}
		if err := json.Unmarshal(call(t, r, "GET", "/alerts", nil).Data, &data); err != nil {
			return err
		}
		state, err := os.ReadFile(a.Dir("ruler-r0", "alerts.json"))
		if err != nil || !strings.Contains(string(state), `"pending"`) || len(data.Alerts) == 0 {
			return fmt.Errorf("no alert is pending on disk: %w", err)
		}
		since = data.Alerts[0].ActiveAt
		return nil
	})
	process := a.Process("ruler-r0")
	process.Kill()
	<-process.Gone()
	require.Less(t, time.Since(since), 15*time.Second, "it was killed in time")
	require.NoError(t, process.Start(t.Context()))
	alert := a.await(am, "Slow")
	require.Equal(t, map[string]string{"alertname": "Slow", "cluster": "eu1", "team": "x"}, alert.Labels)
	require.Equal(t, map[string]string{"summary": "33"}, alert.Annotations)
	late := alert.StartsAt.Sub(since)
	require.GreaterOrEqual(t, late, 15*time.Second-time.Millisecond, "Alertmanager shows milliseconds")
	require.Less(t, late, 19*time.Second, "as if nothing had happened")
	harness.Eventually(t, func() error {
		got, _, err := a.API(a.querier).TryInstant(`ALERTS{alertname="Slow",alertstate="firing"}`, time.Now())
		if err == nil && fmt.Sprint(got) != `map[ALERTS{alertname="Slow", alertstate="firing", cluster="eu1", team="x"}:1]` {
			err = fmt.Errorf("the querier shows %v", got)
		}
		return err
	})
}

func TestOneRulerOfAPairDiesWithoutDuplicateOrGap(t *testing.T) {
	t.Parallel()
	a := newAlerting(t)
	am, amSpec := a.AlertmanagerSpec("alertmanager")
	const rules = `groups: [{name: g, rules: [{record: all:demo, expr: 'sum(demo_gauge)'}, {alert: On, expr: 'all:demo > 0'}]}]`
	_, first := a.ruler("r0", rules, "--alertmanagers.url="+am.URL())
	_, second := a.ruler("r1", rules, "--alertmanagers.url="+am.URL())
	a.Start(a.spec, amSpec, first, second)
	api := a.API(a.querier)
	both := func() error {
		got, _, err := api.With("dedup", "false").TryInstant("all:demo == 66", time.Now())
		if err == nil && len(got) != 2 {
			err = fmt.Errorf("recorded: %v", got)
		}
		return err
	}
	harness.Eventually(t, both)
	a.await(am, "On")
	begin := time.Now()
	harness.Eventually(t, func() error { return elapsed(begin, 5*time.Second) })
	a.Process("ruler-r0").Kill()
	killed := time.Now()
	ends := a.await(am, "On").EndsAt
	harness.Eventually(t, func() error {
		if got := a.await(am, "On"); !got.EndsAt.After(ends.Add(5 * time.Second)) {
			return fmt.Errorf("the alert ends at %s still", got.EndsAt)
		}
		return elapsed(killed, 10*time.Second)
	})
	end := time.Now().Add(-2 * time.Second)
	got, _, err := api.AllowPartial().TryRange(`count_over_time(all:demo[4s])`, begin, end, time.Second)
	require.NoError(t, err)
	require.Equal(t, []string{`{team="x"}`}, slices.Collect(maps.Keys(got)), "one series")
	points := slices.Collect(maps.Values(got))[0]
	require.Len(t, points, int(end.Sub(begin)/time.Second)+1)
	for at, n := range points {
		require.GreaterOrEqual(t, n, 2.0, "a gap at %d, %dms after the death", at, at-killed.UnixMilli())
		require.LessOrEqual(t, n, 5.0, "samples of both at %d", at)
	}
}

func elapsed(since time.Time, d time.Duration) error {
	if time.Since(since) < d {
		return fmt.Errorf("not %s yet", d)
	}
	return nil
}

const strategies = `groups:
- {name: abort, rules: [{record: r:abort, expr: 'sum(demo_gauge)'}]}
- {name: warn, partial_response_strategy: WARN, rules: [{record: r:warn, expr: 'sum(demo_gauge)'}]}
- {name: covered, coverage: {require: ['{cluster="eu1"}']}, rules: [{record: r:covered, expr: 'sum(demo_gauge{cluster=~"eu1|us1"})'}]}
- {name: uncovered, coverage: {require: ['{cluster="us1"}']}, rules: [{record: r:uncovered, expr: 'sum(demo_gauge)'}]}
`

func TestWhenAStoreDisappearsTheGroupDecidesAndTheGapIsFilledAfterwards(t *testing.T) {
	t.Parallel()
	a := newAlerting(t)
	bucketConfig, bucket := a.FilesystemBucket("bucket", "")
	gateway := a.StoreGateway("store-gateway", bucketConfig)
	r, spec := a.ruler("r0", strategies)
	a.spec.Args = append(a.spec.Args, "--endpoint="+gateway.GRPC)
	a.Start(a.spec, spec)
	healthy := func(want string) {
		t.Helper()
		harness.Eventually(t, func() error {
			got := map[string]string{}
			rules := a.rules(r)
			for name, rule := range rules {
				got[name] = rule.Health
			}
			if fmt.Sprint(got) != want {
				return fmt.Errorf("rules are %v, want %s", rules, want)
			}
			return nil
		})
	}
	api := a.API(a.querier)
	value := func(name string, want float64) {
		t.Helper()
		harness.Eventually(t, func() error {
			got, _, err := api.AllowPartial().TryInstant(name, time.Now())
			if got := got[name+`{team="x"}`]; err == nil && got != want {
				err = fmt.Errorf("%s is %v, want %v", name, got, want)
			}
			return err
		})
	}
	const well = "map[r:abort:ok r:covered:ok r:uncovered:ok r:warn:ok]"
	healthy(well)
	value("r:abort", 66)
	before := time.Now()
	a.Process("sidecar-us1").Kill()
	healthy("map[r:abort:err r:covered:ok r:uncovered:err r:warn:ok]")
	require.Contains(t, a.rules(r)["r:abort"].LastError, a.sidecars["us1"].GRPC, "the error names who is missing")
	require.Contains(t, a.rules(r)["r:uncovered"].LastError, "data that the group requires are missing")
	value("r:warn", 33)
	value("r:covered", 33)
	away := time.Now()
	harness.Eventually(t, func() error { return elapsed(away, 8*time.Second) })
	require.NoError(t, a.Process("sidecar-us1").Start(t.Context()))
	healthy(well)
	value("r:abort", 66)
	after := time.Now()

	gaps := func() string { return string(call(t, r, "GET", "/rules/gaps", nil).Data) }
	require.Contains(t, gaps(), `"group":"abort","rule":"r:abort"`)
	require.Contains(t, gaps(), `"group":"uncovered","rule":"r:uncovered"`)
	require.NotContains(t, gaps(), `"rule":"r:warn"`)
	most := func() float64 { // the longest time without a sample of r:abort
		got, _, err := api.TryRange(`count_over_time(r:abort[3s])`, before, after, time.Second)
		require.NoError(t, err)
		require.LessOrEqual(t, len(got), 1)
		return float64(int(after.Sub(before)/time.Second) + 1 - len(slices.Collect(maps.Values(got))[0]))
	}
	require.Greater(t, most(), 5.0)
	out, code := harness.Output(t, "promontory", "rules", "backfill", "--ruler="+r.URL(), "--query="+a.querier.URL(),
		"--output="+a.Dir("backfill"), "--objstore.config-file="+bucketConfig)
	require.Zero(t, code, out)
	require.Contains(t, out, `uploaded as {rule_replica="backfill", team="x"}`)
	require.Contains(t, gaps(), `"gaps":[]`)
	entries, err := filepath.Glob(filepath.Join(bucket, "*", "meta.json"))
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	harness.Eventually(t, func() error {
		if n := most(); n > 0 {
			return fmt.Errorf("%g seconds of r:abort are missing still\n%s", n, out)
		}
		return nil
	})
	values := api.Range(`r:abort`, before, after, time.Second)
	for at, v := range values[`r:abort{team="x"}`] {
		require.Equal(t, 66.0, v, "at %d", at)
	}
}

func TestAlertsArriveWhenAlertmanagerIsBack(t *testing.T) {
	t.Parallel()
	a := newAlerting(t)
	am, amSpec := a.AlertmanagerSpec("alertmanager")
	// This one asks its querier over gRPC.
	rules := a.Dir("grpc-rules.yml")
	require.NoError(t, os.WriteFile(rules, []byte(`groups: [{name: g, rules: [{alert: On, expr: 'sum(demo_gauge) == 66'}]}]`), 0o644))
	r, spec := a.ServiceSpec("ruler", "ruler", "--grpc-query-endpoint="+a.querier.GRPC, "--rule-file="+rules, "--data-dir="+a.Dir("ruler"),
		"--eval-interval=1s", "--resend-delay=2s", "--alertmanagers.url="+am.URL())
	a.Start(a.spec, spec)
	harness.Eventually(t, func() error {
		if n := a.Metric(r, "thanos_alert_sender_errors_total"); n < 2 {
			return fmt.Errorf("%g errors", n)
		}
		return nil
	})
	a.Start(amSpec)
	alert := a.await(am, "On")
	process := a.Process("alertmanager")
	process.Kill()
	<-process.Gone()
	failed := a.Metric(r, "thanos_alert_sender_errors_total")
	harness.Eventually(t, func() error {
		if n := a.Metric(r, "thanos_alert_sender_errors_total"); n < failed+2 {
			return fmt.Errorf("%g errors", n)
		}
		return nil
	})
	require.NoError(t, process.Start(t.Context()))
	require.Equal(t, alert.StartsAt, a.await(am, "On").StartsAt, "it is the same alert")
}

func TestNothingIsLostWhileARemoteWriteTargetIsAway(t *testing.T) {
	t.Parallel()
	outage := 12 * time.Second
	if text := os.Getenv(outageEnv); text != "" {
		var err error
		outage, err = time.ParseDuration(text)
		require.NoError(t, err, outageEnv)
	}
	a := newAlerting(t)
	target := a.Prometheus("target", harness.PrometheusConfig{ExternalLabels: map[string]string{"cluster": "rules"}})
	config := a.Dir("remote-write.yml")
	require.NoError(t, os.WriteFile(config, []byte("remote_write: [{url: '"+target.URL()+"/api/v1/write', name: target, queue_config: {max_backoff: 1s}}]"), 0o644))
	r, spec := a.ruler("r0", `groups: [{name: g, rules: [{record: ticks, expr: time()}]}]`, "--remote-write.config-file="+config)
	a.Start(a.spec, spec)
	last := func() float64 { return a.Metric(r, "prometheus_remote_storage_highest_timestamp_in_seconds") }
	at := func(want float64) {
		t.Helper()
		harness.EventuallyWithin(t, outage+harness.Timeout, func() error {
			if n := last(); n < want {
				return fmt.Errorf("recorded until %s, not %s", time.UnixMilli(int64(n*1000)), time.UnixMilli(int64(want*1000)))
			}
			return nil
		})
	}
	at(1)
	begin := last()
	at(begin + 3)
	targetProcess, rulerProcess := a.Process("target"), a.Process("ruler-r0")
	targetProcess.Kill()
	<-targetProcess.Gone()
	at(last() + outage.Seconds()/2)
	died := last()
	rulerProcess.Kill() // with half of the outage in its queue
	<-rulerProcess.Gone()
	require.NoError(t, rulerProcess.Start(t.Context()))
	at(died + 1)
	back := last()
	at(back + outage.Seconds()/2)
	end := last()
	require.NoError(t, targetProcess.Start(t.Context()))

	harness.Eventually(t, func() error {
		times := timesOf(t, target.Service, fmt.Sprintf("ticks[%ds]", int(end-begin)+60))
		for i, name := range []string{"before the death of the ruler", "after it"} {
			from, to := begin, died
			if i == 1 {
				from, to = back, end
			}
			n, want := 0, int(to-from)
			for _, at := range times {
				if at >= from && at <= to {
					n++
				}
			}
			if n < want {
				return fmt.Errorf("%d of %d evaluations %s are there", n, want, name)
			}
		}
		return nil
	})
	require.Zero(t, a.Metric(r, "prometheus_remote_storage_samples_failed_total"))
}

// timesOf returns the times of the samples of the one series that a range selector selects, in seconds.
func timesOf(t *testing.T, of harness.Service, selector string) (out []float64) {
	t.Helper()
	var data struct {
		Result []struct{ Values [][2]any }
	}
	got := call(t, of, "GET", "/query", url.Values{"query": {selector}})
	require.NoError(t, json.Unmarshal(got.Data, &data))
	require.LessOrEqual(t, len(data.Result), 1)
	for _, r := range data.Result {
		for _, v := range r.Values {
			at, err := strconv.ParseFloat(fmt.Sprint(v[0]), 64)
			require.NoError(t, err)
			out = append(out, at)
		}
	}
	return out
}
