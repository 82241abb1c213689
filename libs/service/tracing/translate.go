package tracing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Ports on which back ends take OTLP.
const (
	portOTLPGRPC = "4317"
	portOTLPHTTP = "4318"
)

// jaegerConfig is the config of type JAEGER. Jaeger dropped its own protocols for OTLP, so
// collector and agent addresses become those of Jaeger's OTLP receiver on the same host.
type jaegerConfig struct {
	ServiceName               string        `yaml:"service_name"`
	Disabled                  bool          `yaml:"disabled"`
	RPCMetrics                bool          `yaml:"rpc_metrics"`
	Tags                      string        `yaml:"tags"`
	SamplerType               string        `yaml:"sampler_type"`
	SamplerParam              float64       `yaml:"sampler_param"`
	SamplerManagerHostPort    string        `yaml:"sampler_manager_host_port"`
	SamplerMaxOperations      int           `yaml:"sampler_max_operations"`
	SamplerRefreshInterval    time.Duration `yaml:"sampler_refresh_interval"`
	SamplerParentConfig       parentSampled `yaml:"sampler_parent_config"`
	SamplingServerURL         string        `yaml:"sampling_server_url"`
	OperationNameLateBinding  bool          `yaml:"operation_name_late_binding"`
	InitialSamplingRate       float64       `yaml:"initial_sampler_rate"`
	ReporterMaxQueueSize      int           `yaml:"reporter_max_queue_size"`
	ReporterFlushInterval     time.Duration `yaml:"reporter_flush_interval"`
	ReporterLogSpans          bool          `yaml:"reporter_log_spans"`
	ReporterDisableReconnect  bool          `yaml:"reporter_disable_attempt_reconnecting"`
	ReporterReconnectInterval time.Duration `yaml:"reporter_attempt_reconnect_interval"`
	Endpoint                  string        `yaml:"endpoint"`
	User                      string        `yaml:"user"`
	Password                  string        `yaml:"password"`
	AgentHost                 string        `yaml:"agent_host"`
	AgentPort                 int           `yaml:"agent_port"`
	TraceID128Bit             bool          `yaml:"traceid_128bit"`
}

// parentSampled says whether to follow a parent that was sampled.
type parentSampled struct {
	Local  bool `yaml:"local_parent_sampled"`
	Remote bool `yaml:"remote_parent_sampled"`
}

func (c jaegerConfig) plan() (plan, error) {
	p := plan{disabled: c.Disabled, serviceName: c.ServiceName}
	var errs []error
	var err error
	if p.attributes, err = parseTags(c.Tags); err != nil {
		errs = append(errs, err)
	}
	if p.exporter, err = c.exporter(); err != nil {
		errs = append(errs, err)
	}
	if p.sampler, err = c.sampler(&p); err != nil {
		errs = append(errs, err)
	}
	if c.ReporterMaxQueueSize > 0 {
		p.batch = append(p.batch, sdktrace.WithMaxQueueSize(c.ReporterMaxQueueSize))
	}
	if c.ReporterFlushInterval > 0 {
		p.batch = append(p.batch, sdktrace.WithBatchTimeout(c.ReporterFlushInterval))
	}
	p.warnings = append(p.warnings, fmt.Sprintf("traces go to Jaeger by OTLP/%s at %s, which Jaeger 1.35 and later listens on; use type OTLP to choose another address",
		p.exporter.protocol, p.exporter.endpoint))
	if unused := c.unused(); len(unused) > 0 {
		p.warnings = append(p.warnings, "without effect: "+strings.Join(unused, ", "))
	}
	return p, errors.Join(errs...)
}

