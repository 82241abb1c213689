package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/tools/bench/internal/hapair"
	"github.com/promontory-io/promontory/tools/bench/internal/procstat"
)

// querierConfig sizes the history and says how often each query is put.
type querierConfig struct {
	*Config
	targets, days, runs int
	peers, profile      string
	engines             []string
	args, only          []string
	seconds             int
	// http are the addresses of the processes by name.
	http map[string]string
}

func newQuerierCommand(common *Config) *cobra.Command {
	cfg := &querierConfig{Config: common}
	cmd := &cobra.Command{
		Use:   "querier",
		Short: "Dashboard queries to a querier over a store-gateway with an HA pair's blocks, beside a real Prometheus with one replica's",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.IntVar(&cfg.targets, "targets", 45, fmt.Sprintf("targets of %d series each", hapair.SeriesPerTarget))
	fs.IntVar(&cfg.days, "days", 14, "days of history")
	fs.IntVar(&cfg.runs, "runs", 5, "measured runs of each query, of which the quickest counts")
	fs.StringVar(&cfg.peers, "peers", ".bin", "folder of prometheus")
	fs.StringSliceVar(&cfg.engines, "engine", []string{"prometheus", "thanos"}, "engines of the querier")
	fs.StringArrayVar(&cfg.args, "arg", nil, "argument for the querier")
	fs.StringSliceVar(&cfg.only, "only", nil, "names of queries (default all)")
	fs.StringVar(&cfg.profile, "profile", "", "folder for CPU profiles of all processes")
	fs.IntVar(&cfg.seconds, "profile-seconds", 30, "how long from the start these are taken")
	return cmd
}

// dashboard is one query of the row.
type dashboard struct {
	name, expr string
	span, step time.Duration
}

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// dashboards are what a dashboard asks: panels of an hour to two weeks.
func dashboards() []dashboard {
	const (
		errorRatio = `sum by (job) (rate(http_requests_total{code="400"}[5m])) / on (job) sum by (job) (rate(http_requests_total[5m]))`
		latency    = `histogram_quantile(0.99, sum by (le, job) (rate(http_request_duration_seconds_bucket[5m])))`
		busiest    = `topk(5, sum by (pod) (rate(node_cpu_seconds_total{mode!="idle"}[5m])))`
	)
	return []dashboard{
		{"rate-1h", `rate(http_requests_total{job="api-1"}[5m])`, hour, 15 * time.Second},
		{"sum-1h", `sum by (job) (rate(http_requests_total[5m]))`, hour, 15 * time.Second},
		{"sum-6h", `sum by (job, code) (rate(http_requests_total[5m]))`, 6 * hour, time.Minute},
		{"sum-1d", `sum by (job) (rate(http_requests_total[5m]))`, day, 5 * time.Minute},
		{"sum-7d", `sum by (namespace) (increase(http_requests_total[1h]))`, 7 * day, hour},
		{"sum-14d", `sum by (job) (rate(http_requests_total[1h]))`, 14 * day, hour},
		{"quantile-1h", latency, hour, 15 * time.Second},
		{"quantile-6h", latency, 6 * hour, time.Minute},
		{"quantile-1d", latency, day, 10 * time.Minute},
		{"topk-1h", busiest, hour, 30 * time.Second},
		{"topk-1d", busiest, day, 10 * time.Minute},
		{"join-6h", errorRatio, 6 * hour, time.Minute},
		{"join-2d", `process_resident_memory_bytes / on (instance, job, namespace, pod) go_goroutines`, 2 * day, 10 * time.Minute},
		{"subquery-6h", `max_over_time(sum by (job) (rate(http_requests_total[5m]))[30m:1m])`, 6 * hour, 5 * time.Minute},
		{"subquery-1d", `avg_over_time((sum by (job) (rate(node_cpu_seconds_total{mode="user"}[5m])))[1h:5m])`, day, 15 * time.Minute},
		{"gauge-14d", `avg by (namespace) (process_resident_memory_bytes)`, 14 * day, hour},
		{"up-14d", `avg_over_time(up[1h])`, 14 * day, hour},
	}
}

// side is something that answers queries.
type side struct {
	name, url string
	params    url.Values
	took      map[string]time.Duration // by query, the quickest
	series    map[string]int
}

func (c *querierConfig) run(ctx context.Context, out io.Writer) (err error) {
	root, err := filepath.Abs(filepath.Join(c.Dir, fmt.Sprintf("hapair-%d-%d", c.targets, c.days)))
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	bucket := filepath.Join(root, "bucket")
	spec := hapair.Spec{Targets: c.targets, Days: c.days}
	if _, err := os.Stat(bucket); err != nil {
		fmt.Fprintf(out, "making %d days of %d series of two replicas in %s\n", c.days, c.targets*hapair.SeriesPerTarget, bucket)
		if err := hapair.Generate(bucket, spec); err != nil {
			return err
		}
	}
	scratch, err := os.MkdirTemp(root, "querier-")
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // scratch
	group := procs.New(procs.Config{LogDir: filepath.Join(root, "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	sides, err := c.start(ctx, group, bucket, scratch)
	if err != nil {
		return err
	}
	queries := dashboards()
	if len(c.only) > 0 {
		queries = slices.DeleteFunc(queries, func(d dashboard) bool { return !slices.Contains(c.only, d.name) })
	}
	if err := c.measure(ctx, group, sides, queries, spec.End()); err != nil {
		return err
	}
	return c.print(out, group, sides, queries)
}

// start runs all processes and returns Prometheus first, then the querier with each engine.
func (c *querierConfig) start(ctx context.Context, group *procs.Group, bucket, scratch string) ([]*side, error) {
	addrs, err := procs.FreeAddrs(5)
	if err != nil {
		return nil, err
	}
	tsdb := filepath.Join(scratch, "prometheus")
	if err := linkReplica(bucket, tsdb, "r0"); err != nil {
		return nil, err
	}
	config := filepath.Join(scratch, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		return nil, fmt.Errorf("configuration of prometheus: %w", err)
	}
	peers, err := filepath.Abs(c.peers)
	if err != nil {
		return nil, fmt.Errorf("folder of prometheus: %w", err)
	}
	specs := []procs.Spec{
		{
			// Its blocks stay as they are: those of the bucket are not compacted either.
			Name: "prometheus", Binary: filepath.Join(peers, "prometheus"), Ready: "http://" + addrs[0] + "/-/ready",
			Args: []string{
				"--config.file=" + config, "--storage.tsdb.path=" + tsdb, "--web.listen-address=" + addrs[0], "--storage.tsdb.retention.time=100y",
				"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
			},
		},
		{
			Name: "store-gateway", Binary: filepath.Join(c.Bin, "store-gateway"), Ready: "http://" + addrs[1] + "/-/ready",
			Args: []string{
				"--data-dir=" + filepath.Join(scratch, "store-gateway"), "--objstore.config={type: FILESYSTEM, config: {directory: " + bucket + "}}",
				"--http-address=" + addrs[1], "--grpc-address=" + addrs[2],
			},
		},
		{
			Name: "querier", Binary: filepath.Join(c.Bin, "querier"), Ready: "http://" + addrs[3] + "/-/ready",
			Args: append([]string{
				"--http-address=" + addrs[3], "--grpc-address=" + addrs[4], "--endpoint=" + addrs[2], "--query.replica-label=replica",
			}, c.args...),
		},
	}
	for _, s := range specs {
		if err := group.Start(ctx, s); err != nil {
			return nil, err
		}
	}
	c.http = map[string]string{"prometheus": addrs[0], "store-gateway": addrs[1], "querier": addrs[3]}
	sides := []*side{{name: "prometheus", url: "http://" + addrs[0]}}
	for _, e := range c.engines {
		sides = append(sides, &side{name: "querier, engine " + e, url: "http://" + addrs[3], params: url.Values{"engine": {e}}})
	}
	for _, s := range sides {
		s.took, s.series = map[string]time.Duration{}, map[string]int{}
	}
	return sides, nil
}

// linkReplica makes to the blocks of one replica, of hard links.
func linkReplica(bucket, to, replica string) error {
	metas, err := filepath.Glob(filepath.Join(bucket, "*", block.MetaFilename))
	if err != nil {
		return fmt.Errorf("look into %s: %w", bucket, err)
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("folder of prometheus: %w", err)
	}
	for _, path := range metas {
		m, err := block.ReadMetaDir(filepath.Dir(path))
		if err != nil {
			return err
		}
		if m.Thanos.Labels["replica"] != replica {
			continue
		}
		if err := linkTree(filepath.Dir(path), filepath.Join(to, m.ULID.String())); err != nil {
			return err
		}
	}
	return nil
}

// measure puts each query to all sides in turn, once to warm caches and then as often as it counts.
func (c *querierConfig) measure(ctx context.Context, group *procs.Group, sides []*side, queries []dashboard, end int64) error {
	for _, name := range []string{"prometheus", "store-gateway", "querier"} {
		if err := procstat.ResetPeak(group.Process(name).PID()); err != nil {
			return err
		}
	}
	var profiles errgroup.Group
	for name, addr := range c.http {
		if c.profile != "" {
			profiles.Go(func() error {
				return fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, c.seconds), filepath.Join(c.profile, name+".pprof"))
			})
		}
	}
	for _, q := range queries {
		for run := range c.runs + 1 {
			for _, s := range sides {
				took, series, err := s.ask(ctx, q, end)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, q.name, err)
				}
				s.series[q.name] = series
				if best, ok := s.took[q.name]; run > 0 && (!ok || took < best) {
					s.took[q.name] = took
				}
			}
		}
	}
	return profiles.Wait()
}

