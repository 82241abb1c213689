package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// hintsMessage is a message of hints, as both ends of a call have it.
type hintsMessage interface {
	proto.Message
	vtMessage
}

// kindsOfHints are all messages of hints, by name: requests, which come from outside, and responses, which queriers read.
func kindsOfHints() map[string]func() hintsMessage {
	return map[string]func() hintsMessage{
		"SeriesRequestHints":       func() hintsMessage { return &hintspb.SeriesRequestHints{} },
		"LabelNamesRequestHints":   func() hintsMessage { return &hintspb.LabelNamesRequestHints{} },
		"LabelValuesRequestHints":  func() hintsMessage { return &hintspb.LabelValuesRequestHints{} },
		"SeriesResponseHints":      func() hintsMessage { return &hintspb.SeriesResponseHints{} },
		"LabelNamesResponseHints":  func() hintsMessage { return &hintspb.LabelNamesResponseHints{} },
		"LabelValuesResponseHints": func() hintsMessage { return &hintspb.LabelValuesResponseHints{} },
	}
}

func FuzzHints(f *testing.F) {
	request := &hintspb.SeriesRequestHints{
		BlockMatchers: []*thanos.LabelMatcher{
			{Name: blockIDLabel, Value: "01M83WT0H7347KHR37VJ6BTK4K"}, {Type: thanos.LabelMatcher_RE, Name: "cluster", Value: "eu.*|us(1|2)"},
		},
		EnableQueryStats: true,
	}
	response := &hintspb.SeriesResponseHints{
		QueriedBlocks: []*hintspb.Block{{Id: "01M83WT0H7347KHR37VJ6BTK4K"}},
		QueryStats:    queryStats(blockread.Tally{Blocks: 1}, storeapi.WriterStats{Series: 7}, time.Second, time.Millisecond),
	}
	for _, m := range []vtMessage{request, response} {
		b, err := m.MarshalVT()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0x02, 0x08, 0x09}) // a type of matcher that there is not
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	kinds := kindsOfHints()
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, empty := range kinds {
			m := empty()
			if err := unpack(&anypb.Any{TypeUrl: typePrefix + name, Value: b}, name, m); err != nil {
				require.ErrorIs(t, err, storeapi.ErrInvalid, name)
				continue
			}
			packed, err := pack(name, m)
			require.NoError(t, err, name)
			again := empty()
			require.NoError(t, unpack(packed, name, again), name)
			require.True(t, proto.Equal(m, again), "%s: %v is %v after a round trip", name, m, again)
			hinted, ok := m.(interface{ GetBlockMatchers() []*thanos.LabelMatcher })
			if !ok {
				continue
			}
			ms, err := blockMatchers(hinted.GetBlockMatchers())
			if err != nil {
				require.ErrorIs(t, err, storeapi.ErrInvalid, name)
				continue
			}
			require.Len(t, ms, len(hinted.GetBlockMatchers()))
		}
	})
}
