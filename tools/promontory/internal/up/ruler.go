package up

import (
	"path/filepath"

	"github.com/promontory-io/promontory/libs/procs"
)

// rulerRules are evaluated over the view of the querier: both replicas merged, blocks and live data. The first alert
// fires for as long as the demo runs, so that there is one to be seen.
const rulerRules = `groups:
- name: shop
  rules:
  - record: namespace:http_requests:rate5m
    expr: sum by (namespace) (rate(http_requests_total[5m]))
  - alert: ShopIsOpen
    expr: namespace:http_requests:rate5m{namespace="shop"} > 0
    for: 10s
    labels: {severity: info}
    annotations: {summary: "The shop serves {{ $value | printf \"%.1f\" }} requests a second."}
- name: availability
  partial_response_strategy: WARN
  rules:
  - alert: JobIsDown
    expr: sum by (job) (up) == 0
    for: 1m
    labels: {severity: critical}
    annotations: {summary: "No instance of {{ $labels.job }} answers."}
`

// alertmanagerConfig routes alerts nowhere: they are there to be looked at.
const alertmanagerConfig = `route: {receiver: page, group_by: [alertname]}
receivers: [{name: page}]
`

func (l layout) rulerRulesPath() string         { return l.dir("config", "ruler-rules.yml") }
func (l layout) alertmanagerConfigPath() string { return l.dir("config", "alertmanager.yml") }

// alerting are the processes that evaluate rules over the querier's view, and take alerts.
func (l layout) alerting() []member {
	am := l.alertmanager(5)
	return []member{am, l.ruler(3, am)}
}

func (l layout) alertmanager(offset int) member {
	addr := l.addr(offset)
	return member{
		Spec: procs.Spec{
			Name: "alertmanager", Binary: filepath.Join(l.PeersDir, "alertmanager"), Source: "make peers",
			Args: []string{
				"--config.file=" + l.alertmanagerConfigPath(), "--storage.path=" + l.dir("alertmanager"),
				"--web.listen-address=" + addr, "--cluster.listen-address=",
			},
			Listen: []procs.Address{{Purpose: "HTTP", Addr: addr}},
			Ready:  "http://" + addr + "/-/ready",
		},
		about: "a real Alertmanager, takes the ruler's alerts", http: addr, job: "alertmanager",
	}
}

// ruler is ready without the querier, which asks it in turn.
func (l layout) ruler(offset int, alertmanager member) member {
	m := l.own("ruler", "ruler", offset)
	m.Args = append(m.Args,
		"--query="+l.querierURL(),
		"--alertmanagers.url=http://"+alertmanager.http,
		"--alert.query-url="+l.querierURL(),
		"--rule-file="+l.rulerRulesPath(),
		"--eval-interval="+scrapeInterval,
		"--data-dir="+l.dir("ruler"),
		"--objstore.config-file="+l.bucketConfig(),
		`--label=cluster="demo"`, `--label=replica="ruler"`, "--alert.label-drop=replica",
	)
	m.After = []string{alertmanager.Name}
	m.about, m.store = "evaluates rules over the querier's view", true
	return m
}
