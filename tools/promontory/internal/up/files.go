package up

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/promontory-io/promontory/libs/block"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/tools/promontory/internal/demo"
)

// scrapeInterval is short, so that a fresh stack has something to show soon.
const scrapeInterval = "5s"

// The part of Prometheus' configuration that is written here.
type (
	prometheusConfig struct {
		Global        globalConfig   `yaml:"global"`
		RuleFiles     []string       `yaml:"rule_files"`
		ScrapeConfigs []scrapeConfig `yaml:"scrape_configs"`
		RemoteWrite   []remoteWrite  `yaml:"remote_write,omitempty"`
	}
	globalConfig struct {
		ScrapeInterval     string            `yaml:"scrape_interval"`
		EvaluationInterval string            `yaml:"evaluation_interval"`
		ExternalLabels     map[string]string `yaml:"external_labels"`
	}
	scrapeConfig struct {
		JobName          string         `yaml:"job_name"`
		NativeHistograms bool           `yaml:"scrape_native_histograms,omitempty"`
		KeepClassic      bool           `yaml:"always_scrape_classic_histograms,omitempty"`
		StaticConfigs    []staticConfig `yaml:"static_configs"`
	}
	staticConfig struct {
		Targets []string          `yaml:"targets"`
		Labels  map[string]string `yaml:"labels,omitempty"`
	}
)

// rules give the Rules API something to say.
const rules = `groups:
- name: demo
  rules:
  - record: job:http_requests:rate5m
    expr: sum by (job) (rate(http_requests_total[5m]))
  - alert: TargetDown
    expr: up == 0
    for: 1m
    labels: {severity: warning}
    annotations: {summary: "{{ $labels.instance }} of {{ $labels.job }} does not answer."}
`

// writeFiles writes the configuration of all processes anew.
func writeFiles(l layout, members []member) error {
	files := map[string][]byte{
		l.dir("config", "rules.yml"): []byte(rules),
		l.rulerRulesPath():           []byte(rulerRules),
		l.alertmanagerConfigPath():   []byte(alertmanagerConfig),
	}
	if l.SetUp == SetUpReceive {
		rings, err := l.hashrings()
		if err != nil {
			return err
		}
		files[l.hashringsPath()] = rings
	}
	bucket := map[string]any{"type": "FILESYSTEM", "config": map[string]string{"directory": l.bucket()}}
	for path, content := range map[string]any{
		l.bucketConfig():        bucket,
		l.prometheusConfig("a"): prometheusFile(l, members, "a"),
		l.prometheusConfig("b"): prometheusFile(l, members, "b"),
	} {
		text, err := yaml.Marshal(content)
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		files[path] = text
	}
	for _, dir := range []string{l.bucket(), l.logs(), l.dir("config")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for path, text := range files {
		if err := block.WriteFileAtomic(path, text); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// prometheusFile lets a replica scrape everything that has a job, and the shop.
func prometheusFile(l layout, members []member, replica string) prometheusConfig {
	c := prometheusConfig{
		Global: globalConfig{
			ScrapeInterval: scrapeInterval, EvaluationInterval: scrapeInterval, ExternalLabels: externalLabels(replica),
		},
		RuleFiles: []string{l.dir("config", "rules.yml")}, RemoteWrite: l.remoteWrites(),
	}
	jobs := map[string]int{} // index in ScrapeConfigs
	job := func(name string) *scrapeConfig {
		at, known := jobs[name]
		if !known {
			at = len(c.ScrapeConfigs)
			jobs[name] = at
			c.ScrapeConfigs = append(c.ScrapeConfigs, scrapeConfig{JobName: name})
		}
		return &c.ScrapeConfigs[at]
	}
	for _, m := range members {
		if m.job != "" {
			j := job(m.job)
			j.StaticConfigs = append(j.StaticConfigs, staticConfig{Targets: []string{m.http}})
		}
	}
	shop := l.shop().http
	for _, t := range demo.Targets() {
		j := job(t.Job)
		j.NativeHistograms, j.KeepClassic = true, true
		j.StaticConfigs = append(j.StaticConfigs, staticConfig{
			Targets: []string{shop},
			Labels: map[string]string{
				"__metrics_path__": demo.MetricsPath(t), "instance": t.Instance, "namespace": t.Namespace, "pod": t.Pod,
			},
		})
	}
	return c
}

// lock keeps a second run out of the data folder. The lock goes with the process.
func lock(l layout) (release func(), err error) {
	if err := os.MkdirAll(l.data, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(l.data, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path) // only to say more
		return nil, errors.Join(fmt.Errorf("data folder %s is in use by another `promontory up` (pid %s)", l.data, strings.TrimSpace(string(holder))), file.Close())
	}
	if err == nil {
		err = errors.Join(file.Truncate(0), writePID(file))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func writePID(file *os.File) error {
	_, err := fmt.Fprintln(file, os.Getpid())
	return err
}
