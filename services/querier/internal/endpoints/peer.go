package endpoints

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// peer is the state of one peer between rounds.
type peer struct {
	target Target
	conn   Conn
	client *storeapi.Client

	firstSeen time.Time
	// initial peers were named in the first round: they may hold data that answers have had before this
	// process started. A peer that appears later holds nothing that was ever seen here.
	initial bool
	// lostSince is when discovery ceased to name the peer, zero while it does.
	lostSince time.Time
	// healthySince and lastHealthy are the first and last good check of the present run of good ones, or of the last.
	healthySince, lastHealthy time.Time
	lastCheck                 time.Time
	// err is why the last check failed.
	err error
	// said is the last Info answer, nil if there never was one.
	said *info.InfoResponse
	// forgotten peers failed for longer than anybody remembers; they are still checked.
	forgotten bool
}

// aliveAt is the last time at which the peer was known to be there.
func (p *peer) aliveAt() time.Time {
	if p.lastHealthy.IsZero() {
		return p.firstSeen
	}
	return p.lastHealthy
}

// hangUp closes the connection, if there is one.
func (p *peer) hangUp(logger *zap.Logger) {
	if p.conn == nil {
		return
	}
	if err := p.conn.Close(); err != nil {
		logger.Warn("close connection", zap.String("address", p.target.Addr), zap.Error(err))
	}
	p.conn, p.client = nil, nil
}

// check asks the peer for Info and takes the answer over.
func (p *peer) check(ctx context.Context, s *Set) {
	said, err := p.ask(ctx, s)
	if ctx.Err() != nil {
		return
	}
	now := s.deps.Now()
	p.lastCheck = now
	logger := s.deps.Logger.With(zap.String("address", p.target.Addr))
	if err != nil {
		if p.err == nil {
			logger.Warn("endpoint does not answer", zap.Error(err))
		}
		p.err = err
		if p.forgotten {
			p.hangUp(s.deps.Logger)
		}
		return
	}
	if p.err != nil || p.lastHealthy.IsZero() {
		p.healthySince = now
		logger.Info("endpoint answers", zap.String("component", said.GetComponentType()))
	}
	p.err, p.said, p.lastHealthy, p.forgotten = nil, said, now, false
}

func (p *peer) ask(ctx context.Context, s *Set) (*info.InfoResponse, error) {
	if p.conn == nil {
		conn, err := s.deps.Dial(p.target)
		if err != nil {
			return nil, err
		}
		p.conn, p.client = conn, storeapi.NewClient(conn)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.InfoTimeout)
	defer cancel()
	said, err := info.NewInfoClient(p.conn).Info(ctx, &info.InfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("fetch info: %w", storeapi.FromStatus(err))
	}
	return said, nil
}

// endpoint is the peer as others see it.
func (p *peer) endpoint() Endpoint {
	e := Endpoint{
		Addr: p.target.Addr, ComponentType: ComponentUnknown, Group: p.target.Group,
		// What could not even be dialled cannot be asked.
		Strict: p.target.Strict && p.conn != nil, LastCheck: p.lastCheck,
	}
	// Not the interface of a nil connection.
	if p.conn != nil {
		e.Conn = p.conn
	}
	if p.err != nil {
		e.Err = lostError(p)
	}
	if p.said != nil {
		p.describe(&e)
	}
	switch {
	case p.forgotten:
		// Nobody waits for it any more.
		e.Store, e.Exemplars = nil, nil
		e.Rules, e.Targets, e.Metadata, e.Status, e.Query = false, false, false, false, false
	case p.said == nil && p.mayHoldData():
		// It may be of any kind: rules and exemplars may be missing as well as series.
		whole := fullRange
		e.Store, e.Exemplars = &StoreInfo{TimeRange: fullRange, Client: p.client}, &whole
		e.Rules, e.Targets, e.Metadata, e.Status = true, true, true, true
	}
	return e
}

// mayHoldData reports whether answers may lack something for a peer that never said what it has.
func (p *peer) mayHoldData() bool {
	if p.target.Strict {
		return true
	}
	// Without Info a peer will never be used, whatever it has.
	return p.initial && !errors.Is(p.err, storeapi.ErrUnimplemented)
}