// ask puts one query and reads the whole answer.
func (s *side) ask(ctx context.Context, q dashboard, end int64) (time.Duration, int, error) {
	params := url.Values{
		"query": {q.expr}, "step": {strconv.FormatFloat(q.step.Seconds(), 'f', -1, 64)},
		"start": {strconv.FormatInt(end/1000-int64(q.span/time.Second), 10)}, "end": {strconv.FormatInt(end/1000, 10)},
	}
	for k, v := range s.params {
		params[k] = v
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/query_range?"+params.Encode(), http.NoBody)
	if err != nil {
		return 0, 0, fmt.Errorf("make request: %w", err)
	}
	begin := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("ask: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	took := time.Since(begin)
	if err != nil {
		return 0, 0, fmt.Errorf("read answer: %w", err)
	}
	var answer struct {
		Status, Error string
		Warnings      []string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, 0, fmt.Errorf("decode answer of status %d: %w", resp.StatusCode, err)
	}
	answer.Warnings = slices.DeleteFunc(answer.Warnings, func(w string) bool { return strings.HasPrefix(w, "PromQL info") })
	if answer.Status != "success" || len(answer.Warnings) > 0 {
		return 0, 0, fmt.Errorf("status %s: %s %s", answer.Status, answer.Error, strings.Join(answer.Warnings, "; "))
	}
	return took, len(answer.Data.Result), nil
}

// print writes a line for each query, and the row.
func (c *querierConfig) print(out io.Writer, group *procs.Group, sides []*side, queries []dashboard) error {
	yardstick := sides[0]
	logs := make([]float64, len(sides))
	for _, q := range queries {
		line := fmt.Sprintf("querier, %-12s %3d series, prometheus %7.1f ms", q.name, yardstick.series[q.name], millis(yardstick.took[q.name]))
		for i, s := range sides[1:] {
			ratio := float64(s.took[q.name]) / float64(yardstick.took[q.name])
			logs[i+1] += math.Log(ratio)
			line += fmt.Sprintf(", %s %7.1f ms (%.2f ×)", strings.TrimPrefix(s.name, "querier, "), millis(s.took[q.name]), ratio)
			if s.series[q.name] != yardstick.series[q.name] {
				line += fmt.Sprintf(" with %d series", s.series[q.name])
			}
		}
		fmt.Fprintln(out, line)
	}
	for i, s := range sides[1:] {
		fmt.Fprintf(out, "%s, geometric mean over %d queries: %.2f × Prometheus (goal 0.80)\n", s.name, len(queries), math.Exp(logs[i+1]/float64(len(queries))))
	}
	for _, name := range []string{"querier", "store-gateway", "prometheus"} {
		pid := group.Process(name).PID()
		peak, err := procstat.PeakMemory(pid)
		if err != nil {
			return err
		}
		cpu, err := procstat.CPU(pid)
		if err != nil {
			return err
		}
		goal := ""
		if name == "querier" {
			goal = " (goal 700 MB)"
		}
		fmt.Fprintf(out, "querier, %-14s peak %d MB%s, %.1f CPU-s in all\n", name+":", peak>>20, goal, cpu.Seconds())
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
