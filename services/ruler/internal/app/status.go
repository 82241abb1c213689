package app

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/services/ruler/internal/evaluate"
	"github.com/promontory-io/promontory/services/ruler/internal/notify"
	"github.com/promontory-io/promontory/services/ruler/internal/peers"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

// status is what /api/v1/status/ruler answers.
type status struct {
	// Mode is stateful or stateless.
	Mode           string        `json:"mode"`
	ExternalLabels labels.Labels `json:"externalLabels"`
	Rules          rulesStatus   `json:"rules"`
	// Queriers and Alertmanagers are those known now.
	Queriers      []peers.Contact `json:"queriers"`
	Alertmanagers []peers.Contact `json:"alertmanagers"`
	// QueuedAlerts is how many wait to be sent.
	QueuedAlerts int `json:"queuedAlerts"`
	// Gaps is how many there are, and SkippedEvaluations how many evaluations are missing in them.
	Gaps               int `json:"gaps"`
	SkippedEvaluations int `json:"skippedEvaluations"`
}

type rulesStatus struct {
	Groups int `json:"groups"`
	Rules  int `json:"rules"`
	// Failing is how many rules had no result the last time.
	Failing int `json:"failing"`
	// Firing and Pending are alerts.
	Firing  int `json:"firing"`
	Pending int `json:"pending"`
	// LoadedAt is when rule files were last read with success; LastError is that of a failure since.
	LoadedAt  time.Time `json:"loadedAt"`
	LastError string    `json:"lastError,omitempty"`
}

// statusOf returns what tells the status.
func statusOf(external labels.Labels, stateless bool, e *evaluate.Evaluator, r *reloader, client *query.Client, sender *notify.Sender, queue *notify.Queue) func() any {
	return func() any {
		s := status{
			Mode: "stateful", ExternalLabels: external, Queriers: client.Contacts(), Alertmanagers: sender.Contacts(), QueuedAlerts: queue.Len(),
		}
		if stateless {
			s.Mode = "stateless"
		}
		s.Rules.LoadedAt, s.Rules.LastError = r.last()
		counts := e.Counts()
		s.Rules.Groups, s.Rules.Rules, s.Rules.Failing = counts.Groups, counts.Rules, counts.Failing
		s.Rules.Firing, s.Rules.Pending = counts.Firing, counts.Pending
		for _, g := range e.Gaps() {
			s.Gaps++
			s.SkippedEvaluations += g.Evaluations
		}
		return s
	}
}
