package storeapi_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// vtCodec is what every generated message has beside the standard methods.
type vtCodec interface {
	proto.Message
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
}

// methods gives each recorded method its message types.
var methods = map[string]struct{ request, response func() vtCodec }{
	"/thanos.info.Info/Info":          {func() vtCodec { return &info.InfoRequest{} }, func() vtCodec { return &info.InfoResponse{} }},
	"/thanos.Store/Series":            {func() vtCodec { return &thanos.SeriesRequest{} }, func() vtCodec { return &thanos.SeriesResponse{} }},
	"/thanos.Store/LabelNames":        {func() vtCodec { return &thanos.LabelNamesRequest{} }, func() vtCodec { return &thanos.LabelNamesResponse{} }},
	"/thanos.Store/LabelValues":       {func() vtCodec { return &thanos.LabelValuesRequest{} }, func() vtCodec { return &thanos.LabelValuesResponse{} }},
	"/thanos.Rules/Rules":             {func() vtCodec { return &thanos.RulesRequest{} }, func() vtCodec { return &thanos.RulesResponse{} }},
	"/thanos.Targets/Targets":         {func() vtCodec { return &thanos.TargetsRequest{} }, func() vtCodec { return &thanos.TargetsResponse{} }},
	"/thanos.Metadata/MetricMetadata": {func() vtCodec { return &thanos.MetricMetadataRequest{} }, func() vtCodec { return &thanos.MetricMetadataResponse{} }},
	"/thanos.Status/TSDBStatistics":   {func() vtCodec { return &thanos.TSDBStatisticsRequest{} }, func() vtCodec { return &thanos.TSDBStatisticsResponse{} }},
	"/thanos.Query/Query":             {func() vtCodec { return &thanos.QueryRequest{} }, func() vtCodec { return &thanos.QueryResponse{} }},
	"/thanos.Query/QueryRange":        {func() vtCodec { return &thanos.QueryRangeRequest{} }, func() vtCodec { return &thanos.QueryRangeResponse{} }},
}

// requireNothingUnknown walks m: a field with a wrong number would end up among
// the unknown ones and survive a round trip unnoticed.
func requireNothingUnknown(t *testing.T, m protoreflect.Message) {
	t.Helper()
	for rest := m.GetUnknown(); len(rest) > 0; {
		num, _, n := protowire.ConsumeField(rest)
		require.Positive(t, n)
		require.True(t, m.Descriptor().ReservedRanges().Has(num), "unknown field %d in %s", num, m.Descriptor().FullName())
		rest = rest[n:]
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if fd.MapValue().Message() != nil {
					requireNothingUnknown(t, v.Message())
				}
				return true
			})
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				requireNothingUnknown(t, v.List().Get(i).Message())
			}
		case fd.Message() != nil:
			requireNothingUnknown(t, v.Message())
		}
		return true
	})
}

func TestRecordedFramesDecodeAndEncodeAgain(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/wire.jsonl")
	require.NoError(t, err)
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<24)
	seen := map[string]int{}
	for line := 1; sc.Scan(); line++ {
		var call struct {
			What, Note, Method, Request string
			Frames                      []string
		}
		require.NoError(t, json.Unmarshal(sc.Bytes(), &call))
		m, ok := methods[call.Method]
		require.True(t, ok, "line %d: method %s", line, call.Method)
		check := func(msg func() vtCodec, frame string) {
			data, err := hex.DecodeString(frame)
			require.NoError(t, err)
			got := msg()
			require.NoError(t, got.UnmarshalVT(data), "line %d", line)
			requireNothingUnknown(t, got.ProtoReflect())
			again, err := got.MarshalVT()
			require.NoError(t, err)
			want := msg()
			require.NoError(t, proto.Unmarshal(data, want))
			back := msg()
			require.NoError(t, back.UnmarshalVT(again))
			require.True(t, proto.Equal(want, back), "line %d: %s", line, prototext.Format(back))
		}
		check(m.request, call.Request)
		for _, fr := range call.Frames {
			check(m.response, fr)
			seen[call.Method]++
		}
	}
	require.NoError(t, sc.Err())
	for method := range methods {
		require.Positive(t, seen[method], "frames of %s were recorded", method)
	}
}

