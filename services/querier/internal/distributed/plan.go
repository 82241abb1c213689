// Package distributed lets peers evaluate the parts of a query that concern their own data.
//
// A peer that offers the Query API and announces external labels is an engine for the partition that these labels
// name, replica labels left out. Where each partition belongs to one engine and no other store has a part in the answer,
// aggregations are evaluated there and joined here by promql-engine; the answer equals that over all series. In any
// other case a query runs here, over the Store API: [Plan] decides, by values alone.
package distributed

import (
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// Config is what flags say.
type Config struct {
	// PartitionLabels are those external labels that tell whose data an engine has; empty means all but replica labels.
	PartitionLabels []string
	// Overlapping allows engines with the same partition, for which the engine then has a choice by time.
	Overlapping bool
}

// Partition is one engine and what it owns.
type Partition struct {
	Endpoint endpoints.Endpoint
	// Labels are the label sets that it announces without replica labels, Partition those of them that tell it apart.
	Labels, Partition []labels.Labels
	// MinTime and MaxTime are from when to when it can be asked, Unix milliseconds.
	MinTime, MaxTime int64
}

// Query is what decides about a query.
type Query struct {
	Start, End     time.Time
	Step, Lookback time.Duration
	ReplicaLabels  []string
}

// Plan returns the engines for a query; an error says why it has to run here.
func Plan(list []endpoints.Endpoint, cfg Config, q Query) ([]Partition, error) {
	for what, d := range map[string]time.Duration{"step": q.Step, "lookback": q.Lookback} {
		if d%time.Second != 0 {
			return nil, fmt.Errorf("its %s of %s is not of whole seconds", what, d)
		}
	}
	if q.Start.UnixMilli()%1000 != 0 || q.End.UnixMilli()%1000 != 0 {
		return nil, fmt.Errorf("its times are not of whole seconds")
	}
	var out []Partition
	owners := map[string]string{} // partition to address
	for i := range list {
		e := &list[i]
		if e.Store == nil && !e.Query {
			continue
		}
		switch {
		case e.Err != nil:
			return nil, fmt.Errorf("%s does not answer", e.Describe())
		case !e.Query:
			return nil, fmt.Errorf("%s does not evaluate queries", e.Describe())
		case len(e.LabelSets) == 0:
			return nil, fmt.Errorf("%s announces no labels that name its data", e.Describe())
		}
		p := partition(e, cfg, q.ReplicaLabels)
		for _, set := range p.Partition {
			if set.IsEmpty() {
				return nil, fmt.Errorf("%s has no partition labels", e.Describe())
			}
			if other, taken := owners[set.String()]; taken && other != e.Addr && !cfg.Overlapping {
				return nil, fmt.Errorf("%s and %s both have data of %s", other, e.Addr, set)
			}
			owners[set.String()] = e.Addr
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no endpoint evaluates queries")
	}
	if err := comparable(out); err != nil && !cfg.Overlapping {
		return nil, err
	}
	return out, nil
}

// partition is what e owns.
func partition(e *endpoints.Endpoint, cfg Config, replicaLabels []string) Partition {
	p := Partition{Endpoint: *e, MinTime: math.MinInt64, MaxTime: math.MaxInt64}
	seen := map[string]bool{}
	for _, set := range e.LabelSets {
		full := labels.NewBuilder(set).Del(replicaLabels...).Labels()
		part := full
		if len(cfg.PartitionLabels) > 0 {
			part = labels.NewBuilder(full).Keep(cfg.PartitionLabels...).Labels()
		}
		p.Labels = append(p.Labels, full)
		if key := part.String(); !seen[key] {
			seen[key] = true
			p.Partition = append(p.Partition, part)
		}
	}
	// Where partitions are apart, time does not matter: who has nothing for a time says so.
	if cfg.Overlapping && e.Store != nil {
		p.MinTime, p.MaxTime = e.Store.MinTime, e.Store.MaxTime
	}
	return p
}

// comparable refuses partitions that are told apart by different labels: a series of one might carry the labels of
// another by itself.
func comparable(list []Partition) error {
	var names string
	for _, p := range list {
		for _, set := range p.Partition {
			var have string
			set.Range(func(l labels.Label) { have += l.Name + "," })
			if names != "" && have != names {
				return fmt.Errorf("%s is told apart by other labels than the others", p.Endpoint.Describe())
			}
			names = have
		}
	}
	return nil
}
