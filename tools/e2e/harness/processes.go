package harness

import (
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// Service is a running process of ours: where it listens, and its name in the stack.
type Service struct{ Name, HTTP, GRPC string }

// URL is the address of its HTTP server.
func (s Service) URL() string { return "http://" + s.HTTP }

// Prometheus is a running Prometheus server.
type Prometheus struct {
	Service

	// DataDir is the folder of its TSDB.
	DataDir string
	// ConfigFile is its configuration; write it anew and POST /-/reload to change it.
	ConfigFile string
}

// PrometheusConfig is what a test says about a Prometheus server.
type PrometheusConfig struct {
	// ExternalLabels make it one of a kind; a sidecar demands some.
	ExternalLabels map[string]string
	// Scrape maps jobs to addresses; it scrapes itself too, as job "prometheus". Every second.
	Scrape map[string][]string
	// Rules is the content of a rule file; empty is none.
	Rules string
	// DataDir is a folder with blocks to begin with; empty is a fresh one.
	DataDir string
	// Args are further arguments.
	Args []string
}

// Prometheus starts a real Prometheus server and returns when it is ready, which is before it has scraped.
func (s *Stack) Prometheus(name string, c PrometheusConfig) Prometheus {
	s.t.Helper()
	p, spec := s.PrometheusSpec(name, c)
	s.Start(spec)
	return p
}

// PrometheusSpec is how Prometheus would start it, for a test that starts several at once.
func (s *Stack) PrometheusSpec(name string, c PrometheusConfig) (Prometheus, procs.Spec) {
	s.t.Helper()
	addr := Addrs(s.t, 1)[0]
	p := Prometheus{Service: Service{Name: name, HTTP: addr}, DataDir: c.DataDir, ConfigFile: s.Dir(name + ".yml")}
	if p.DataDir == "" {
		p.DataDir = s.Dir(name)
	}
	s.writePrometheus(p, c)
	return p, procs.Spec{
		Name: name, Binary: Peer(s.t, "prometheus"), Source: "make peers",
		Args: append([]string{
			"--config.file=" + p.ConfigFile, "--storage.tsdb.path=" + p.DataDir, "--web.listen-address=" + addr,
			"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
			// Blocks of a test may be of any time.
			"--storage.tsdb.retention.time=100y",
			"--web.enable-lifecycle", "--web.enable-admin-api", "--web.enable-remote-write-receiver",
		}, c.Args...),
		Listen: []procs.Address{{Purpose: "HTTP", Addr: addr}},
		Ready:  p.URL() + "/-/ready",
	}
}

func (s *Stack) writePrometheus(p Prometheus, c PrometheusConfig) {
	s.t.Helper()
	jobs := maps.Clone(c.Scrape)
	if jobs == nil {
		jobs = map[string][]string{}
	}
	jobs["prometheus"] = append(slices.Clone(jobs["prometheus"]), p.HTTP)
	var scrapes []map[string]any
	for _, job := range slices.Sorted(maps.Keys(jobs)) {
		scrapes = append(scrapes, map[string]any{"job_name": job, "static_configs": []any{map[string]any{"targets": jobs[job]}}})
	}
	config := map[string]any{
		"global":         map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": c.ExternalLabels},
		"scrape_configs": scrapes,
	}
	if c.Rules != "" {
		// Servers with the same rules have them from the same file: groups of replicas are one only where files are.
		path := s.Dir(fmt.Sprintf("rules-%08x.yml", crc32.ChecksumIEEE([]byte(c.Rules))))
		require.NoError(s.t, os.WriteFile(path, []byte(c.Rules), 0o644))
		config["rule_files"] = []string{path}
	}
	text, err := yaml.Marshal(config)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(p.ConfigFile, text, 0o644))
}

// Sidecar starts a sidecar beside p. With a bucket configuration file among args it uploads.
func (s *Stack) Sidecar(name string, p Prometheus, args ...string) Service {
	s.t.Helper()
	service, spec := s.ServiceSpec(name, "sidecar", append([]string{"--prometheus.url=" + p.URL(), "--tsdb.path=" + p.DataDir}, args...)...)
	s.Start(spec)
	return service
}

// StoreGateway starts a store gateway over the bucket of a configuration file.
func (s *Stack) StoreGateway(name, bucketConfig string, args ...string) Service {
	s.t.Helper()
	service, spec := s.ServiceSpec(name, "store-gateway", append([]string{
		"--data-dir=" + s.Dir(name), "--objstore.config-file=" + bucketConfig, "--sync-block-duration=1s",
	}, args...)...)
	s.Start(spec)
	return service
}

// Querier starts a querier over stores, with "replica" as the replica label.
func (s *Stack) Querier(name string, stores []Service, args ...string) Service {
	s.t.Helper()
	own := []string{"--query.replica-label=replica"}
	for _, store := range stores {
		own = append(own, "--endpoint="+store.GRPC)
	}
	service, spec := s.ServiceSpec(name, "querier", append(own, args...)...)
	s.Start(spec)
	return service
}

// ServiceSpec is how one of our services is run, with free addresses.
func (s *Stack) ServiceSpec(name, binary string, args ...string) (Service, procs.Spec) {
	s.t.Helper()
	addrs := Addrs(s.t, 2)
	service := Service{Name: name, HTTP: addrs[0], GRPC: addrs[1]}
	return service, procs.Spec{
		Name: name, Binary: Binary(s.t, binary), Source: "make build",
		Args:   append([]string{"--http-address=" + service.HTTP, "--grpc-address=" + service.GRPC, "--log.level=debug"}, args...),
		Listen: []procs.Address{{Purpose: "HTTP", Addr: service.HTTP}, {Purpose: "gRPC", Addr: service.GRPC}},
		Ready:  service.URL() + "/-/ready",
	}
}

// FilesystemBucket returns the configuration file and the folder of a bucket in a folder of the stack. Extra lines, of
// fault injection for example, follow the configuration as they are.
func (s *Stack) FilesystemBucket(name, extra string) (config, dir string) {
	s.t.Helper()
	config, dir = s.Dir(name+".yml"), s.Dir(name)
	require.NoError(s.t, os.MkdirAll(dir, 0o755))
	text := fmt.Sprintf("type: FILESYSTEM\nconfig:\n  directory: %s\n%s", dir, extra)
	require.NoError(s.t, os.WriteFile(config, []byte(text), 0o644))
	return config, dir
}