// TestHandMadeBytes pins what the recording does not hold.
func TestHandMadeBytes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hex  string
		want vtCodec
	}{
		"WriteRequest, single tenant": {
			"0a150a060a0161120162120b09000000000000f03f10051201741802",
			&thanos.WriteRequest{Tenant: "t", Replica: 2, Timeseries: []*prometheuscopy.TimeSeries{{
				Labels:  []*prometheuscopy.Label{{Name: "a", Value: "b"}},
				Samples: []*prometheuscopy.Sample{{Value: 1, Timestamp: 5}},
			}}},
		},
		"WriteRequest, several tenants": {
			"1803220a0a050a030a0161120175",
			&thanos.WriteRequest{Replica: 3, TimeseriesTenantData: []*thanos.TimeSeriesTenantTuple{{
				Tenant: "u", Timeseries: []*prometheuscopy.TimeSeries{{Labels: []*prometheuscopy.Label{{Name: "a"}}}},
			}}},
		},
		"ExemplarsRequest": {
			"0a027570" + "1001" + "1802" + "2001",
			&thanos.ExemplarsRequest{Query: "up", Start: 1, End: 2, PartialResponseStrategy: thanos.PartialResponseStrategy_ABORT},
		},
		"ExemplarsResponse": {
			"0a210a080a060a016112016212150a080a060a01631201641100000000000000401807",
			&thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Data{Data: &thanos.ExemplarData{
				SeriesLabels: &thanos.LabelSet{Labels: []*thanos.Label{{Name: "a", Value: "b"}}},
				Exemplars: []*thanos.Exemplar{{
					Labels: &thanos.LabelSet{Labels: []*thanos.Label{{Name: "c", Value: "d"}}}, Value: 2, Ts: 7,
				}},
			}}},
		},
		"SeriesRequest, every field": {
			"080110021a0808021201611a016220032a0201053001380140014a030a017850045805621d080112060a0472617465220508011a01612a02080732016238014201686a09080110021801220163720172780980010a",
			&thanos.SeriesRequest{
				MinTime: 1, MaxTime: 2, Matchers: []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "a", Value: "b"}},
				MaxResolutionWindow: 3, Aggregates: []thanos.Aggr{thanos.Aggr_COUNT, thanos.Aggr_COUNTER}, PartialResponseDisabled: true,
				PartialResponseStrategy: thanos.PartialResponseStrategy_ABORT, SkipChunks: true, Hints: &anypb.Any{TypeUrl: "x"}, Step: 4, Range: 5,
				QueryHints: &thanos.QueryHints{
					StepMillis: 1, Func: &thanos.Func{Name: "rate"}, Grouping: &thanos.Grouping{By: true, Labels: []string{"a"}},
					Range: &thanos.Range{Millis: 7}, ProjectionLabels: []string{"b"}, ProjectionInclude: true, SeriesHashLabelName: "h",
				},
				ShardInfo:            &thanos.ShardInfo{ShardIndex: 1, TotalShards: 2, By: true, Labels: []string{"c"}},
				WithoutReplicaLabels: []string{"r"}, Limit: 9, ResponseBatchSize: 10,
			},
		},
		"Histogram": {
			"0805190000000000000040200629000000000000f03f30024204080310044a01015208000000000000f03f5a04080110016201026a080000000000000040700378098201080000000000001040",
			&prometheuscopy.Histogram{
				Count: &prometheuscopy.Histogram_CountInt{CountInt: 5}, Sum: 2, Schema: 3, ZeroThreshold: 1,
				ZeroCount:     &prometheuscopy.Histogram_ZeroCountInt{ZeroCountInt: 2},
				NegativeSpans: []*prometheuscopy.BucketSpan{{Offset: -2, Length: 4}}, NegativeDeltas: []int64{-1}, NegativeCounts: []float64{1},
				PositiveSpans: []*prometheuscopy.BucketSpan{{Offset: -1, Length: 1}}, PositiveDeltas: []int64{1}, PositiveCounts: []float64{2},
				ResetHint: prometheuscopy.Histogram_GAUGE, Timestamp: 9, CustomValues: []float64{4},
			},
		},
		"SeriesRequestHints": {
			"0a0f120a5f5f626c6f636b5f69641a01781001",
			&hintspb.SeriesRequestHints{BlockMatchers: []*thanos.LabelMatcher{{Name: "__block_id", Value: "x"}}, EnableQueryStats: true},
		},
		"QueryStats of hints": {
			"08013006a00114aa01020802b201021003",
			&hintspb.QueryStats{
				BlocksQueried: 1, PostingsToFetch: 6, DataDownloadedSizeSum: 20,
				GetAllDuration: &durationpb.Duration{Seconds: 2}, MergeDuration: &durationpb.Duration{Nanos: 3},
			},
		},
		"ReadRequest": {
			"0a20080110021a0808031201611a016222100801120166180320042a01673001380712020100",
			&prometheuscopy.ReadRequest{
				Queries: []*prometheuscopy.Query{{
					StartTimestampMs: 1, EndTimestampMs: 2,
					Matchers: []*prometheuscopy.LabelMatcher{{Type: prometheuscopy.LabelMatcher_NRE, Name: "a", Value: "b"}},
					Hints:    &prometheuscopy.ReadHints{StepMs: 1, Func: "f", StartMs: 3, EndMs: 4, Grouping: []string{"g"}, By: true, RangeMs: 7},
				}},
				AcceptedResponseTypes: []prometheuscopy.ReadRequest_ResponseType{prometheuscopy.ReadRequest_STREAMED_XOR_CHUNKS, prometheuscopy.ReadRequest_SAMPLES},
			},
		},
		"ChunkedReadResponse": {
			"0a130a060a016112016212090801100218032201091001",
			&prometheuscopy.ChunkedReadResponse{QueryIndex: 1, ChunkedSeries: []*prometheuscopy.ChunkedSeries{{
				Labels: []*prometheuscopy.Label{{Name: "a", Value: "b"}},
				Chunks: []*prometheuscopy.Chunk{{MinTimeMs: 1, MaxTimeMs: 2, Type: prometheuscopy.Chunk_FLOAT_HISTOGRAM, Data: []byte{9}}},
			}}},
		},
		"MetricMetadata of a write request": {
			"1a0b080512016d2201682a0175",
			&prometheuscopy.WriteRequest{Metadata: []*prometheuscopy.MetricMetadata{{
				Type: prometheuscopy.MetricMetadata_SUMMARY, MetricFamilyName: "m", Help: "h", Unit: "u",
			}}},
		},
		"QueryRangeRequest, every field": {
			"0a027570100218032004280530063a017242050a031201614801500160016a021002700e78028201030a016a880111",
			&thanos.QueryRangeRequest{
				Query: "up", StartTimeSeconds: 2, EndTimeSeconds: 3, IntervalSeconds: 4, TimeoutSeconds: 5, MaxResolutionSeconds: 6,
				ReplicaLabels: []string{"r"}, StoreMatchers: []*thanos.StoreMatchers{{LabelMatchers: []*thanos.LabelMatcher{{Name: "a"}}}},
				EnableDedup: true, EnablePartialResponse: true, SkipChunks: true, ShardInfo: &thanos.ShardInfo{TotalShards: 2},
				LookbackDeltaSeconds: 14, Engine: thanos.EngineType_THANOS, QueryPlan: &thanos.QueryPlan{Encoding: &thanos.QueryPlan_Json{Json: []byte("j")}},
				ResponseBatchSize: 17,
			},
		},
		"Chunk hash and encoding": {
			"0802" + "120101" + "18ffffffffffffffffff01",
			&thanos.Chunk{Type: thanos.Chunk_FLOAT_HISTOGRAM, Data: []byte{1}, Hash: 1<<64 - 1},
		},
		"AggrChunk": {
			"0801" + "1002" + "22031201aa" + "2a031201ab" + "32031201ac" + "3a031201ad" + "42031201ae",
			&thanos.AggrChunk{
				MinTime: 1, MaxTime: 2, Count: &thanos.Chunk{Data: []byte{0xaa}}, Sum: &thanos.Chunk{Data: []byte{0xab}},
				Min: &thanos.Chunk{Data: []byte{0xac}}, Max: &thanos.Chunk{Data: []byte{0xad}}, Counter: &thanos.Chunk{Data: []byte{0xae}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := hex.DecodeString(tc.hex)
			require.NoError(t, err)
			got := tc.want.ProtoReflect().New().Interface().(vtCodec)
			require.NoError(t, got.UnmarshalVT(data))
			requireNothingUnknown(t, got.ProtoReflect())
			require.True(t, proto.Equal(tc.want, got), "got %s", prototext.Format(got))
		})
	}
}