// describe fills in what the peer said.
func (p *peer) describe(e *Endpoint) {
	said := p.said
	e.ComponentType = componentType(said.GetComponentType())
	e.LabelSets = labelSets(said.GetLabelSets())
	e.Rules, e.Targets, e.Metadata = said.GetRules() != nil, said.GetTargets() != nil, said.GetMetricMetadata() != nil
	e.Status, e.Query = said.GetStatus() != nil, said.GetQuery() != nil
	if x := said.GetExemplars(); x != nil {
		e.Exemplars = &TimeRange{MinTime: x.GetMinTime(), MaxTime: x.GetMaxTime()}
		// An empty message means "I serve exemplars", not "of the first millisecond of 1970".
		if x.GetMinTime() == 0 && x.GetMaxTime() == 0 {
			whole := fullRange
			e.Exemplars = &whole
		}
	}
	if st := said.GetStore(); st != nil {
		e.Store = &StoreInfo{
			TimeRange:                    TimeRange{MinTime: st.GetMinTime(), MaxTime: st.GetMaxTime()},
			Client:                       p.client,
			SupportsSharding:             st.GetSupportsSharding(),
			SupportsWithoutReplicaLabels: st.GetSupportsWithoutReplicaLabels(),
		}
		for _, t := range st.GetTsdbInfos() {
			e.Store.TSDBs = append(e.Store.TSDBs, TSDBInfo{
				TimeRange: TimeRange{MinTime: t.GetMinTime(), MaxTime: t.GetMaxTime()},
				Labels:    storeapi.Labels(t.GetLabels()),
			})
		}
	}
}

func componentType(s string) string {
	switch s {
	case ComponentQuery, ComponentRule, ComponentSidecar, ComponentStore, ComponentReceive, ComponentDebug:
		return s
	}
	return ComponentUnknown
}

// labelSets returns the sets sorted, without repetitions and empty ones.
func labelSets(sets []*thanos.LabelSet) []labels.Labels {
	var out []labels.Labels
	for _, s := range sets {
		if lset := storeapi.Labels(s); !lset.IsEmpty() {
			out = append(out, lset)
		}
	}
	slices.SortFunc(out, labels.Compare)
	return slices.CompactFunc(out, labels.Equal)
}

// replacements returns the lost peers in whose place another one has come: one that discovery does not
// name any more and that does not answer, while a healthy peer of the same type announces the same label sets
// over at least the same range of time. A pod that was moved to another address is one.
//
// Where the label sets name one database (sidecar, ruler, receiver), any healthy peer with them will do. Store gateways
// and queriers may share theirs with others that hold different blocks: there it has to be one that came
// after the loss, and it replaces one peer only.
func replacements(peers map[string]*peer) map[*peer]bool {
	out := map[*peer]bool{}
	used := map[*peer]bool{}
	for _, lost := range sorted(peers) {
		if lost.lostSince.IsZero() || lost.err == nil || lost.said == nil {
			continue
		}
		identity := namesOneDatabase(lost.said.GetComponentType()) && len(lost.said.GetLabelSets()) > 0
		for _, p := range sorted(peers) {
			if p.err != nil || p.said == nil || used[p] || !sameData(lost.said, p.said) {
				continue
			}
			if !identity && !p.healthySince.After(lost.lastHealthy) {
				continue
			}
			out[lost] = true
			if !identity {
				used[p] = true
			}
			break
		}
	}
	return out
}

func sorted(peers map[string]*peer) []*peer {
	out := make([]*peer, 0, len(peers))
	for _, p := range peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *peer) int { return cmp.Compare(a.target.Addr, b.target.Addr) })
	return out
}

func namesOneDatabase(component string) bool {
	return component == ComponentSidecar || component == ComponentRule || component == ComponentReceive
}

// sameData reports whether b announces at least what a announced.
func sameData(a, b *info.InfoResponse) bool {
	if a.GetComponentType() != b.GetComponentType() || !slices.EqualFunc(labelSets(a.GetLabelSets()), labelSets(b.GetLabelSets()), labels.Equal) {
		return false
	}
	if a.GetStore() == nil {
		return true
	}
	return b.GetStore() != nil && b.GetStore().GetMinTime() <= a.GetStore().GetMinTime() && b.GetStore().GetMaxTime() >= a.GetStore().GetMaxTime()
}
