package endpoints

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
)

// Labels of the metric of connections.
const (
	LabelExternalLabels = "external_labels"
	LabelStoreType      = "store_type"
	LabelIPPort         = "ip_port"
)

// maxLabelText bounds the text of label sets in a metric.
const maxLabelText = 1000

type metrics struct {
	duplicates prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, connLabels []string, source Source) *metrics {
	if reg != nil {
		reg.MustRegister(&connections{
			desc: prometheus.NewDesc("thanos_store_nodes_grpc_connections",
				"How many endpoints are connected and healthy.", connLabels, nil),
			labels: connLabels, source: source,
		})
	}
	return &metrics{
		duplicates: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "thanos_query_duplicated_endpoint_addresses_total",
			Help: "How often an address was named twice in one round of discovery.",
		}),
	}
}

// connections counts the healthy endpoints of a list.
type connections struct {
	desc   *prometheus.Desc
	labels []string
	source Source
}

func (c *connections) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *connections) Collect(ch chan<- prometheus.Metric) {
	type group struct {
		values []string
		count  float64
	}
	groups := map[string]*group{}
	list := c.source.Endpoints()
	for i := range list {
		e := &list[i]
		if e.Err != nil {
			continue
		}
		values := make([]string, len(c.labels))
		for j, name := range c.labels {
			switch name {
			case LabelExternalLabels:
				values[j] = externalLabelsText(e.LabelSets)
			case LabelStoreType:
				values[j] = e.ComponentType
			case LabelIPPort:
				values[j] = e.Addr
			}
		}
		key := strings.Join(values, "\xff")
		if groups[key] == nil {
			groups[key] = &group{values: values}
		}
		groups[key].count++
	}
	for _, g := range groups {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, g.count, g.values...)
	}
}

// externalLabelsText is label sets as one label value of bounded size.
func externalLabelsText(sets []labels.Labels) string {
	if len(sets) == 0 {
		return "no_external_labels"
	}
	texts := make([]string, len(sets))
	for i, s := range sets {
		texts[i] = s.String()
	}
	text := strings.Join(texts, ",")
	if len(text) > maxLabelText {
		text = strings.ToValidUTF8(text[:maxLabelText], "")
	}
	return text
}
