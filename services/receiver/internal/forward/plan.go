package forward

import (
	"context"
	"fmt"
	"slices"

	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// plan is one write: what goes where.
type plan struct {
	f       *Forwarder
	parts   []TenantSeries
	replica int
	offsets []int // of each part's first series
	total   int
	groups  []*group
	index   map[groupKey]*group
	bad     []verdict.Failure
	whole   bool // one node, ours, has all of it
}

type groupKey struct {
	addr    string
	replica int
}

// group is what goes to one node in one message.
type group struct {
	groupKey
	parts []groupPart
	// shared, where it is set, is common to all groups that have the same series of one part, for the same copy.
	shared *shared
	// insisted is set once the group was sent a second time, because a quorum hung on it.
	insisted bool
}

type groupPart struct {
	part int
	pick []uint32
}

// build decides who gets what. Series whose labels are invalid go nowhere.
func (p *plan) build(rings *hashring.Rings) error {
	p.index = map[groupKey]*group{}
	p.whole = true
	for i := range p.parts {
		p.offsets = append(p.offsets, p.total)
		p.total += len(p.parts[i].Series)
		ring, err := rings.For(p.parts[i].Tenant)
		if err != nil {
			return err
		}
		if nodes := ring.Nodes(); p.f.deps.Local == nil || len(nodes) != 1 || nodes[0].Address != p.f.cfg.Local {
			p.whole = false
		}
	}
	if p.total > maxSeries {
		return fmt.Errorf("%w: %d series", remotewrite.ErrTooLarge, p.total)
	}
	if p.whole {
		return nil
	}
	for i := range p.parts {
		ring, err := rings.For(p.parts[i].Tenant)
		if err != nil {
			return err
		}
		p.spread(i, ring)
	}
	p.share()
	return nil
}

// share finds the groups that get the same message as the first one that is sent: with as many nodes as replicas
// all of them do.
func (p *plan) share() {
	var first *group
	for _, g := range p.groups {
		switch {
		case len(g.parts) != 1 || g.addr == p.f.cfg.Local:
		case first == nil:
			first = g
		case g.replica == first.replica && g.parts[0].part == first.parts[0].part && slices.Equal(g.parts[0].pick, first.parts[0].pick):
			if first.shared == nil {
				first.shared = new(shared)
			}
			g.shared = first.shared
		}
	}
}

func (p *plan) allLocal() bool { return p.whole }

// spread gives the series of one part to their owners.
func (p *plan) spread(part int, ring *hashring.Ring) {
	ts := &p.parts[part]
	nodes, replicas := ring.Nodes(), ring.Replicas()
	// One list for each node and replica, or each node where it does not care for the number.
	picks := make([][]uint32, len(nodes)*replicas)
	slot := make([]int, len(nodes)*replicas)
	for n := range nodes {
		merge := p.replica == 0 && p.merges(nodes[n].Address)
		for r := range replicas {
			slot[n*replicas+r] = n*replicas + r
			if merge {
				slot[n*replicas+r] = n * replicas
			}
		}
	}
	for k := range picks {
		// As many as it will be about, and a few more.
		if n := len(ts.Series) / len(nodes); slot[k] == k {
			if merged := k%replicas == 0 && replicas > 1 && slot[k+1] == k; merged {
				n *= replicas
			}
			picks[k] = make([]uint32, 0, n+n/8+8)
		}
	}
	key := hashring.AppendPart(make([]byte, 0, 512), ts.Tenant)
	head := len(key)
	for i := range ts.Series {
		s := &ts.Series[i]
		hash, buf, err := keyOf(key, head, s)
		key = buf
		if err != nil {
			p.refuse(part, i, err)
			continue
		}
		owners := ring.Owners(hash)
		if p.replica > 0 {
			r := p.replica - 1
			k := int(owners[r])*replicas + r
			picks[k] = append(picks[k], uint32(i))
			continue
		}
		for r, n := range owners {
			k := slot[int(n)*replicas+r]
			picks[k] = append(picks[k], uint32(i))
		}
	}
	for k, pick := range picks {
		if len(pick) > 0 {
			g := p.group(groupKey{nodes[k/replicas].Address, k%replicas + 1})
			g.parts = append(g.parts, groupPart{part: part, pick: pick})
		}
	}
}

// merges reports whether all that is for a node may go in one message, whatever copy it is.
func (p *plan) merges(addr string) bool {
	if addr == p.f.cfg.Local {
		return true
	}
	peer, err := p.f.peer(addr)
	return err == nil && peer.ingester.Load()
}

func (p *plan) group(k groupKey) *group {
	g := p.index[k]
	if g == nil {
		g = &group{groupKey: k}
		p.index[k] = g
		p.groups = append(p.groups, g)
	}
	return g
}

func (p *plan) refuse(part, series int, err error) {
	s := &p.parts[part].Series[series]
	f := verdict.Failure{
		Series: uint32(p.offsets[part] + series), Kind: verdict.Invalid,
		Floats: s.Floats, Histograms: s.Histograms, Exemplars: s.Exemplars,
	}
	if len(p.bad) < verdict.MaxReasons {
		f.Reason = remotewrite.Describe(s.Labels) + ": " + err.Error()
	}
	p.bad = append(p.bad, f)
}

// writeLocal is the short way: no hashes, no copies, no votes.
func (p *plan) writeLocal(ctx context.Context) (all []verdict.Failure, err error) {
	for i := range p.parts {
		ts := &p.parts[i]
		if len(ts.Series) > 0 {
			fs, err := p.f.deps.Local.Append(ctx, ts.Tenant, ts.Series, nil)
			if err != nil {
				return nil, err
			}
			for _, f := range fs {
				f.Series += uint32(p.offsets[i])
				all = append(all, f)
			}
		}
		p.f.deps.Local.Describe(ts.Tenant, ts.Metadata) // the tenant may be new until now
	}
	return all, nil
}
