package api

import (
	"net/http"
	"strings"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

// Retention is the answer to /api/v1/compactor/retention.
type Retention struct {
	// Policies are in the order in which they are tried; the last is the default, which has no selector.
	Policies []Policy `json:"policies"`
	// Groups are the sets of external labels, without ReplicaLabels, among the blocks that are worked with. Blocks with others
	// are not those of this compactor.
	Groups        []Group  `json:"groups"`
	ReplicaLabels []string `json:"replicaLabels"`
	// DeleteDelaySeconds is how long a marked block stays.
	DeleteDelaySeconds float64 `json:"deleteDelaySeconds"`
}

// Policy is how long blocks are kept, by resolution; 0 is for ever.
type Policy struct {
	Name               string  `json:"name"`
	Selector           string  `json:"selector,omitempty"`
	RawSeconds         float64 `json:"rawSeconds"`
	FiveMinutesSeconds float64 `json:"fiveMinutesSeconds"`
	OneHourSeconds     float64 `json:"oneHourSeconds"`
}

// Group is a set of external labels, and which of the policies counts for it.
type Group struct {
	Labels map[string]string `json:"labels"`
	Policy int               `json:"policy"`
}

func (a *API) retention(*http.Request) (promapi.Data, error) {
	out := NewRetention(a.cfg.Retention, a.runner.Snapshot().Metas)
	out.ReplicaLabels, out.DeleteDelaySeconds = list(a.cfg.ReplicaLabels), a.cfg.DeleteDelay.Seconds()
	return promapi.JSON{Value: out}, nil
}

// NewRetention describes rules as they fall on blocks. Selectors are resolved here, by the code that retention itself goes by, so
// that whoever shows the rules need not understand them.
func NewRetention(r retention.Rules, metas []*block.Meta) Retention {
	out := Retention{Groups: []Group{}}
	for _, p := range r.Policies {
		texts := make([]string, len(p.Matchers))
		for i, m := range p.Matchers {
			texts[i] = m.String()
		}
		out.Policies = append(out.Policies, policyOf(p.Name, "{"+strings.Join(texts, ",")+"}", p.Keep))
	}
	out.Policies = append(out.Policies, policyOf("default", "", r.Default))
	seen := map[uint64]bool{}
	for _, m := range metas {
		hash := block.LabelsHash(m.Thanos.Labels)
		if seen[hash] {
			continue
		}
		seen[hash] = true
		g := Group{Labels: m.Thanos.Labels, Policy: r.PolicyFor(m.Thanos.Labels)}
		if g.Policy < 0 {
			g.Policy = len(r.Policies)
		}
		out.Groups = append(out.Groups, g)
	}
	return out
}

func policyOf(name, selector string, k retention.Keep) Policy {
	return Policy{
		Name: name, Selector: selector,
		RawSeconds: k.Raw.Seconds(), FiveMinutesSeconds: k.FiveMinutes.Seconds(), OneHourSeconds: k.OneHour.Seconds(),
	}
}
