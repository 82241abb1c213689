package forward

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/promontory-io/promontory/services/receiver/internal/quorum"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// answer is what a node said of a group; its failures' places are counted through the group's parts.
type answer struct {
	group *group
	sent
}

// delivery is a plan under way.
type delivery struct {
	*plan
	fresh   [][]remotewrite.Metadata
	answers chan answer
	flights sync.WaitGroup
	open    int // messages whose answers are to come
	// held are the groups whose node could not be reached: it is asked again as soon as a quorum hangs
	// on it, and left alone until then.
	held []*group
}

// run sends all groups and waits until every series is decided.
func (p *plan) run(ctx context.Context, release func()) ([]verdict.Failure, error) {
	replicas, needed := p.neededOf()
	tally := quorum.New(p.total, replicas, needed)
	for _, f := range p.bad {
		tally.Settle(f.Series, verdict.Invalid)
	}
	d := &delivery{plan: p, answers: make(chan answer, 2*len(p.groups)), fresh: make([][]remotewrite.Metadata, len(p.parts))}
	for i := range p.parts {
		d.fresh[i] = p.f.seen.fresh(p.parts[i].Tenant, p.parts[i].Metadata)
	}
	// The replicas are wanted even when the sender has gone or was answered already.
	sendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.f.cfg.Timeout)
	for _, g := range p.groups {
		d.start(sendCtx, g)
	}
	// The series are in use until both the messages and the answer are done.
	answered := make(chan struct{})
	defer close(answered)
	p.f.flights.Go(func() {
		<-answered
		d.flights.Wait()
		cancel()
		release()
	})
	c := collector{plan: p, tally: tally}
	for d.open > 0 && !tally.Decided() {
		select {
		case a := <-d.answers:
			d.open--
			if a.again && !a.group.insisted {
				d.hold(&c, a)
			} else {
				c.count(a)
			}
			d.releaseNeeded(sendCtx, &c)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for replicas: %w", context.Cause(ctx))
		}
	}
	failures := c.failures()
	p.f.metrics.replicated(failures)
	return failures, nil
}

func (d *delivery) start(ctx context.Context, g *group) {
	d.open++
	d.flights.Go(func() { d.answers <- d.deliver(ctx, g) })
}

func (d *delivery) hold(c *collector, a answer) {
	d.held = append(d.held, a.group)
	for _, gp := range a.group.parts {
		for _, s := range gp.pick {
			c.tally.Hold(uint32(d.offsets[gp.part]) + s)
		}
	}
}

// releaseNeeded sends those groups again that some series cannot do without. Where a series could do with
// either of two, both are sent: nobody knows which of the nodes will be back first.
func (d *delivery) releaseNeeded(ctx context.Context, c *collector) {
	var kept, needed []*group
	for _, g := range d.held {
		if d.needs(c, g) {
			needed = append(needed, g)
		} else {
			kept = append(kept, g)
		}
	}
	d.held = kept
	for _, g := range needed {
		for _, gp := range g.parts {
			for _, s := range gp.pick {
				c.tally.Release(uint32(d.offsets[gp.part]) + s)
			}
		}
		g.insisted = true
		d.f.metrics.insisted.Inc()
		d.start(ctx, g)
	}
}

func (d *delivery) needs(c *collector, g *group) bool {
	for _, gp := range g.parts {
		for _, s := range gp.pick {
			if c.tally.Needs(uint32(d.offsets[gp.part]) + s) {
				return true
			}
		}
	}
	return false
}

// deliver brings a group to its node.
func (d *delivery) deliver(ctx context.Context, g *group) answer {
	if g.addr == d.f.cfg.Local && d.f.deps.Local != nil {
		return answer{g, d.deliverLocal(ctx, g)}
	}
	start := time.Now()
	peer, err := d.f.peer(g.addr)
	if err != nil {
		return answer{g, sent{kind: verdict.Unavailable, err: err}}
	}
	out := outgoing{replica: int64(g.replica)}
	for _, gp := range g.parts {
		ts := d.parts[gp.part]
		ts.Pick, ts.Metadata = gp.pick, d.fresh[gp.part]
		out.parts = append(out.parts, ts)
	}
	send := peer.send
	if g.insisted {
		send = peer.insist
	}
	if !g.insisted {
		out.shared = g.shared
	}
	a := answer{group: g}
	switch {
	case len(out.parts) == 1 || peer.ours.Load():
		out.tuples = len(out.parts) > 1
		a.sent = send(ctx, &out)
	default:
		a.sent = sendOneByOne(ctx, send, &out)
	}
	d.f.metrics.forwarded(a.err == nil, time.Since(start))
	return a
}

// sendOneByOne sends each tenant's series in a message of its own, the only form that all releases of
// peers read.
func sendOneByOne(ctx context.Context, send func(context.Context, *outgoing) sent, all *outgoing) (out sent) {
	offset := uint32(0)
	for i := range all.parts {
		one := send(ctx, &outgoing{parts: all.parts[i : i+1], replica: all.replica})
		if one.again {
			return one // all may be sent again: what was taken twice is there once
		}
		n := uint32(all.parts[i].count())
		if one.err != nil {
			// The others may still be taken: only these failed.
			for j := range n {
				one.failures = append(one.failures, verdict.Failure{Series: j, Kind: one.kind})
			}
			if len(one.failures) > 0 {
				one.failures[0].Reason = one.err.Error()
			}
		}
		for _, f := range one.failures {
			f.Series += offset
			out.failures = append(out.failures, f)
		}
		offset += n
	}
	return out
}

func (d *delivery) deliverLocal(ctx context.Context, g *group) (out sent) {
	offset := uint32(0)
	for _, gp := range g.parts {
		ts := &d.parts[gp.part]
		fs, err := d.f.deps.Local.Append(ctx, ts.Tenant, ts.Series, gp.pick)
		if err != nil {
			return sent{kind: verdict.Unavailable, err: err}
		}
		d.f.deps.Local.Describe(ts.Tenant, d.fresh[gp.part])
		for _, f := range fs {
			f.Series += offset
			out.failures = append(out.failures, f)
		}
		offset += uint32(len(gp.pick))
	}
	return out
}
