// Package endpoints knows the peers of a querier: which there are, what each of
// them last said about itself, which cannot be asked now and what that may cost.
//
// A [Set] compares what discovery names with the connections it has, polls the
// Info API of each peer, and publishes a list of immutable [Endpoint] values after each
// round. Whoever answers requests takes that list and decides by values; there is
// no lock and no I/O between a request and the list.
//
// A peer that was lost, by discovery or because it does not answer, stays in the
// list with its error for the unhealthy timeout, a strict one for ever: an answer without it is
// incomplete, and only the list can say so.
package endpoints

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
)

// Component types as peers announce them. Everything else is ComponentUnknown.
const (
	ComponentQuery   = "query"
	ComponentRule    = "rule"
	ComponentSidecar = "sidecar"
	ComponentStore   = "store"
	ComponentReceive = "receive"
	ComponentDebug   = "debug"
	ComponentUnknown = "unknown-store-api"
)

// Endpoint is what is known about one peer at one moment. Values are immutable and
// may be kept; the connection is closed when the set forgets the peer, after which
// calls on it fail.
type Endpoint struct {
	// Addr is the address as it is shown, logged and matched by storeMatch: host:port,
	// or for a group the name that was configured.
	Addr string
	// Conn is the connection, made with storeapi.DialOption.
	Conn grpc.ClientConnInterface
	// ComponentType is one of the constants of this package.
	ComponentType string
	// LabelSets are the external label sets announced, selector labels of a nested querier included.
	LabelSets []labels.Labels
	// Store is nil when the peer does not serve the Store API.
	Store *StoreInfo
	// Exemplars is nil when the peer does not serve the Exemplars API.
	Exemplars *TimeRange
	// These tell which other APIs the peer serves.
	Rules, Targets, Metadata, Status, Query bool
	// Group says that the address stands for several replicas with the same data, over which calls are balanced.
	Group bool
	// Strict peers are asked although their last check failed.
	Strict bool
	// Err is why the last check of the peer failed; nil for a healthy one. A peer with an error is asked
	// only when it is strict, see [Endpoint.Askable]; in any case it is a source that answers
	// may lack.
	Err error
	// LastCheck is when Info was last asked, zero before.
	LastCheck time.Time
}

// TimeRange is Unix milliseconds, both ends inclusive.
type TimeRange struct {
	MinTime, MaxTime int64
}

// Overlaps reports whether the ranges have a common point.
func (r TimeRange) Overlaps(mint, maxt int64) bool { return mint <= r.MaxTime && maxt >= r.MinTime }

// fullRange is that of a peer which never said.
var fullRange = TimeRange{MinTime: math.MinInt64, MaxTime: math.MaxInt64}

// StoreInfo is what a peer says about its Store API.
type StoreInfo struct {
	TimeRange
	// Client asks it.
	Client *storeapi.Client
	// SupportsSharding says that the peer filters by shard itself.
	SupportsSharding bool
	// SupportsWithoutReplicaLabels says that the peer removes replica labels and keeps the order.
	SupportsWithoutReplicaLabels bool
	// TSDBs are the databases behind the peer, empty when it did not say.
	TSDBs []TSDBInfo
}

// TSDBInfo is one database or merged stream of blocks behind a peer.
type TSDBInfo struct {
	TimeRange
	Labels labels.Labels
}

// Askable reports whether requests go to the peer.
func (e *Endpoint) Askable() bool { return e.Err == nil || e.Strict }

// Describe names the peer in messages: its address, type and external labels.
func (e *Endpoint) Describe() string {
	if len(e.LabelSets) == 0 {
		return fmt.Sprintf("endpoint %s (%s, without external labels)", e.Addr, e.ComponentType)
	}
	// A receiver may have a set for each of a thousand tenants.
	const most = 8
	var sets []string
	for _, s := range e.LabelSets[:min(most, len(e.LabelSets))] {
		sets = append(sets, s.String())
	}
	if more := len(e.LabelSets) - most; more > 0 {
		sets = append(sets, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("endpoint %s (%s, %s)", e.Addr, e.ComponentType, strings.Join(sets, " "))
}

// Said returns warnings of the peer with its name before each: what a store cannot read, and a querier its stores,
// they tell without telling where they are.
func (e *Endpoint) Said(warnings []string) []string {
	if len(warnings) == 0 {
		return nil
	}
	out := make([]string, len(warnings))
	for i, text := range warnings {
		out[i] = e.Describe() + " warns: " + text
	}
	return out
}

// Source hands out the present list of peers. *Set is one.
type Source interface {
	// Endpoints returns the list, sorted by address. It must not be changed.
	Endpoints() []Endpoint
}

// Static is a fixed list.
type Static []Endpoint

// Endpoints implements Source.
func (s Static) Endpoints() []Endpoint { return s }
