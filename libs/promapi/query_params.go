package promapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// maxPoints is how many steps a range query may have.
const maxPoints = 11000

// defaultPoints is how many steps a range query has that does not say its step.
const defaultPoints = 250

// Engine is the name of a query engine.
type Engine string

// The engines a request may name.
const (
	EnginePrometheus Engine = "prometheus"
	EngineThanos     Engine = "thanos"
)

// Defaults is what holds where a request does not say otherwise, usually set by flags.
type Defaults struct {
	// Engine evaluates queries.
	Engine Engine
	// ReplicaLabels are the labels that tell replicas apart.
	ReplicaLabels []string
	// PartialResponse allows answers from which a failed store is missing.
	PartialResponse bool
	// AutoDownsampling makes "auto" the default resolution.
	AutoDownsampling bool
	// InstantMaxSourceResolution is what "auto" means for an instant query.
	InstantMaxSourceResolution time.Duration
	// Step is the smallest step of a range query that does not say its step.
	Step time.Duration
	// MetadataRange is how far back series and label calls look that do not say their start; 0 is without bound.
	MetadataRange time.Duration
}

// ShardInfo restricts an answer to the series of one shard.
type ShardInfo struct {
	ShardIndex  int64    `json:"shard_index"`
	TotalShards int64    `json:"total_shards"`
	By          bool     `json:"by"`
	Labels      []string `json:"labels"`
}

// Selection is what queries, series and label calls say about where data come from.
type Selection struct {
	// Dedup merges replicas. Label calls do not know it.
	Dedup bool
	// ReplicaLabels tell replicas apart.
	ReplicaLabels []string
	// StoreMatchers restrict the stores: one must match. Empty means all stores.
	StoreMatchers [][]*labels.Matcher
	// PartialResponse allows an answer from which failed stores are missing.
	PartialResponse bool
}

// QueryOptions are the parameters that instant and range queries share.
type QueryOptions struct {
	Selection
	// Query is PromQL, not yet parsed; it may be empty.
	Query  string
	Engine Engine
	// Timeout is how long the query may take; 0 if the request does not say.
	Timeout time.Duration
	// LookbackDelta is how old a sample may be to count; 0 if the request does not say.
	LookbackDelta time.Duration
	// MaxSourceResolution is the coarsest resolution of downsampled data that may be used; 0 means raw data only.
	MaxSourceResolution time.Duration
	// AutoResolution tells that MaxSourceResolution was not chosen by the client but by "auto".
	AutoResolution bool
	// Shard is nil if the request wants all series.
	Shard *ShardInfo
	// Analyze asks for the costs per operator.
	Analyze bool
	// Stats is empty, or any text to have statistics in the answer; "all" asks for those per step.
	Stats string
}

// InstantQuery is a request to /query.
type InstantQuery struct {
	QueryOptions
	Time time.Time
}

// RangeQuery is a request to /query_range. Step is positive, and there are at most 11000 of them.
type RangeQuery struct {
	QueryOptions
	Start, End time.Time
	Step       time.Duration
}

// InstantQuery reads a request to /query at the time now.
func (f Form) InstantQuery(def Defaults, now time.Time) (*InstantQuery, error) {
	q := &InstantQuery{}
	var err error
	if q.Time, err = f.Time("time", now); err != nil {
		return nil, err
	}
	if q.QueryOptions, err = f.queryOptions(def, def.InstantMaxSourceResolution); err != nil {
		return nil, err
	}
	return q, nil
}

