package app

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// The test below goes through the rules that the specifications of Prometheus Remote-Write 1.0 and 2.0 have for receivers,
// one case a rule, each for a tenant of its own.

const (
	contentV1   = "application/x-protobuf"
	contentV1To = "application/x-protobuf;proto=prometheus.WriteRequest"
	contentV2   = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// sent is a request as bytes with its headers.
type sent struct {
	body    []byte
	headers []string
}

func headersOf(content, version string) []string {
	return []string{"Content-Type", content, "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", version}
}

func writeV1(t *testing.T, req prompb.WriteRequest) sent {
	t.Helper()
	raw, err := req.Marshal()
	require.NoError(t, err)
	return sent{snappy.Encode(nil, raw), headersOf(contentV1, "0.1.0")}
}

func writeV2(t *testing.T, req writev2.Request) sent {
	t.Helper()
	raw, err := req.Marshal()
	require.NoError(t, err)
	return sent{snappy.Encode(nil, raw), headersOf(contentV2, "2.0.0")}
}

func (s sent) with(kv ...string) sent {
	s.headers = append(slices.Clone(s.headers), kv...)
	return s
}

// symbols builds requests of 2.0.
type symbols struct{ list []string }

func (s *symbols) refs(texts ...string) (out []uint32) {
	if len(s.list) == 0 {
		s.list = []string{""}
	}
	for _, t := range texts {
		at := slices.Index(s.list, t)
		if at < 0 {
			at = len(s.list)
			s.list = append(s.list, t)
		}
		out = append(out, uint32(at))
	}
	return out
}

func v2Of(t *testing.T, build func(s *symbols) []writev2.TimeSeries) sent {
	t.Helper()
	var s symbols
	ts := build(&s)
	return writeV2(t, writev2.Request{Symbols: s.list, Timeseries: ts})
}

// stored are the samples of a tenant: series, then time and what kind of sample.
func (r *receiver) stored(tenant string) map[string]int {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(r.t, err)
	defer conn.Close()
	s := storeapi.NewClient(conn).Series(r.t.Context(), &thanos.SeriesRequest{MinTime: 0, MaxTime: 1 << 60, Matchers: []*thanos.LabelMatcher{
		{Name: "tenant_id", Value: tenant}, {Type: thanos.LabelMatcher_RE, Name: "__name__", Value: ".+"},
	}}, storeapi.StreamOptions{})
	defer s.Close()
	out := map[string]int{}
	for s.Next() {
		lset := labels.NewBuilder(s.At().Labels).Del("tenant_id", "replica").Labels().String()
		for _, c := range s.At().Chunks {
			chk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Data)
			require.NoError(r.t, err)
			out[lset] += chk.NumSamples()
		}
	}
	require.NoError(r.t, s.Err())
	return out
}

