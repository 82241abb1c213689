package up

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/promontory-io/promontory/libs/procs"
)

// The set-ups: how live data comes in.
const (
	// SetUpSidecar asks the Prometheus servers through the sidecar beside each.
	SetUpSidecar = "sidecar"
	// SetUpReceive has a Prometheus write to receivers.
	SetUpReceive = "receive"
)

const (
	// ingesters are as many as the replication factor: each keeps every series.
	ingesters = 3
	// ingesterLabel tells the ingesters' copies apart.
	ingesterLabel = "receive_replica"
	// tenantLabel and tenant are what receivers add where a sender does not say whose its data is.
	tenantLabel, tenant = "tenant_id", "default-tenant"
)

// remoteWrite is where Prometheus writes to.
type remoteWrite struct {
	URL             string `yaml:"url"`
	ProtobufMessage string `yaml:"protobuf_message"`
	NativeHistogram bool   `yaml:"send_native_histograms"`
	QueueConfig     struct {
		BatchSendDeadline string `yaml:"batch_send_deadline"`
	} `yaml:"queue_config"`
}

func defaultDataDir(setUp string) string {
	if setUp == SetUpReceive {
		return filepath.Join(".data", "up-receive")
	}
	return filepath.Join(".data", "up")
}

// receiveStack is the stack in which Prometheus pushes.
func receiveStack(l layout) []member {
	prometheus, router := l.prometheus("a", 10), l.router(11)
	prometheus.After = append(prometheus.After, router.Name)
	members := []member{l.shop(), prometheus, router}
	for i := range ingesters {
		members = append(members, l.ingester(i))
	}
	members = append(append(members, l.storeGateway(30)), l.alerting()...)
	return append(members, l.querier(0, members))
}

// receiver is one of ours with a third address, two after its first: where writes come in.
func (l layout) receiver(name string, offset int) (m member, writes string) {
	m, writes = l.own(name, "receiver", offset), l.addr(offset+2)
	m.Args = append(m.Args, "--remote-write.address="+writes)
	m.Listen = append(m.Listen, procs.Address{Purpose: "remote write", Addr: writes})
	return m, writes
}

// router spreads what Prometheus writes over the ingesters, each series to all three of them.
func (l layout) router(offset int) member {
	m, _ := l.receiver("router", offset)
	m.Args = append(m.Args,
		"--receive.hashrings-file="+l.hashringsPath(),
		"--receive.hashrings-algorithm=ketama",
		fmt.Sprintf("--receive.replication-factor=%d", ingesters),
	)
	for i := range ingesters {
		m.After = append(m.After, l.ingester(i).Name)
	}
	m.about = "takes what Prometheus writes, to three ingesters"
	return m
}

// ingester keeps samples, serves them, and uploads its blocks.
func (l layout) ingester(i int) member {
	name := fmt.Sprintf("ingester-%d", i)
	m, _ := l.receiver(name, 14+3*i)
	m.Args = append(m.Args,
		fmt.Sprintf("--label=%s=%q", ingesterLabel, name),
		"--tsdb.path="+l.dir(name),
		"--objstore.config-file="+l.bucketConfig(),
	)
	m.about, m.store = "keeps and serves what was written, uploads its blocks", true
	return m
}

func (l layout) hashringsPath() string { return l.dir("config", "hashrings.json") }

// hashrings is the router's file: one ring of all ingesters.
func (l layout) hashrings() ([]byte, error) {
	var endpoints []string
	for i := range ingesters {
		endpoints = append(endpoints, l.ingester(i).grpc)
	}
	text, err := json.MarshalIndent([]map[string]any{{"hashring": "demo", "endpoints": endpoints}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", l.hashringsPath(), err)
	}
	return append(text, '\n'), nil
}

// remoteWrites is where Prometheus writes to, nowhere in the other set-up.
func (l layout) remoteWrites() []remoteWrite {
	if l.SetUp != SetUpReceive {
		return nil
	}
	_, writes := l.receiver("router", 11)
	to := remoteWrite{URL: "http://" + writes + "/api/v1/receive", ProtobufMessage: "io.prometheus.write.v2.Request", NativeHistogram: true}
	to.QueueConfig.BatchSendDeadline = "1s"
	return []remoteWrite{to}
}

// historyLabels are those of the history of a replica: what comes in now has to be the same series.
func (l layout) historyLabels(replica string) map[string]string {
	labels := externalLabels(replica)
	if l.SetUp == SetUpReceive {
		labels[tenantLabel] = tenant
	}
	return labels
}

func (l layout) aboutPrometheus(replica string) string {
	if l.SetUp == SetUpReceive {
		return "a real Prometheus, scrapes all of these and writes to the router"
	}
	return fmt.Sprintf("a real Prometheus, replica=%q, scrapes all of these", replica)
}

// witnesses tells who has each sample more than once.
func witnesses(members []member) string {
	for _, m := range members {
		if m.job == "receiver" {
			return "three ingesters have it"
		}
	}
	return "two Prometheus servers see it"
}
