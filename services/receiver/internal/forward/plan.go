package forward

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/promontory-io/promontory/services/receiver/internal/hashring"
	"github.com/promontory-io/promontory/services/receiver/internal/quorum"
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
	return nil
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

// answer is what a node said of a group.
type answer struct {
	group    *group
	failures []verdict.Failure // places counted through the group's parts
	kind     verdict.Kind
	err      error
}

// run sends all groups and waits until every series is decided.
func (p *plan) run(ctx context.Context, release func()) ([]verdict.Failure, error) {
	replicas, needed := p.neededOf()
	tally := quorum.New(p.total, replicas, needed)
	for _, f := range p.bad {
		tally.Settle(f.Series, verdict.Invalid)
	}
	fresh := make([][]remotewrite.Metadata, len(p.parts))
	for i := range p.parts {
		fresh[i] = p.f.seen.fresh(p.parts[i].Tenant, p.parts[i].Metadata)
	}
	answers := make(chan answer, len(p.groups))
	// The replicas are wanted even when the sender has gone or was answered already.
	sendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.f.cfg.Timeout)
	var flights sync.WaitGroup
	for _, g := range p.groups {
		flights.Go(func() { answers <- p.deliver(sendCtx, g, fresh) })
	}
	// The series are in use until both the messages and the answer are done.
	answered := make(chan struct{})
	defer close(answered)
	p.f.flights.Go(func() {
		flights.Wait()
		cancel()
		<-answered
		release()
	})
	c := collector{plan: p, tally: tally}
	for range p.groups {
		if tally.Decided() {
			break
		}
		select {
		case a := <-answers:
			c.count(a)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for replicas: %w", context.Cause(ctx))
		}
	}
	failures := c.failures()
	p.f.metrics.replicated(failures)
	return failures, nil
}

// deliver brings a group to its node.
func (p *plan) deliver(ctx context.Context, g *group, fresh [][]remotewrite.Metadata) answer {
	a := answer{group: g}
	if g.addr == p.f.cfg.Local && p.f.deps.Local != nil {
		a.failures, a.kind, a.err = p.deliverLocal(ctx, g, fresh)
		return a
	}
	start := time.Now()
	peer, err := p.f.peer(g.addr)
	if err != nil {
		a.kind, a.err = verdict.Unavailable, err
		return a
	}
	out := outgoing{replica: int64(g.replica)}
	for _, gp := range g.parts {
		ts := p.parts[gp.part]
		ts.Pick, ts.Metadata = gp.pick, fresh[gp.part]
		out.parts = append(out.parts, ts)
	}
	switch {
	case len(out.parts) == 1 || peer.ours.Load():
		out.tuples = len(out.parts) > 1
		a.failures, a.kind, a.err = peer.send(ctx, &out)
	default:
		a.failures, a.kind, a.err = sendOneByOne(ctx, peer, &out)
	}
	p.f.metrics.forwarded(a.err == nil, time.Since(start))
	return a
}

// sendOneByOne sends each tenant's series in a message of its own, the only form that all releases of
// peers read. The first error stands for all.
func sendOneByOne(ctx context.Context, peer *peer, all *outgoing) (failures []verdict.Failure, kind verdict.Kind, err error) {
	offset := uint32(0)
	for i := range all.parts {
		one := outgoing{parts: all.parts[i : i+1], replica: all.replica}
		fs, k, serr := peer.send(ctx, &one)
		n := uint32(all.parts[i].count())
		if serr != nil {
			// The others may still be taken: only these failed.
			for j := range n {
				fs = append(fs, verdict.Failure{Series: j, Kind: k})
			}
			if len(fs) > 0 {
				fs[0].Reason = serr.Error()
			}
			err = errors.Join(err, serr)
		}
		for _, f := range fs {
			f.Series += offset
			failures = append(failures, f)
		}
		offset += n
	}
	return failures, verdict.OK, nil
}

func (p *plan) deliverLocal(ctx context.Context, g *group, fresh [][]remotewrite.Metadata) (all []verdict.Failure, kind verdict.Kind, err error) {
	offset := uint32(0)
	for _, gp := range g.parts {
		ts := &p.parts[gp.part]
		fs, err := p.f.deps.Local.Append(ctx, ts.Tenant, ts.Series, gp.pick)
		if err != nil {
			return nil, verdict.Unavailable, err
		}
		p.f.deps.Local.Describe(ts.Tenant, fresh[gp.part])
		for _, f := range fs {
			f.Series += offset
			all = append(all, f)
		}
		offset += uint32(len(gp.pick))
	}
	return all, verdict.OK, nil
}

// collector turns answers of groups into answers for series.
type collector struct {
	plan    *plan
	tally   *quorum.Tally
	details map[uint32]verdict.Failure // the gravest of each series that failed somewhere
	errs    []error
}

func (c *collector) count(a answer) {
	if a.err != nil && len(c.errs) < verdict.MaxReasons {
		c.errs = append(c.errs, a.err)
	}
	next := 0 // failures come in order of their places
	place := uint32(0)
	for _, gp := range a.group.parts {
		offset := uint32(c.plan.offsets[gp.part])
		for _, s := range gp.pick {
			kind := a.kind
			for next < len(a.failures) && a.failures[next].Series == place {
				kind = max(kind, a.failures[next].Kind)
				c.detail(offset+s, a.failures[next])
				next++
			}
			c.tally.Add(offset+s, kind)
			place++
		}
	}
}

func (c *collector) detail(series uint32, f verdict.Failure) {
	if c.details == nil {
		c.details = map[uint32]verdict.Failure{}
	}
	old, ok := c.details[series]
	if !ok || f.Kind > old.Kind || f.Kind == old.Kind && old.Reason == "" {
		c.details[series] = f
	}
}

// failures are the series that were not written, in order.
func (c *collector) failures() []verdict.Failure {
	out := c.plan.bad
	badAt := map[uint32]bool{}
	for _, f := range out {
		badAt[f.Series] = true
	}
	errs := c.errs
	for i := range c.plan.parts {
		for s := range c.plan.parts[i].Series {
			series := uint32(c.plan.offsets[i] + s)
			kind := c.tally.Outcome(series)
			if kind == verdict.OK || badAt[series] {
				continue
			}
			sr := &c.plan.parts[i].Series[s]
			f := verdict.Failure{Series: series, Kind: kind, Floats: sr.Floats, Histograms: sr.Histograms, Exemplars: sr.Exemplars}
			if d, ok := c.details[series]; ok && d.Kind == kind {
				if d.Floats+d.Histograms+d.Exemplars > 0 {
					f.Floats, f.Histograms, f.Exemplars = d.Floats, d.Histograms, d.Exemplars
				}
				f.Reason = d.Reason
			}
			if f.Reason == "" && len(errs) > 0 {
				f.Reason, errs = errs[0].Error(), errs[1:]
			}
			out = append(out, f)
		}
	}
	return out
}
