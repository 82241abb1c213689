package fanout

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// contribution begins the account of a call to t.
func (t target) contribution() receipt.Store {
	return receipt.Store{Addr: t.Addr, Component: t.ComponentType, LabelSets: t.LabelSets}
}

// lostStores are the accounts of stores that are not asked.
func lostStores(missing []target) []receipt.Store {
	out := make([]receipt.Store, len(missing))
	for i, t := range missing {
		out[i] = t.contribution()
		out[i].State, out[i].Err = receipt.Lost, t.err.Error()
	}
	return out
}

// settle fills in what is missing from the accounts of all targets of a request, which are in the same order.
func settle(q query, targets []target, accounts []receipt.Store, replicaLabels []string) {
	var gaps []receipt.Gap
	var whole []receipt.Holding
	for i, t := range targets {
		if accounts[i].State == receipt.Cut {
			continue
		}
		held := t.holdings(q)
		if !accounts[i].Missing() {
			whole = append(whole, held...)
			continue
		}
		reason := accounts[i].Err
		if reason == "" && len(accounts[i].Warnings) > 0 {
			reason = accounts[i].Warnings[0]
		}
		for _, h := range held {
			gaps = append(gaps, receipt.Gap{
				Addr: h.Addr, Component: h.Component, Labels: h.Labels, MinTime: h.MinTime, MaxTime: h.MaxTime, Reason: reason,
			})
		}
	}
	if len(gaps) == 0 {
		return
	}
	byAddr := map[string][]receipt.Gap{}
	for _, g := range receipt.Cover(gaps, whole, replicaLabels) {
		byAddr[g.Addr] = append(byAddr[g.Addr], g)
	}
	for i := range accounts {
		accounts[i].Gaps = byAddr[accounts[i].Addr]
	}
}

// holdings are the data that t announces and q asks for; never none, for t was picked.
func (t target) holdings(q query) []receipt.Holding {
	var out []receipt.Holding
	add := func(set labels.Labels, r endpoints.TimeRange) {
		if !r.Overlaps(q.mint, q.maxt) || !set.IsEmpty() && !anySetMatches([]labels.Labels{set}, append(q.ms[:len(q.ms):len(q.ms)], t.extra...)) {
			return
		}
		out = append(out, receipt.Holding{
			Addr: t.Addr, Component: t.ComponentType, Labels: set, MinTime: max(r.MinTime, q.mint), MaxTime: min(r.MaxTime, q.maxt),
		})
	}
	for _, db := range t.Store.TSDBs {
		add(db.Labels, db.TimeRange)
	}
	if len(out) == 0 {
		for _, set := range t.LabelSets {
			add(set, t.Store.TimeRange)
		}
	}
	if len(out) == 0 {
		add(labels.EmptyLabels(), t.Store.TimeRange)
	}
	return out
}

// isFault reports whether err says that the store was too slow or could not be reached.
func isFault(err error) bool {
	return errors.Is(err, storeapi.ErrFrameTimeout) || errors.Is(err, storeapi.ErrLate) ||
		errors.Is(err, storeapi.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// gatewayHints are what asks a store-gateway for its statistics.
func gatewayHints() *anypb.Any {
	b, err := proto.Marshal(&hintspb.SeriesRequestHints{EnableQueryStats: true})
	if err != nil {
		return nil // two bytes always can be written
	}
	return &anypb.Any{TypeUrl: hintsPrefix + "SeriesRequestHints", Value: b}
}

const hintsPrefix = "type.googleapis.com/hintspb."

// gatewayStats reads what a store-gateway said of its work; nil if it said nothing that can be read.
func gatewayStats(hints []*anypb.Any) *receipt.Gateway {
	var out *receipt.Gateway
	for _, h := range hints {
		if h.GetTypeUrl() != hintsPrefix+"SeriesResponseHints" {
			continue
		}
		var m hintspb.SeriesResponseHints
		if proto.Unmarshal(h.GetValue(), &m) != nil || m.GetQueryStats() == nil {
			continue
		}
		if out == nil {
			out = &receipt.Gateway{}
		}
		for _, b := range m.GetQueriedBlocks() {
			out.Blocks = append(out.Blocks, b.GetId())
		}
		st := m.GetQueryStats()
		out.CacheHits += max(st.GetPostingsTouched()-st.GetPostingsFetched(), 0) + max(st.GetSeriesTouched()-st.GetSeriesFetched(), 0)
		out.CacheMisses += st.GetPostingsFetched() + st.GetSeriesFetched()
		out.BytesFetched += st.GetDataDownloadedSizeSum()
	}
	return out
}