// RangeQuery reads a request to /query_range.
func (f Form) RangeQuery(def Defaults) (*RangeQuery, error) {
	q := &RangeQuery{}
	var err error
	if q.Start, err = f.RequiredTime("start"); err != nil {
		return nil, err
	}
	if q.End, err = f.RequiredTime("end"); err != nil {
		return nil, err
	}
	if q.End.Before(q.Start) {
		return nil, NewError(ErrorBadData, errTimeOrder)
	}
	span := spanMillis(q.Start, q.End)
	if q.Step, err = f.step(span, def.Step); err != nil {
		return nil, err
	}
	if span/uint64(q.Step.Milliseconds()) > maxPoints {
		return nil, BadData("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
	}
	if q.QueryOptions, err = f.queryOptions(def, q.Step/5); err != nil {
		return nil, err
	}
	return q, nil
}

// spanMillis returns the milliseconds from start to end, which must not be before it. The whole range of
// times is longer than a time.Duration, and than an int64 of milliseconds, but not than a uint64 of them.
func spanMillis(start, end time.Time) uint64 {
	return uint64(end.UnixMilli()) - uint64(start.UnixMilli())
}

// step returns the step given, or one of whole seconds that gives about 250 points and is not below smallest.
func (f Form) step(span uint64, smallest time.Duration) (time.Duration, error) {
	const longest = uint64(math.MaxInt64 / int64(time.Second))
	seconds := min(span/1000/defaultPoints, longest)
	def := max(time.Duration(seconds)*time.Second, smallest)
	if def <= 0 {
		def = time.Second
	}
	step, err := f.Duration("step", def)
	if err != nil {
		return 0, err
	}
	if step <= 0 {
		return 0, BadData("zero or negative query resolution step widths are not accepted. Try a positive integer")
	}
	if step < time.Millisecond {
		return 0, paramError("step", errors.New("must be at least 1ms, the resolution of timestamps"))
	}
	return step, nil
}

func (f Form) queryOptions(def Defaults, auto time.Duration) (QueryOptions, error) {
	o := QueryOptions{
		Query:   f.Get("query"),
		Analyze: f.Get("analyze") == "true" || f.Get("analyze") == "1",
		Stats:   f.Get("stats"),
	}
	var err error
	if o.Selection, err = f.selection(def); err != nil {
		return o, err
	}
	if o.Engine, err = f.engine(def.Engine); err != nil {
		return o, err
	}
	if o.Timeout, err = f.timeout(); err != nil {
		return o, err
	}
	if o.LookbackDelta, err = f.Duration("lookback_delta", 0); err != nil {
		return o, err
	}
	o.LookbackDelta = max(o.LookbackDelta, 0)
	if o.MaxSourceResolution, o.AutoResolution, err = f.resolution(def.AutoDownsampling, auto); err != nil {
		return o, err
	}
	if o.Shard, err = f.shard(); err != nil {
		return o, err
	}
	return o, nil
}

func (f Form) selection(def Defaults) (Selection, error) {
	s := Selection{ReplicaLabels: def.ReplicaLabels}
	if given := f.Values["replicaLabels[]"]; len(given) > 0 {
		s.ReplicaLabels = given
	}
	var err error
	if s.Dedup, err = f.Bool("dedup", true); err != nil {
		return s, err
	}
	if s.PartialResponse, err = f.Bool("partial_response", def.PartialResponse); err != nil {
		return s, err
	}
	if s.StoreMatchers, err = f.matcherSets("storeMatch[]"); err != nil {
		return s, err
	}
	return s, nil
}

func (f Form) engine(def Engine) (Engine, error) {
	switch e := Engine(f.Get("engine")); e {
	case "":
		return def, nil
	case EnginePrometheus, EngineThanos:
		return e, nil
	default:
		return "", BadData("'%s' bad engine", string(e))
	}
}

func (f Form) timeout() (time.Duration, error) {
	if f.Get("timeout") == "" {
		return 0, nil
	}
	d, err := f.Duration("timeout", 0)
	if err != nil {
		return 0, err
	}
	if d <= 0 {
		return 0, paramError("timeout", errors.New("must be positive"))
	}
	return d, nil
}

// resolution reads max_source_resolution; auto is what "auto" stands for in this request.
func (f Form) resolution(autoByDefault bool, auto time.Duration) (time.Duration, bool, error) {
	const name = "max_source_resolution"
	v := f.Get(name)
	if v == "auto" || v == "" && autoByDefault {
		return auto, true, nil
	}
	d, err := f.Duration(name, 0)
	if err != nil {
		return 0, false, err
	}
	if d < 0 {
		return 0, false, BadData("negative '%s' is not accepted. Try a positive integer", name)
	}
	return d, false, nil
}

func (f Form) shard() (*ShardInfo, error) {
	const name = "shard_info"
	v := f.Get(name)
	if v == "" {
		return nil, nil
	}
	s := &ShardInfo{}
	if err := json.Unmarshal([]byte(v), s); err != nil {
		return nil, paramError(name, err)
	}
	if s.TotalShards < 0 || s.ShardIndex < 0 || s.TotalShards > 0 && s.ShardIndex >= s.TotalShards {
		return nil, paramError(name, fmt.Errorf("shard_index %d is not within total_shards %d", s.ShardIndex, s.TotalShards))
	}
	if s.TotalShards == 0 {
		return nil, nil
	}
	return s, nil
}
