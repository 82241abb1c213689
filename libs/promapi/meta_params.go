package promapi

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// MetadataQuery is a request to /series, /labels or /label/<name>/values.
type MetadataQuery struct {
	Selection
	Start, End time.Time
	// Matchers are the selectors of match[]; a series counts if one of them selects it.
	Matchers [][]*labels.Matcher
	// Limit is how many results are wanted at most; 0 is without limit.
	Limit int
}

// SeriesQuery reads a request to /series, for which match[] is needed.
func (f Form) SeriesQuery(def Defaults, now time.Time) (*MetadataQuery, error) {
	if len(f.Values["match[]"]) == 0 {
		return nil, BadData("no match[] parameter provided")
	}
	return f.LabelsQuery(def, now)
}

// LabelsQuery reads a request to /labels or /label/<name>/values.
func (f Form) LabelsQuery(def Defaults, now time.Time) (*MetadataQuery, error) {
	q := &MetadataQuery{}
	start, end := MinTime, MaxTime
	if def.MetadataRange > 0 {
		start, end = now.Add(-def.MetadataRange), now
	}
	var err error
	if q.Start, q.End, err = f.TimeRange(start, end); err != nil {
		return nil, err
	}
	if q.Matchers, err = f.Selectors("match[]"); err != nil {
		return nil, err
	}
	if q.Selection, err = f.selection(def); err != nil {
		return nil, err
	}
	if q.Limit, err = f.Limit(); err != nil {
		return nil, err
	}
	return q, nil
}

// RuleType restricts a request to /rules.
type RuleType string

// The rule types a request may ask for.
const (
	RulesAll       RuleType = ""
	RulesAlerting  RuleType = "alert"
	RulesRecording RuleType = "record"
)

// RulesQuery is a request to /rules.
type RulesQuery struct {
	Type RuleType
	// Match holds the selectors of match[] as sent, all of which parse.
	Match           []string
	Names           []string
	Groups          []string
	Files           []string
	PartialResponse bool
}

// RulesQuery reads a request to /rules or, of which it takes only partial_response, /alerts.
func (f Form) RulesQuery(partialResponse bool) (*RulesQuery, error) {
	q := &RulesQuery{
		Match:  f.Values["match[]"],
		Names:  f.Values["rule_name[]"],
		Groups: f.Values["rule_group[]"],
		Files:  f.Values["file[]"],
	}
	switch t := RuleType(strings.ToLower(f.Get("type"))); t {
	case RulesAll, RulesAlerting, RulesRecording:
		q.Type = t
	default:
		return nil, paramError("type", fmt.Errorf("not supported value %q", f.Get("type")))
	}
	if _, err := f.Selectors("match[]"); err != nil {
		return nil, err
	}
	var err error
	q.PartialResponse, err = f.Bool("partial_response", partialResponse)
	return q, err
}

// TargetState restricts a request to /targets.
type TargetState string

// The target states a request may ask for.
const (
	TargetsAny     TargetState = "any"
	TargetsActive  TargetState = "active"
	TargetsDropped TargetState = "dropped"
)

// TargetState reads the parameter "state" of /targets; not given means any.
func (f Form) TargetState() (TargetState, error) {
	switch s := TargetState(strings.ToLower(f.Get("state"))); s {
	case "":
		return TargetsAny, nil
	case TargetsAny, TargetsActive, TargetsDropped:
		return s, nil
	default:
		return "", paramError("state", fmt.Errorf("not supported value %q, try any, active or dropped", f.Get("state")))
	}
}

// MetricMetadataQuery is a request to /metadata.
type MetricMetadataQuery struct {
	// Metric restricts the answer to one metric name; empty means all.
	Metric string
	// Limit is how many metrics are wanted: -1 is without limit, 0 asks for none.
	Limit           int
	PartialResponse bool
}

// MetricMetadataQuery reads a request to /metadata.
func (f Form) MetricMetadataQuery(partialResponse bool) (*MetricMetadataQuery, error) {
	q := &MetricMetadataQuery{Metric: f.Get("metric"), Limit: -1}
	if v := f.Get("limit"); v != "" {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return nil, paramError("limit", errors.New("limit must be a number"))
		}
		q.Limit = max(int(n), -1)
	}
	var err error
	q.PartialResponse, err = f.Bool("partial_response", partialResponse)
	return q, err
}

// ExemplarsQuery is a request to /query_exemplars.
type ExemplarsQuery struct {
	// Query is PromQL, not yet parsed.
	Query           string
	Start, End      time.Time
	PartialResponse bool
}

// ExemplarsQuery reads a request to /query_exemplars.
func (f Form) ExemplarsQuery(partialResponse bool) (*ExemplarsQuery, error) {
	q := &ExemplarsQuery{Query: f.Get("query")}
	var err error
	if q.Start, q.End, err = f.TimeRange(MinTime, MaxTime); err != nil {
		return nil, err
	}
	q.PartialResponse, err = f.Bool("partial_response", partialResponse)
	return q, err
}

// TSDBStatusQuery is a request to /status/tsdb.
type TSDBStatusQuery struct {
	// Limit is how many entries each list has at most.
	Limit int
	// Matchers are the selectors of match[]; they are held against the external labels of the stores.
	Matchers        [][]*labels.Matcher
	PartialResponse bool
}

// TSDBStatusQuery reads a request to /status/tsdb.
func (f Form) TSDBStatusQuery(partialResponse bool) (*TSDBStatusQuery, error) {
	q := &TSDBStatusQuery{Limit: 10}
	if v := f.Get("limit"); v != "" {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 1 {
			return nil, paramError("limit", errors.New("limit must be a positive number"))
		}
		q.Limit = int(n)
	}
	var err error
	if q.Matchers, err = f.Selectors("match[]"); err != nil {
		return nil, err
	}
	q.PartialResponse, err = f.Bool("partial_response", partialResponse)
	return q, err
}

// ParseLabelName reads the label name of a /label/<name>/values path. Names that are no plain identifier may come as
// they are or in the U__ escaping, which only ASCII letters, digits and underscores survive.
func ParseLabelName(s string) (string, error) {
	name := s
	if strings.HasPrefix(s, "U__") {
		name = model.UnescapeName(s, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return "", BadData("invalid label name: %q", s)
	}
	return name, nil
}
