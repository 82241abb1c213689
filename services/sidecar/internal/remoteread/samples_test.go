package remoteread

import (
	"math"
	"net/http"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
)

// sample is one decoded sample.
type sample struct {
	T  int64
	V  float64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

func wireSpans(in []histogram.Span) (out []*prometheuscopy.BucketSpan) {
	for _, s := range in {
		out = append(out, &prometheuscopy.BucketSpan{Offset: s.Offset, Length: s.Length})
	}
	return out
}

func wireInt(t int64, h *histogram.Histogram) *prometheuscopy.Histogram {
	return &prometheuscopy.Histogram{
		Count: &prometheuscopy.Histogram_CountInt{CountInt: h.Count}, Sum: h.Sum, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold,
		ZeroCount:     &prometheuscopy.Histogram_ZeroCountInt{ZeroCountInt: h.ZeroCount},
		NegativeSpans: wireSpans(h.NegativeSpans), NegativeDeltas: h.NegativeBuckets,
		PositiveSpans: wireSpans(h.PositiveSpans), PositiveDeltas: h.PositiveBuckets,
		ResetHint: prometheuscopy.Histogram_ResetHint(h.CounterResetHint), Timestamp: t, CustomValues: h.CustomValues,
	}
}

func wireFloat(t int64, h *histogram.FloatHistogram) *prometheuscopy.Histogram {
	return &prometheuscopy.Histogram{
		Count: &prometheuscopy.Histogram_CountFloat{CountFloat: h.Count}, Sum: h.Sum, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold,
		ZeroCount:     &prometheuscopy.Histogram_ZeroCountFloat{ZeroCountFloat: h.ZeroCount},
		NegativeSpans: wireSpans(h.NegativeSpans), NegativeCounts: h.NegativeBuckets,
		PositiveSpans: wireSpans(h.PositiveSpans), PositiveCounts: h.PositiveBuckets,
		ResetHint: prometheuscopy.Histogram_ResetHint(h.CounterResetHint), Timestamp: t, CustomValues: h.CustomValues,
	}
}

// wireSeries is a series of samples as a server that does not stream sends it.
func wireSeries(lset labels.Labels, in []sample) *prometheuscopy.TimeSeries {
	out := &prometheuscopy.TimeSeries{Labels: wireLabels(lset)}
	for _, s := range in {
		switch {
		case s.H != nil:
			out.Histograms = append(out.Histograms, wireInt(s.T, s.H))
		case s.FH != nil:
			out.Histograms = append(out.Histograms, wireFloat(s.T, s.FH))
		default:
			out.Samples = append(out.Samples, &prometheuscopy.Sample{Timestamp: s.T, Value: s.V})
		}
	}
	return out
}

// decodeSeries reads the chunks of a series and checks the times they claim.
func decodeSeries(t *testing.T, s *storeapi.Series) (out []sample, sizes []int) {
	t.Helper()
	last := int64(math.MinInt64)
	for _, c := range s.Chunks {
		ch, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Data)
		require.NoError(t, err)
		sizes = append(sizes, ch.NumSamples())
		require.GreaterOrEqual(t, c.MinTime, last, "chunks are sorted")
		last = c.MinTime
		from := len(out)
		it := ch.Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			var s sample
			switch vt {
			case chunkenc.ValFloat:
				s.T, s.V = it.At()
			case chunkenc.ValHistogram:
				s.T, s.H = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				s.T, s.FH = it.AtFloatHistogram(nil)
			}
			out = append(out, s)
		}
		require.NoError(t, it.Err())
		require.Equal(t, c.MinTime, out[from].T, "a chunk begins when it says")
		require.Equal(t, c.MaxTime, out[len(out)-1].T, "a chunk ends when it says")
	}
	return out, sizes
}

var sameSamples = []cmp.Option{
	cmpopts.EquateNaNs(), cmpopts.EquateEmpty(),
	cmpopts.IgnoreFields(histogram.Histogram{}, "CounterResetHint"), cmpopts.IgnoreFields(histogram.FloatHistogram{}, "CounterResetHint"),
	// An encoder may widen the layout with empty buckets; values stay the same.
	cmp.Transformer("int", func(h *histogram.Histogram) any {
		if h == nil {
			return nil
		}
		return *h.ToFloat(nil).Compact(0)
	}),
	cmp.Transformer("float", func(h *histogram.FloatHistogram) any {
		if h == nil {
			return nil
		}
		return *h.Copy().Compact(0)
	}),
}

