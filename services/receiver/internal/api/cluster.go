package api

import (
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
)

// Cluster is what is known of the other nodes; *forward.Forwarder is one.
type Cluster interface {
	// Rings are the current ones, nil before the first.
	Rings() *hashring.Rings
	// Local is our own address in the rings.
	Local() string
	// Peer tells how a node is doing; ok is false for one that was never called.
	Peer(addr string) (s forward.PeerStatus, ok bool)
}

// ringStatus is one hashring, in the words of its configuration.
type ringStatus struct {
	Name              string            `json:"hashring"`
	Algorithm         string            `json:"algorithm"`
	ReplicationFactor int               `json:"replicationFactor"`
	Tenants           []string          `json:"tenants"`
	TenantMatcherType string            `json:"tenantMatcherType"`
	ShardSize         int               `json:"shardSize"`
	ExternalLabels    map[string]string `json:"externalLabels"`
	Nodes             []nodeStatus      `json:"nodes"`
}

type nodeStatus struct {
	Address string `json:"address"`
	Zone    string `json:"az"`
	// State is that of [forward.PeerStatus], or "local".
	State        string     `json:"state"`
	Role         string     `json:"role"`
	Failures     int        `json:"failures"`
	LastError    string     `json:"lastError"`
	LeftAlone    *time.Time `json:"leftAloneUntil"`
	PendingBytes int64      `json:"pendingBytes"`
}

type rings []ringStatus

// EncodeJSON is part of promapi.Data.
func (r rings) EncodeJSON(e *promapi.Encoder) { e.Value([]ringStatus(r)) }

// Hashrings answers GET /api/v1/status/hashrings: the rings in use and how their nodes are doing. A node that keeps what it
// gets has none.
func (a *API) Hashrings() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { a.respond(w, a.hashrings()) })
}

func (a *API) hashrings() rings {
	out := rings{}
	current := a.deps.Cluster.Rings()
	if current == nil || !a.cfg.Router {
		return out
	}
	for _, c := range current.Configs() {
		s := ringStatus{
			Name: c.Name, Algorithm: c.Algorithm, ReplicationFactor: a.cfg.Replicas, Tenants: append([]string{}, c.Tenants...),
			TenantMatcherType: c.TenantMatcherType, ShardSize: c.Shuffle.ShardSize, ExternalLabels: map[string]string{}, Nodes: []nodeStatus{},
		}
		if s.TenantMatcherType == "" {
			s.TenantMatcherType = "exact"
		}
		for k, v := range c.ExternalLabels {
			s.ExternalLabels[k] = v
		}
		for _, e := range c.Endpoints {
			s.Nodes = append(s.Nodes, a.nodeStatus(e))
		}
		out = append(out, s)
	}
	return out
}

func (a *API) nodeStatus(e hashring.Endpoint) nodeStatus {
	n := nodeStatus{Address: e.Address, Zone: e.Zone, State: "idle"}
	if e.Address == a.deps.Cluster.Local() {
		n.State = "local"
		return n
	}
	p, ok := a.deps.Cluster.Peer(e.Address)
	if !ok {
		return n
	}
	n.State, n.Role, n.Failures, n.PendingBytes = p.State, p.Role, p.Failures, p.PendingBytes
	if p.LastError != nil {
		n.LastError = p.LastError.Error()
	}
	if time.Now().Before(p.Until) {
		until := p.Until.UTC()
		n.LeftAlone = &until
	}
	return n
}

// tenantHealth is one tenant of this node.
type tenantHealth struct {
	Tenant         string        `json:"tenant"`
	State          string        `json:"state"`
	Error          string        `json:"error"`
	ExternalLabels labels.Labels `json:"externalLabels"`
	Series         uint64        `json:"series"`
	Blocks         int           `json:"blocks"`
	// Times are Unix milliseconds, 0 where there are no samples.
	MinTime int64 `json:"minTime"`
	MaxTime int64 `json:"maxTime"`
}

type tenantList []tenantHealth

// EncodeJSON is part of promapi.Data.
func (t tenantList) EncodeJSON(e *promapi.Encoder) { e.Value([]tenantHealth(t)) }

// TenantList answers GET /api/v1/status/tenants: all tenants of this node, sorted by name.
func (a *API) TenantList() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := tenantList{}
		for _, t := range a.deps.Tenants.Tenants() {
			s := t.Status()
			h := tenantHealth{
				Tenant: s.Tenant, State: s.State, ExternalLabels: s.External, Series: s.Series, Blocks: s.Blocks,
				MinTime: s.MinTime, MaxTime: s.MaxTime,
			}
			if s.Why != nil {
				h.Error = s.Why.Error()
			}
			out = append(out, h)
		}
		a.respond(w, out)
	})
}