func TestTheRulesOfBothSpecificationsHold(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) { c.TSDB.OutOfOrder = 0; c.TSDB.MaxExemplars = 100 })
	at := now()
	one := func(kv ...string) prompb.WriteRequest {
		return prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at, 1, kv...)}}
	}
	two := func(kv ...string) func(*symbols) []writev2.TimeSeries {
		return func(s *symbols) []writev2.TimeSeries {
			return []writev2.TimeSeries{{LabelsRefs: s.refs(kv...), Samples: []writev2.Sample{{Value: 1, Timestamp: at}}}}
		}
	}
	m := map[string]int{`{__name__="m"}`: 1}
	h1 := prompb.FromIntHistogram(at, tsdbutil.GenerateTestHistogram(1))
	f1 := prompb.FromFloatHistogram(at, tsdbutil.GenerateTestFloatHistogram(1))
	badHistogram := writev2.FromIntHistogram(at, tsdbutil.GenerateTestHistogram(1))
	badHistogram.PositiveSpans[0].Length++ // more buckets than are there
	custom := writev2.FromIntHistogram(at, tsdbutil.GenerateTestCustomBucketsHistogram(1))
	custom2 := custom
	custom2.CustomValues = []float64{2, 1, 0}
	long := strings.Repeat("x", 5000)

	for _, c := range []struct {
		rule    string
		send    sent
		code    int
		written string // samples, histograms, exemplars; "" where the header is not looked at
		has     map[string]int
	}{
		// What a body is.
		{"1.0 is the content type without a message", writeV1(t, one("__name__", "m")), 204, "", m},
		{"1.0 may be named", sent{writeV1(t, one("__name__", "m")).body, headersOf(contentV1To, "0.1.0")}, 204, "", m},
		{"2.0 has to be named", v2Of(t, two("__name__", "m")), 204, "1,0,0", m},
		{"spaces and case of the content type do not matter", sent{v2Of(t, two("__name__", "m")).body, headersOf("Application/X-Protobuf; Proto=io.prometheus.write.v2.Request", "2.0.0")}, 204, "1,0,0", m},
		{"the message counts, not the version header", sent{v2Of(t, two("__name__", "m")).body, headersOf(contentV2, "0.1.0")}, 204, "1,0,0", m},
		{"headers of senders that say nothing mean 1.0", sent{writeV1(t, one("__name__", "m")).body, nil}, 204, "", m},
		{"another content type is 415", sent{writeV1(t, one("__name__", "m")).body, headersOf("application/json", "0.1.0")}, 415, "", nil},
		{"text is 415", sent{nil, headersOf("text/plain", "0.1.0")}, 415, "", nil},
		{"an unknown message is 415", sent{v2Of(t, two("__name__", "m")).body, headersOf("application/x-protobuf;proto=io.prometheus.write.v3.Request", "3.0.0")}, 415, "", nil},
		{"gzip is 415", writeV1(t, one("__name__", "m")).with("Content-Encoding", "gzip"), 415, "", nil},
		{"zstd is 415", v2Of(t, two("__name__", "m")).with("Content-Encoding", "zstd"), 415, "", nil},
		{"no compression is 400", sent{[]byte("plain text"), headersOf(contentV1, "0.1.0")}, 400, "", nil},
		{"the framed format of snappy is 400", sent{framed(t), headersOf(contentV1, "0.1.0")}, 400, "", nil},
		{"an empty body is 400", sent{nil, headersOf(contentV1, "0.1.0")}, 400, "", nil},
		{"a cut body is 400", sent{writeV1(t, one("__name__", "m")).body[:9], headersOf(contentV1, "0.1.0")}, 400, "", nil},
		{"no protobuf is 400", sent{snappy.Encode(nil, []byte{0x0a, 0x7f, 1}), headersOf(contentV1, "0.1.0")}, 400, "", nil},
		{"no protobuf of 2.0 is 400", sent{snappy.Encode(nil, []byte{0x2a, 0x7f, 1}), headersOf(contentV2, "2.0.0")}, 400, "0,0,0", nil},
		{"a message without series is taken", writeV1(t, prompb.WriteRequest{}), 204, "", nil},
		{"a message of 2.0 without series is taken", writeV2(t, writev2.Request{Symbols: []string{""}}), 204, "0,0,0", nil},
		{"fields that are not known are passed over", sent{withUnknownField(t, one("__name__", "m")), headersOf(contentV1, "0.1.0")}, 204, "", m},

		// Labels.
		{"a series has a name", writeV1(t, one("job", "x")), 400, "", nil},
		{"a series of 2.0 has a name", v2Of(t, two("job", "x")), 400, "0,0,0", nil},
		{"a series without labels is refused", writeV1(t, one()), 400, "", nil},
		{"an empty name is none", writeV1(t, one("__name__", "")), 400, "", nil},
		{"a label has a name", writeV1(t, one("", "x", "__name__", "m")), 400, "", nil},
		{"a label is there once", writeV1(t, one("__name__", "m", "a", "1", "a", "1")), 400, "", nil},
		{"a label of 2.0 is there once", v2Of(t, two("__name__", "m", "a", "1", "a", "2")), 400, "0,0,0", nil},
		{"labels are sorted where they are not", writeV1(t, one("b", "2", "__name__", "m", "a", "1")), 204, "", map[string]int{`{__name__="m", a="1", b="2"}`: 1}},
		{"a label of 2.0 is sorted where it is not", v2Of(t, two("b", "2", "__name__", "m")), 204, "1,0,0", map[string]int{`{__name__="m", b="2"}`: 1}},
		{"a label with an empty value is none", writeV1(t, one("__name__", "m", "a", "")), 204, "", m},
		{"label names are UTF-8", writeV1(t, one("__name__", "m", "läbel.🙂", "välue")), 204, "", map[string]int{`{__name__="m", "läbel.🙂"="välue"}`: 1}},
		{"what is not UTF-8 is refused", writeV1(t, one("__name__", "m", "a", "\xff")), 400, "", nil},
		{"long values are kept", writeV1(t, one("__name__", "m", "a", long)), 204, "", map[string]int{`{__name__="m", a="` + long + `"}`: 1}},

		// Samples.
		{"several samples of a series come in order", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels: []prompb.Label{{Name: "__name__", Value: "m"}}, Samples: []prompb.Sample{{Timestamp: at - 2}, {Timestamp: at - 1}, {Timestamp: at}},
		}}}), 204, "", map[string]int{`{__name__="m"}`: 3}},
		{"a series may come twice", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at-1, 1, "__name__", "m"), sampleOf(at, 1, "__name__", "m")}}), 204, "", map[string]int{`{__name__="m"}`: 2}},
		{"NaN, infinities and stale markers are values", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels: []prompb.Label{{Name: "__name__", Value: "m"}}, Samples: []prompb.Sample{
				{Timestamp: at - 3, Value: math.NaN()}, {Timestamp: at - 2, Value: math.Inf(1)}, {Timestamp: at - 1, Value: math.Inf(-1)}, {Timestamp: at, Value: math.Float64frombits(value.StaleNaN)},
			},
		}}}), 204, "", map[string]int{`{__name__="m"}`: 4}},
		{"out of order is a conflict, what is in order is kept", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at, 1, "__name__", "m"), sampleOf(at-1, 1, "__name__", "m")}}), 409, "", m},
		{"a second value for a time is a conflict", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at, 1, "__name__", "m"), sampleOf(at, 2, "__name__", "m")}}), 409, "", m},
		{"the same sample twice is none", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at, 1, "__name__", "m"), sampleOf(at, 1, "__name__", "m")}}), 204, "", m},
		{"a conflict of 2.0 is 400, and says what was written", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			return append(two("__name__", "m")(s), writev2.TimeSeries{LabelsRefs: s.refs("__name__", "m"), Samples: []writev2.Sample{{Timestamp: at - 1}}})
		}), 400, "1,0,0", m},
		{"the good series of a request are kept", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at, 1, "job", "x"), sampleOf(at, 1, "__name__", "m")}}), 400, "", m},
		{"the good series of a request of 2.0 are kept", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			return append(two("job", "x")(s), two("__name__", "m")(s)...)
		}), 400, "1,0,0", m},

		// Histograms.
		{"1.0 carries native histograms", writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
			{Labels: []prompb.Label{{Name: "__name__", Value: "h"}}, Histograms: []prompb.Histogram{h1}},
			{Labels: []prompb.Label{{Name: "__name__", Value: "f"}}, Histograms: []prompb.Histogram{f1}},
		}}), 204, "", map[string]int{`{__name__="h"}`: 1, `{__name__="f"}`: 1}},
		{"2.0 carries native histograms, with custom buckets too", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			return []writev2.TimeSeries{
				{LabelsRefs: s.refs("__name__", "h"), Histograms: []writev2.Histogram{writev2.FromIntHistogram(at, tsdbutil.GenerateTestHistogram(1))}},
				{LabelsRefs: s.refs("__name__", "f"), Histograms: []writev2.Histogram{writev2.FromFloatHistogram(at, tsdbutil.GenerateTestFloatHistogram(1))}},
				{LabelsRefs: s.refs("__name__", "c"), Histograms: []writev2.Histogram{custom}},
			}
		}), 204, "0,3,0", map[string]int{`{__name__="h"}`: 1, `{__name__="f"}`: 1, `{__name__="c"}`: 1}},
		{"a histogram that contradicts itself is 400", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			return append(two("__name__", "m")(s), writev2.TimeSeries{LabelsRefs: s.refs("__name__", "h"), Histograms: []writev2.Histogram{badHistogram}})
		}), 400, "1,0,0", m},
		{"custom bounds that are not in order are 400", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			return []writev2.TimeSeries{{LabelsRefs: s.refs("__name__", "c"), Histograms: []writev2.Histogram{custom2}}}
		}), 400, "0,0,0", nil},

		// What only 2.0 has.
		{"the first symbol is empty", writeV2(t, writev2.Request{Symbols: []string{"__name__", "m"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{0, 1}, Samples: []writev2.Sample{{Timestamp: at}}}}}), 400, "0,0,0", nil},
		{"references point to symbols", writeV2(t, writev2.Request{Symbols: []string{"", "__name__"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: at}}}}}), 400, "0,0,0", nil},
		{"references come in pairs", writeV2(t, writev2.Request{Symbols: []string{"", "__name__", "m"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{1, 2, 1}, Samples: []writev2.Sample{{Timestamp: at}}}}}), 400, "0,0,0", nil},
		{"a series has a sample or a histogram", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			return append(two("__name__", "m")(s), writev2.TimeSeries{LabelsRefs: s.refs("__name__", "none")})
		}), 400, "1,0,0", m},
		{"symbols that nobody uses do no harm", writeV2(t, writev2.Request{Symbols: []string{"", "__name__", "m", "unused"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: at}}}}}), 204, "1,0,0", m},
		{"exemplars are kept and counted", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			ts := two("__name__", "m")(s)
			ts[0].Exemplars = []writev2.Exemplar{{LabelsRefs: s.refs("trace_id", "abc"), Value: 1, Timestamp: at}}
			return ts
		}), 204, "1,0,1", m},
		{"an exemplar may have no labels", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			ts := two("__name__", "m")(s)
			ts[0].Exemplars = []writev2.Exemplar{{Value: 1, Timestamp: at}}
			return ts
		}), 204, "1,0,1", m},
		{"the start of a counter is a zero before its first sample", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			ts := two("__name__", "m")(s)
			ts[0].Samples[0].StartTimestamp = at - 1000
			return ts
		}), 204, "1,0,0", map[string]int{`{__name__="m"}`: 2}},
		{"a start behind its sample is passed over", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			ts := two("__name__", "m")(s)
			ts[0].Samples[0].StartTimestamp = at + 1000
			return ts
		}), 204, "1,0,0", m},
		{"metadata comes with its series", v2Of(t, func(s *symbols) []writev2.TimeSeries {
			ts := two("__name__", "m")(s)
			ts[0].Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: s.refs("help")[0], UnitRef: s.refs("seconds")[0]}
			return ts
		}), 204, "1,0,0", m},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			tenant := strings.NewReplacer(" ", "-", ",", "", ".", "-").Replace(c.rule)
			for _, path := range []string{"/api/v1/receive", "/api/v1/write"} {
				tenant := tenant + strings.ReplaceAll(path, "/", "_")
				got := (&receiver{t: t, write: r.write}).post(path, c.send.body, append(slices.Clone(c.send.headers), "THANOS-TENANT", tenant)...)
				require.Equal(t, c.code, got.code, got.body)
				if c.written != "" {
					require.Equal(t, c.written, strings.Join([]string{
						got.header.Get("X-Prometheus-Remote-Write-Samples-Written"), got.header.Get("X-Prometheus-Remote-Write-Histograms-Written"),
						got.header.Get("X-Prometheus-Remote-Write-Exemplars-Written"),
					}, ","))
				}
				if got.code/100 == 2 {
					require.Empty(t, got.body)
				} else {
					require.NotEmpty(t, got.body, "a refusal has a reason")
				}
				has := (&receiver{t: t, grpc: r.grpc}).stored(tenant)
				if c.has == nil {
					require.Empty(t, has)
				} else {
					require.Equal(t, c.has, has)
				}
			}
		})
	}
}