// unused names the keys that mean nothing any more.
func (c jaegerConfig) unused() []string {
	var out []string
	for name, used := range map[string]bool{
		"rpc_metrics": c.RPCMetrics, "reporter_log_spans": c.ReporterLogSpans,
		"operation_name_late_binding": c.OperationNameLateBinding, "agent_port": c.AgentPort != 0,
		"reporter_disable_attempt_reconnecting": c.ReporterDisableReconnect,
		"reporter_attempt_reconnect_interval":   c.ReporterReconnectInterval != 0,
	} {
		if used {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (c jaegerConfig) exporter() (exporterConfig, error) {
	out := exporterConfig{protocol: protocolGRPC, insecure: true}
	if c.Endpoint == "" {
		host := c.AgentHost
		if host == "" {
			host = "localhost"
		}
		out.endpoint = net.JoinHostPort(host, portOTLPGRPC)
		return out, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Hostname() == "" {
		return out, fmt.Errorf("endpoint: %q is no URL of a collector, such as http://jaeger:14268/api/traces", c.Endpoint)
	}
	out.protocol, out.insecure = protocolHTTP, u.Scheme != "https"
	out.endpoint = net.JoinHostPort(u.Hostname(), portOTLPHTTP)
	if c.User != "" {
		out.headers = map[string]string{
			"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password)),
		}
	}
	return out, nil
}

func (c jaegerConfig) sampler(p *plan) (sdktrace.Sampler, error) {
	var root sdktrace.Sampler
	switch strings.ToLower(c.SamplerType) {
	case "", "const":
		// An absent sampler with parameter 0 means const 0, as it always has.
		root = sdktrace.NeverSample()
		if c.SamplerParam != 0 {
			root = sdktrace.AlwaysSample()
		}
	case "probabilistic":
		if !(c.SamplerParam >= 0 && c.SamplerParam <= 1) {
			return nil, fmt.Errorf("sampler_param: %v is not from 0 to 1, as sampler_type probabilistic needs it", c.SamplerParam)
		}
		root = sdktrace.TraceIDRatioBased(c.SamplerParam)
	case "ratelimiting":
		if !(c.SamplerParam >= 0) {
			return nil, fmt.Errorf("sampler_param: %v is negative", c.SamplerParam)
		}
		root = newRateLimited(c.SamplerParam, time.Now)
	case "remote":
		rate := c.InitialSamplingRate
		if rate == 0 {
			rate = 0.001
		}
		p.warnings = append(p.warnings, fmt.Sprintf("the sampler is not fetched from Jaeger (sampler_type remote): %g of all traces are sampled, see initial_sampler_rate", rate))
		root = sdktrace.TraceIDRatioBased(rate)
	default:
		return nil, fmt.Errorf("sampler_type: unknown sampler %q, want const, probabilistic, ratelimiting or remote", c.SamplerType)
	}
	// A trace is followed where its sender has sampled it, unless the configuration speaks of parents and
	// leaves that kind out.
	var opts []sdktrace.ParentBasedSamplerOption
	if said := c.SamplerParentConfig; said != (parentSampled{}) {
		if !said.Local {
			opts = append(opts, sdktrace.WithLocalParentSampled(root))
		}
		if !said.Remote {
			opts = append(opts, sdktrace.WithRemoteParentSampled(root))
		}
	}
	return sdktrace.ParentBased(root, opts...), nil
}

// lightstepConfig is the config of type LIGHTSTEP.
type lightstepConfig struct {
	AccessToken string `yaml:"access_token"`
	Collector   struct {
		Scheme    string `yaml:"scheme"`
		Host      string `yaml:"host"`
		Port      int    `yaml:"port"`
		Plaintext bool   `yaml:"plaintext"`
	} `yaml:"collector"`
	Tags string `yaml:"tags"`
}

func (c lightstepConfig) plan() (plan, error) {
	if c.AccessToken == "" {
		return plan{}, errors.New("access_token: empty")
	}
	attrs, err := parseTags(c.Tags)
	if err != nil {
		return plan{}, err
	}
	host, port := c.Collector.Host, c.Collector.Port
	if host == "" {
		host = "ingest.lightstep.com"
	}
	insecure := c.Collector.Plaintext || c.Collector.Scheme == "http"
	if port == 0 {
		port = 443
		if insecure {
			port = 80
		}
	}
	e := exporterConfig{
		protocol: protocolGRPC,
		endpoint: net.JoinHostPort(host, strconv.Itoa(port)),
		insecure: insecure,
		headers:  map[string]string{"lightstep-access-token": c.AccessToken},
	}
	return plan{
		attributes: attrs,
		sampler:    sdktrace.ParentBased(sdktrace.AlwaysSample()),
		exporter:   e,
		warnings:   []string{"traces go to Lightstep by OTLP/grpc at " + e.endpoint},
	}, nil
}

// elasticConfig is the config of type ELASTIC_APM. Where the server is, is said by the environment
// variables of Elastic's agents.
type elasticConfig struct {
	ServiceName        string   `yaml:"service_name"`
	ServiceVersion     string   `yaml:"service_version"`
	ServiceEnvironment string   `yaml:"service_environment"`
	SampleRate         *float64 `yaml:"sample_rate"`
}

func (c elasticConfig) plan() (plan, error) {
	p := plan{serviceName: c.ServiceName}
	if c.ServiceVersion != "" {
		p.attributes = append(p.attributes, attribute.String("service.version", c.ServiceVersion))
	}
	if c.ServiceEnvironment != "" {
		p.attributes = append(p.attributes, attribute.String("deployment.environment", c.ServiceEnvironment))
	}
	rate := 1.0
	if c.SampleRate != nil {
		rate = *c.SampleRate
	}
	if !(rate >= 0 && rate <= 1) {
		return p, fmt.Errorf("sample_rate: %v is not from 0 to 1", rate)
	}
	p.sampler = sdktrace.ParentBased(sdktrace.TraceIDRatioBased(rate))

	server := os.Getenv("ELASTIC_APM_SERVER_URL")
	if server == "" {
		server = "http://localhost:8200"
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return p, fmt.Errorf("environment variable ELASTIC_APM_SERVER_URL: %q is no URL", server)
	}
	p.exporter = exporterConfig{
		protocol: protocolHTTP,
		endpoint: u.Host,
		urlPath:  strings.TrimSuffix(u.Path, "/") + "/v1/traces",
		insecure: u.Scheme == "http",
		headers:  map[string]string{},
	}
	if key := os.Getenv("ELASTIC_APM_API_KEY"); key != "" {
		p.exporter.headers["Authorization"] = "ApiKey " + key
	} else if token := os.Getenv("ELASTIC_APM_SECRET_TOKEN"); token != "" {
		p.exporter.headers["Authorization"] = "Bearer " + token
	}
	p.warnings = append(p.warnings, "traces go to Elastic APM by OTLP/http at "+p.exporter.endpoint+
		" (ELASTIC_APM_SERVER_URL); other ELASTIC_APM_* variables than that, _API_KEY and _SECRET_TOKEN are without effect")
	return p, nil
}

// googleConfig is the config of type GOOGLE_CLOUD.
type googleConfig struct {
	ServiceName  string `yaml:"service_name"`
	ProjectID    string `yaml:"project_id"`
	SampleFactor uint64 `yaml:"sample_factor"`
}

func (c googleConfig) plan() (plan, error) {
	if c.ProjectID == "" {
		return plan{}, errors.New("project_id: empty")
	}
	// One trace in SampleFactor; 0 and 1 mean every one.
	sampler := sdktrace.AlwaysSample()
	if c.SampleFactor > 1 {
		sampler = sdktrace.TraceIDRatioBased(1 / float64(c.SampleFactor))
	}
	return plan{
		serviceName: c.ServiceName,
		attributes:  []attribute.KeyValue{attribute.String("gcp.project_id", c.ProjectID)},
		sampler:     sdktrace.ParentBased(sampler),
		exporter: exporterConfig{
			protocol:   protocolGRPC,
			endpoint:   "telemetry.googleapis.com:443",
			headers:    map[string]string{"x-goog-user-project": c.ProjectID},
			googleAuth: true,
		},
		warnings: []string{"traces go to Google Cloud by OTLP/grpc at telemetry.googleapis.com:443; the Telemetry API has to be enabled for project " + c.ProjectID},
	}, nil
}

// parseTags reads key=value,key=value; a value ${NAME:default} is that of the environment variable.
func parseTags(text string) ([]attribute.KeyValue, error) {
	var out []attribute.KeyValue
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, val, ok := strings.Cut(pair, "=")
		key, val = strings.TrimSpace(key), strings.TrimSpace(val)
		if !ok || key == "" {
			return nil, fmt.Errorf("tags: %q is not of the form key=value", pair)
		}
		if inner, ok := strings.CutPrefix(val, "${"); ok && strings.HasSuffix(inner, "}") {
			name, def, _ := strings.Cut(strings.TrimSuffix(inner, "}"), ":")
			if val = os.Getenv(name); val == "" {
				val = def
			}
		}
		out = append(out, attribute.String(key, val))
	}
	return out, nil
}
