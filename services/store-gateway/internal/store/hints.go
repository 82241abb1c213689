package store

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

const (
	typePrefix = "type.googleapis.com/hintspb."
	// blockIDLabel is the pseudo label that block matchers see a block's ULID in.
	blockIDLabel = "__block_id"
)

// vtMessage is what vtprotobuf generates for messages.
type vtMessage interface {
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
}

// unpack reads hints of the named type; hints of another type, as other stores
// take them, say nothing to this one.
func unpack(hints *anypb.Any, name string, into vtMessage) error {
	if hints.GetTypeUrl() != typePrefix+name {
		return nil
	}
	if err := into.UnmarshalVT(hints.GetValue()); err != nil {
		return storeapi.Invalidf("hints of type %s: %v", name, err)
	}
	return nil
}

func pack(name string, m vtMessage) (*anypb.Any, error) {
	b, err := m.MarshalVT()
	return &anypb.Any{TypeUrl: typePrefix + name, Value: b}, err
}

// matchBlock evaluates block matchers.
func matchBlock(ext labels.Labels, id string, ms []*labels.Matcher) bool {
	for _, m := range ms {
		value := ext.Get(m.Name)
		if m.Name == blockIDLabel {
			value = id
		}
		if !m.Matches(value) {
			return false
		}
	}
	return true
}

// keep returns what block matchers say of a block; nil keeps all.
func keep(ms []*labels.Matcher) func(*Block) bool {
	if len(ms) == 0 {
		return nil
	}
	return func(b *Block) bool { return matchBlock(b.External, b.ID(), ms) }
}

// blockMatchers parses the matchers of hints.
func blockMatchers(ms []*thanos.LabelMatcher) ([]*labels.Matcher, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	return storeapi.Matchers(ms)
}

// queried lists blocks by ULID.
func queried(blocks []*Block) []*hintspb.Block {
	out := make([]*hintspb.Block, 0, len(blocks))
	for _, b := range blocks {
		out = append(out, &hintspb.Block{Id: b.ID()})
	}
	slices.SortFunc(out, func(a, b *hintspb.Block) int {
		switch {
		case a.GetId() < b.GetId():
			return -1
		case a.GetId() > b.GetId():
			return 1
		}
		return 0
	})
	return out
}

// queryStats is a request's cost for the wire.
func queryStats(t blockread.Tally, w storeapi.WriterStats, all, merge time.Duration) *hintspb.QueryStats {
	p, s, c := t.Kinds[blockread.Postings], t.Kinds[blockread.Series], t.Kinds[blockread.Chunks]
	return &hintspb.QueryStats{
		BlocksQueried: t.Blocks, MergedSeriesCount: w.Series, MergedChunksCount: w.Chunks,
		PostingsTouched: p.Touched, PostingsTouchedSizeSum: p.TouchedBytes, PostingsToFetch: t.PostingsToFetch,
		PostingsFetched: p.Fetched, PostingsFetchedSizeSum: p.FetchedBytes, PostingsFetchCount: p.Requests,
		SeriesTouched: s.Touched, SeriesTouchedSizeSum: s.TouchedBytes,
		SeriesFetched: s.Fetched, SeriesFetchedSizeSum: s.FetchedBytes, SeriesFetchCount: s.Requests,
		ChunksTouched: c.Touched, ChunksTouchedSizeSum: c.TouchedBytes,
		ChunksFetched: c.Fetched, ChunksFetchedSizeSum: c.FetchedBytes, ChunksFetchCount: c.Requests,
		DataDownloadedSizeSum: p.FetchedBytes + s.FetchedBytes + c.FetchedBytes,
		GetAllDuration:        durationpb.New(all), MergeDuration: durationpb.New(merge),
	}
}

// aggregates translates the wish list of a request.
func aggregates(in []thanos.Aggr) []chunks.Aggr {
	out := make([]chunks.Aggr, 0, len(in))
	for _, a := range in {
		if a >= 0 && a <= thanos.Aggr(chunks.Counter) {
			out = append(out, chunks.Aggr(a))
		}
	}
	return out
}