// framed is a good request in the stream format of snappy, which is not that of Remote-Write.
func framed(t *testing.T) []byte {
	t.Helper()
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(1, 1, "__name__", "m")}}).Marshal()
	require.NoError(t, err)
	var b bytes.Buffer
	w := snappy.NewBufferedWriter(&b)
	_, err = w.Write(raw)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func withUnknownField(t *testing.T, req prompb.WriteRequest) []byte {
	t.Helper()
	raw, err := req.Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, append(raw, 15<<3|2, 3, 'n', 'e', 'w'))
}

func TestARetryOfWhatWasWrittenSucceeds(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	at := time.Now().UnixMilli()
	v1 := writeV1(t, prompb.WriteRequest{Timeseries: []prompb.TimeSeries{sampleOf(at-1, 1, "__name__", "m"), sampleOf(at, 2, "__name__", "n")}})
	v2 := v2Of(t, func(s *symbols) []writev2.TimeSeries {
		return []writev2.TimeSeries{{LabelsRefs: s.refs("__name__", "o"), Samples: []writev2.Sample{{Value: 1, Timestamp: at - 1}, {Value: 2, Timestamp: at}}}}
	})
	for range 3 {
		require.Equal(t, 204, r.post("/api/v1/receive", v1.body, v1.headers...).code)
		a := r.post("/api/v1/receive", v2.body, v2.headers...)
		require.Equal(t, 204, a.code, a.body)
	}
	require.Equal(t, map[string]int{`{__name__="m"}`: 1, `{__name__="n"}`: 1, `{__name__="o"}`: 2}, r.stored("default-tenant"))
}