// contractLines lists every field of every message of the contracts.
func contractLines() (out []string) {
	var walk func(ms protoreflect.MessageDescriptors)
	walk = func(ms protoreflect.MessageDescriptors) {
		for i := range ms.Len() {
			m := ms.Get(i)
			if m.IsMapEntry() {
				continue
			}
			for j := range m.Fields().Len() {
				fd := m.Fields().Get(j)
				kind := fd.Kind().String()
				switch {
				case fd.IsMap():
					kind = fmt.Sprintf("map<%s,%s>", fd.MapKey().Kind(), fd.MapValue().Message().FullName())
				case fd.Message() != nil:
					kind = string(fd.Message().FullName())
				case fd.Enum() != nil:
					kind = string(fd.Enum().FullName())
				}
				if fd.IsList() {
					kind = "repeated " + kind
				}
				if o := fd.ContainingOneof(); o != nil {
					kind += " oneof"
				}
				out = append(out, fmt.Sprintf("%s %d %s %s", m.FullName(), fd.Number(), fd.Name(), kind))
			}
			walk(m.Messages())
		}
	}
	for _, fd := range []protoreflect.FileDescriptor{
		thanos.File_thanos_types_proto, thanos.File_thanos_store_proto, thanos.File_thanos_rules_proto,
		thanos.File_thanos_targets_proto, thanos.File_thanos_metadata_proto, thanos.File_thanos_exemplars_proto,
		thanos.File_thanos_status_proto, thanos.File_thanos_query_proto, info.File_thanos_info_info_proto,
		hintspb.File_hintspb_hints_proto, prometheuscopy.File_prometheus_copy_types_proto, prometheuscopy.File_prometheus_copy_remote_proto,
	} {
		walk(fd.Messages())
		for i := range fd.Services().Len() {
			s := fd.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				out = append(out, fmt.Sprintf("/%s/%s %s %s stream=%v", s.FullName(), m.Name(), m.Input().FullName(), m.Output().FullName(), m.IsStreamingServer()))
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestEveryFieldHasTheNumberAndTypeOfTheContract(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/contract.txt")
	require.NoError(t, err)
	require.Equal(t, strings.Split(strings.TrimSpace(string(want)), "\n"), contractLines())
}
