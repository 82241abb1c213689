package promtypes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// RuleGroups is the data of /api/v1/rules.
type RuleGroups struct {
	Groups []RuleGroup `json:"groups"`
}

// RuleGroup is a group of rules that are evaluated one after the other.
type RuleGroup struct {
	Name  string `json:"name"`
	File  string `json:"file"`
	Rules []Rule `json:"rules"`
	// Interval and EvaluationTime are seconds.
	Interval       float64   `json:"interval"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
	Limit          int64     `json:"limit"`
	// PartialResponseStrategy is WARN or ABORT; a Prometheus server does not say it, which means ABORT.
	PartialResponseStrategy string `json:"partialResponseStrategy"`
}

// Rule is either an alerting or a recording rule: exactly one of the two is set.
// In JSON it is that rule with a "type" of "alerting" or "recording" at its end.
type Rule struct {
	Alerting  *AlertingRule
	Recording *RecordingRule
}

// AlertingRule is the state of an alerting rule.
type AlertingRule struct {
	// State is inactive, pending or firing; a rule that was never evaluated is unknown.
	State string `json:"state"`
	Name  string `json:"name"`
	Query string `json:"query"`
	// Duration is the rule's "for" in seconds.
	Duration    float64       `json:"duration"`
	Labels      labels.Labels `json:"labels"`
	Annotations labels.Labels `json:"annotations"`
	Alerts      []Alert       `json:"alerts"`
	Health      string        `json:"health"`
	LastError   string        `json:"lastError,omitempty"`
	// EvaluationTime and KeepFiringFor are seconds.
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
	KeepFiringFor  float64   `json:"keepFiringFor"`
}

// RecordingRule is the state of a recording rule.
type RecordingRule struct {
	Name           string        `json:"name"`
	Query          string        `json:"query"`
	Labels         labels.Labels `json:"labels"`
	Health         string        `json:"health"`
	LastError      string        `json:"lastError,omitempty"`
	EvaluationTime float64       `json:"evaluationTime"`
	LastEvaluation time.Time     `json:"lastEvaluation"`
}

// Alert is one active alert of a rule.
type Alert struct {
	Labels      labels.Labels `json:"labels"`
	Annotations labels.Labels `json:"annotations"`
	State       string        `json:"state"`
	ActiveAt    *time.Time    `json:"activeAt,omitempty"`
	Value       string        `json:"value"`
	// PartialResponseStrategy is WARN or ABORT. It is not in a Prometheus server's answer.
	PartialResponseStrategy string `json:"partialResponseStrategy"`
}

// Alerts is the data of /api/v1/alerts.
type Alerts struct {
	Alerts []Alert `json:"alerts"`
}

// RulerAlerts is the data of a ruler's /api/v1/alerts, whose key has a capital letter.
type RulerAlerts struct {
	Alerts []Alert `json:"Alerts"`
}

const (
	typeAlerting  = "alerting"
	typeRecording = "recording"
)

// MarshalJSON implements [json.Marshaler].
func (r Rule) MarshalJSON() ([]byte, error) {
	switch {
	case r.Alerting != nil && r.Recording != nil:
		return nil, fmt.Errorf("rule %q is both alerting and recording", r.Alerting.Name)
	case r.Alerting != nil:
		return json.Marshal(struct {
			AlertingRule
			Type string `json:"type"`
		}{*r.Alerting, typeAlerting})
	case r.Recording != nil:
		return json.Marshal(struct {
			RecordingRule
			Type string `json:"type"`
		}{*r.Recording, typeRecording})
	default:
		return nil, fmt.Errorf("rule is neither alerting nor recording")
	}
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *Rule) UnmarshalJSON(b []byte) error {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return err
	}
	switch kind.Type {
	case typeAlerting:
		var a AlertingRule
		if err := json.Unmarshal(b, &a); err != nil {
			return err
		}
		*r = Rule{Alerting: &a}
	case typeRecording:
		var rec RecordingRule
		if err := json.Unmarshal(b, &rec); err != nil {
			return err
		}
		*r = Rule{Recording: &rec}
	default:
		return fmt.Errorf("rule has unknown type %q in %s", kind.Type, abbreviate(b))
	}
	return nil
}

// abbreviate keeps an error message short whatever the peer sent.
func abbreviate(b []byte) []byte {
	const most = 120
	b = bytes.TrimSpace(b)
	if len(b) > most {
		return append(b[:most:most], "…"...)
	}
	return b
}
