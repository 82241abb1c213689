package up

import (
	"path/filepath"
	"strconv"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
)

// member is one process of the stack and what is said of it.
type member struct {
	procs.Spec
	// about is its line in the summary.
	about string
	// http is the address of its HTTP server, and job the name under which Prometheus scrapes it.
	http, job string
	// store tells that the querier asks it, at its gRPC address.
	store bool
	grpc  string
}

// portSpan is how many ports from Config.BasePort on belong to the stack.
const portSpan = 32

// layout knows where everything of a stack is.
type layout struct {
	Config
	self string // our own program
	data string // absolute
}

func (l layout) addr(offset int) string { return "127.0.0.1:" + strconv.Itoa(l.BasePort+offset) }
func (l layout) dir(parts ...string) string {
	return filepath.Join(append([]string{l.data}, parts...)...)
}
func (l layout) logs() string         { return l.dir("logs") }
func (l layout) bucket() string       { return l.dir("bucket") }
func (l layout) bucketConfig() string { return l.dir("config", "bucket.yml") }
func (l layout) prometheusConfig(replica string) string {
	return l.dir("config", "prometheus-"+replica+".yml")
}

// replicas are the two sides of the HA pair: the value of their label `replica`.
var replicas = []string{"a", "b"}

// externalLabels are those of a replica, of its history too.
func externalLabels(replica string) map[string]string {
	return map[string]string{"cluster": "demo", "replica": replica}
}

// stack is what runs, in the order in which a reader would follow the data. A new service is one more entry.
func stack(l layout) []member {
	if l.SetUp == SetUpReceive {
		return receiveStack(l)
	}
	members := []member{l.shop()}
	for i, replica := range replicas {
		members = append(members, l.prometheus(replica, 10+10*i), l.sidecar(replica, 11+10*i))
	}
	members = append(append(members, l.storeGateway(30)), l.alerting()...)
	return append(members, l.querier(0, members))
}

// own is one of our services: HTTP on the port at offset, gRPC on the one after it.
func (l layout) own(name, binary string, offset int) member {
	m := member{http: l.addr(offset), grpc: l.addr(offset + 1), job: binary}
	m.Spec = procs.Spec{
		Name: name, Binary: filepath.Join(l.BinDir, binary), Source: "make build",
		Args:   []string{"--http-address=" + m.http, "--grpc-address=" + m.grpc},
		Listen: []procs.Address{{Purpose: "HTTP", Addr: m.http}, {Purpose: "gRPC", Addr: m.grpc}},
		Ready:  "http://" + m.http + "/-/ready",
	}
	return m
}

// shop serves the metrics of the demo targets, which history holds too.
func (l layout) shop() member {
	addr := l.addr(2)
	return member{
		Spec: procs.Spec{
			Name: "demo-shop", Binary: l.self, Args: []string{"demo", "--http-address=" + addr},
			Listen: []procs.Address{{Purpose: "HTTP", Addr: addr}}, Ready: "http://" + addr + "/-/ready",
		},
		about: "metrics of a shop that does not exist, for Prometheus to scrape", http: addr,
	}
}

func (l layout) prometheus(replica string, offset int) member {
	addr := l.addr(offset)
	return member{
		Spec: procs.Spec{
			Name: "prometheus-" + replica, Binary: filepath.Join(l.PeersDir, "prometheus"), Source: "make peers",
			Args: []string{
				"--config.file=" + l.prometheusConfig(replica),
				"--storage.tsdb.path=" + l.dir("prometheus-"+replica),
				"--web.listen-address=" + addr,
				// Blocks of one size: compaction is not Prometheus' job where blocks are uploaded.
				"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
				"--storage.tsdb.retention.time=2d",
				"--web.enable-lifecycle",
			},
			Listen: []procs.Address{{Purpose: "HTTP", Addr: addr}},
			Ready:  "http://" + addr + "/-/ready", After: []string{"demo-shop"},
		},
		about: l.aboutPrometheus(replica), http: addr, job: "prometheus",
	}
}

func (l layout) sidecar(replica string, offset int) member {
	prometheus := l.prometheus(replica, offset-1)
	m := l.own("sidecar-"+replica, "sidecar", offset)
	m.Args = append(m.Args,
		"--prometheus.url=http://"+prometheus.http,
		"--tsdb.path="+l.dir("prometheus-"+replica),
		"--objstore.config-file="+l.bucketConfig(),
	)
	m.After = []string{prometheus.Name}
	m.about, m.store = "serves its live data and uploads its blocks", true
	return m
}

func (l layout) storeGateway(offset int) member {
	m := l.own("store-gateway", "store-gateway", offset)
	m.Args = append(m.Args,
		"--data-dir="+l.dir("store-gateway"),
		"--objstore.config-file="+l.bucketConfig(),
		"--sync-block-duration=30s",
	)
	m.about, m.store = "serves the blocks of the bucket", true
	return m
}

func (l layout) querier(offset int, others []member) member {
	m := l.own("querier", "querier", offset)
	m.Args = append(m.Args, "--query.replica-label=replica")
	if l.SetUp == SetUpReceive {
		m.Args = append(m.Args, "--query.replica-label="+ingesterLabel)
	}
	for _, other := range others {
		if other.store {
			m.Args = append(m.Args, "--endpoint="+other.grpc)
			m.After = append(m.After, other.Name)
		}
	}
	m.about = "PromQL over all of it, replicas merged"
	// Its stores are found soon after it is ready; slow machines take their time.
	m.StartTimeout = 2 * time.Minute
	return m
}

// specs are the processes of the members.
func specs(members []member) []procs.Spec {
	var list []procs.Spec
	for _, m := range members {
		list = append(list, m.Spec)
	}
	return list
}