func custom(i int) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: uint64(3 * i), Sum: float64(i), CustomValues: []float64{1, 2, 5},
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{int64(i), int64(i)},
	}
}

// ints and floats are n samples a second apart.
func ints(n int, of func(int) *histogram.Histogram) (out []sample) {
	for i := range n {
		out = append(out, sample{T: int64(i) * 1000, H: of(i)})
	}
	return out
}

func floats(n int, of func(int) *histogram.FloatHistogram) (out []sample) {
	for i := range n {
		out = append(out, sample{T: int64(i) * 1000, FH: of(i)})
	}
	return out
}

// growing has one bucket more in its second half, and another schema at the end.
func growing(i int) *histogram.Histogram {
	h := &histogram.Histogram{
		Schema: 1, Count: uint64(2*i + 2), Sum: float64(i), ZeroThreshold: 0.001,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{int64(i + 1), 0},
	}
	if i >= 25 {
		h.PositiveSpans = []histogram.Span{{Offset: 0, Length: 3}, {Offset: 1, Length: 1}}
		h.PositiveBuckets = []int64{int64(i + 1), -int64(i), int64(2), int64(i) - 2}
		h.Count = uint64(i + 1 + 1 + 3 + i + 1)
	}
	if i >= 40 {
		h.Schema = 2
	}
	return h
}

func TestSamplesBecomeChunksWithTheSameValues(t *testing.T) {
	t.Parallel()
	plain := func(n int) (out []sample) {
		for i := range n {
			out = append(out, sample{T: int64(i)*1000 - 5000, V: float64(i * i)})
		}
		return out
	}
	reset := ints(30, func(i int) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(int64(i % 10)) })
	stale := append(ints(3, func(i int) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(int64(i)) }),
		sample{T: 3000, H: &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}})
	var mixed []sample
	for i := range 20 {
		s := sample{T: int64(i) * 1000}
		switch {
		case i < 5 || i >= 15:
			s.V = float64(i)
		case i < 10:
			s.H = tsdbutil.GenerateTestHistogram(int64(i))
		default:
			s.FH = tsdbutil.GenerateTestFloatHistogram(int64(i))
		}
		mixed = append(mixed, s)
	}
	for _, tc := range []struct {
		name  string
		in    []sample
		sizes []int
	}{
		{name: "nothing"},
		{name: "one float", in: plain(1), sizes: []int{1}},
		{name: "floats", in: plain(300), sizes: []int{120, 120, 60}},
		{name: "stale marker", in: []sample{{T: 1, V: 1}, {T: 2, V: math.Float64frombits(value.StaleNaN)}}, sizes: []int{2}},
		{name: "int histograms", in: ints(130, func(i int) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(int64(i)) }), sizes: []int{120, 10}},
		{name: "float histograms", in: floats(130, func(i int) *histogram.FloatHistogram { return tsdbutil.GenerateTestFloatHistogram(int64(i)) }), sizes: []int{120, 10}},
		{name: "gauge histograms", in: ints(130, func(i int) *histogram.Histogram { return tsdbutil.GenerateTestGaugeHistogram(int64(i * 7 % 11)) }), sizes: []int{120, 10}},
		{name: "float gauge histograms", in: floats(9, func(i int) *histogram.FloatHistogram {
			return tsdbutil.GenerateTestGaugeFloatHistogram(int64(i * 7 % 11))
		}), sizes: []int{9}},
		{name: "custom buckets", in: ints(5, custom), sizes: []int{5}},
		{name: "float custom buckets", in: floats(5, func(i int) *histogram.FloatHistogram { return custom(i).ToFloat(nil) }), sizes: []int{5}},
		{name: "counter resets", in: reset, sizes: []int{10, 10, 10}},
		{name: "layout and schema change", in: ints(50, growing), sizes: []int{40, 10}},
		{name: "float layout and schema change", in: floats(50, func(i int) *histogram.FloatHistogram { return growing(i).ToFloat(nil) }), sizes: []int{40, 10}},
		{name: "stale histogram", in: stale},
		{name: "all kinds", in: mixed, sizes: []int{5, 5, 5, 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			series, err := encodeSamples(wireSeries(labels.FromStrings("__name__", "x"), tc.in))
			require.NoError(t, err)
			got, sizes := decodeSeries(t, &series)
			if d := cmp.Diff(tc.in, got, sameSamples...); d != "" {
				t.Errorf("samples (-want +got):\n%s", d)
			}
			if tc.sizes != nil {
				require.Equal(t, tc.sizes, sizes, "samples per chunk")
			}
			for _, s := range tc.in {
				if s.H != nil && s.H.CounterResetHint == histogram.GaugeType {
					require.Equal(t, histogram.GaugeType, got[0].H.CounterResetHint, "gauges stay gauges")
				}
			}
		})
	}
}

func TestSamplesThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	bad := tsdbutil.GenerateTestHistogram(1)
	bad.PositiveBuckets = bad.PositiveBuckets[:1]
	badFloat := tsdbutil.GenerateTestFloatHistogram(1)
	badFloat.PositiveBuckets = nil
	for _, tc := range []struct {
		name, want string
		in         []sample
	}{
		{"backwards", "sample at 4 comes after one at 5", []sample{{T: 5}, {T: 4}}},
		{"buckets are missing", "histogram at 7", []sample{{T: 7, H: bad}}},
		{"float buckets are missing", "histogram at 8", []sample{{T: 8, FH: badFloat}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := encodeSamples(wireSeries(labels.FromStrings("__name__", "x"), tc.in))
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, `{__name__="x"}`)
		})
	}
}

// whole answers with samples, as servers do that cannot stream.
func whole(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(body)
	}
}

func TestAServerThatDoesNotStreamIsReadAsAWhole(t *testing.T) {
	t.Parallel()
	resp := &prometheuscopy.ReadResponse{Results: []*prometheuscopy.QueryResult{{Timeseries: []*prometheuscopy.TimeSeries{
		wireSeries(labels.FromStrings("__name__", "b"), []sample{{T: 1, V: 2}}),
		wireSeries(labels.FromStrings("__name__", "a"), []sample{{T: 3, V: 4}, {T: 5, V: 6}}),
	}}}}
	data, err := resp.MarshalVT()
	require.NoError(t, err)
	s, err := serve(t, whole(snappy.Encode(nil, data))).Read(t.Context(), Query{})
	require.NoError(t, err)
	defer s.Close()
	require.False(t, s.Ordered(), "such servers need not sort")
	got := drain(s)
	require.NoError(t, s.Err())
	require.Len(t, got, 2)
	require.Equal(t, "b", got[0].Labels.Get("__name__"))
	samples, _ := decodeSeries(t, &got[1])
	require.Equal(t, []sample{{T: 3, V: 4}, {T: 5, V: 6}}, samples)
}

func TestAnswersThatCannotBeReadAreThePeersFault(t *testing.T) {
	t.Parallel()
	backwards, err := (&prometheuscopy.ReadResponse{Results: []*prometheuscopy.QueryResult{{Timeseries: []*prometheuscopy.TimeSeries{
		wireSeries(labels.FromStrings("__name__", "b"), []sample{{T: 2}, {T: 1}}),
	}}}}).MarshalVT()
	require.NoError(t, err)
	for name, body := range map[string][]byte{
		"decompress answer": []byte("no snappy at all"),
		"decode answer":     snappy.Encode(nil, []byte{0x0a, 0xff}),
		"encode samples":    snappy.Encode(nil, backwards),
	} {
		_, err := serve(t, whole(body)).Read(t.Context(), Query{})
		require.ErrorIs(t, err, storeapi.ErrInternal, name)
		require.ErrorContains(t, err, name+" of http://127.0.0.1")
	}
	// The length that compressed data claim is looked at before memory is taken for it.
	_, err = serve(t, whole([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0})).Read(t.Context(), Query{})
	require.ErrorIs(t, err, storeapi.ErrLimit)
}

func FuzzEncodeSamples(f *testing.F) {
	for _, in := range [][]sample{{{T: 1, V: 2}}, ints(3, growing), ints(2, custom), floats(2, func(i int) *histogram.FloatHistogram { return growing(i).ToFloat(nil) })} {
		data, err := wireSeries(labels.FromStrings("a", "b"), in).MarshalVT()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ts := &prometheuscopy.TimeSeries{}
		if ts.UnmarshalVT(data) != nil {
			return
		}
		series, err := encodeSamples(ts)
		if err != nil {
			return
		}
		got, _ := decodeSeries(t, &series)
		require.Len(t, got, len(ts.GetSamples())+len(ts.GetHistograms()))
	})
}
