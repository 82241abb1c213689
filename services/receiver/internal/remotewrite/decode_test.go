package remotewrite

import (
	"bytes"
	"math"
	"net/http"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

func lbl(pairs ...string) (out []prompb.Label) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func testHistogram() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 1, Count: 5, Sum: 12, ZeroThreshold: 0.001, ZeroCount: 1,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{2, 0},
	}
}

func v1Request() *prompb.WriteRequest {
	return &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{
			{
				Labels:    lbl("__name__", "up", "instance", "a:9090", "job", "x"),
				Samples:   []prompb.Sample{{Value: 1.5, Timestamp: 1000}, {Value: 0, Timestamp: -7}},
				Exemplars: []prompb.Exemplar{{Labels: lbl("trace_id", "t"), Value: 3, Timestamp: 1000}},
			},
			{
				Labels:     lbl("__name__", "h", "job", "x"),
				Histograms: []prompb.Histogram{prompb.FromIntHistogram(5, testHistogram())},
			},
		},
		Metadata: []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "up", Help: "is up", Unit: "bool"}},
	}
}

func v2Request() *writev2.Request {
	return &writev2.Request{
		Symbols: []string{"", "__name__", "up", "instance", "a:9090", "job", "x", "trace_id", "t", "is up", "bool", "h"},
		Timeseries: []writev2.TimeSeries{
			{
				LabelsRefs: []uint32{1, 2, 3, 4, 5, 6},
				Samples:    []writev2.Sample{{Value: 1.5, Timestamp: 1000, StartTimestamp: 10}, {Value: 0, Timestamp: -7}},
				Exemplars:  []writev2.Exemplar{{LabelsRefs: []uint32{7, 8}, Value: 3, Timestamp: 1000}},
				Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: 9, UnitRef: 10},
			},
			{
				LabelsRefs: []uint32{1, 11, 5, 6},
				Histograms: []writev2.Histogram{writev2.FromIntHistogram(5, testHistogram())},
			},
		},
	}
}

type seen struct {
	samples    [][3]float64
	histograms []*writev2.Histogram
	exemplars  []exemplar.Exemplar
}

func (s *seen) Sample(t int64, v float64, st int64) {
	s.samples = append(s.samples, [3]float64{float64(t), v, float64(st)})
}
func (s *seen) Histogram(h *writev2.Histogram) { s.histograms = append(s.histograms, h) }
func (s *seen) Exemplar(e exemplar.Exemplar)   { s.exemplars = append(s.exemplars, e) }

func TestBothVersionsBecomeTheSameSeries(t *testing.T) {
	t.Parallel()
	m1, err := v1Request().Marshal()
	require.NoError(t, err)
	m2, err := v2Request().Marshal()
	require.NoError(t, err)
	var r1, r2 Request
	require.NoError(t, r1.DecodeV1(m1))
	require.NoError(t, r2.DecodeV2(m2))
	for version, r := range map[Version]*Request{V1: &r1, V2: &r2} {
		require.Empty(t, r.Bad)
		require.Len(t, r.Series, 2)
		require.Equal(t, []Metadata{{Family: "up", Type: 2, Help: "is up", Unit: "bool"}}, r.Metadata)
		f, h, e := r.Totals()
		require.Equal(t, [3]uint64{2, 1, 1}, [3]uint64{f, h, e})

		lset, err := ParseLabels(r.Series[0].Labels)
		require.NoError(t, err)
		require.Equal(t, `{__name__="up", instance="a:9090", job="x"}`, lset.String())
		key, sorted, err := AppendKey([]byte("tenant\xff"), r.Series[0].Labels)
		require.NoError(t, err)
		require.Nil(t, sorted)
		require.Equal(t, "tenant\xff__name__\xffup\xffinstance\xffa:9090\xffjob\xffx\xff", string(key))

		var v seen
		require.NoError(t, r.Series[0].Walk(&v))
		start := 0.0
		if version == V2 {
			start = 10
		}
		require.Equal(t, [][3]float64{{1000, 1.5, start}, {-7, 0, 0}}, v.samples)
		require.Len(t, v.exemplars, 1)
		require.Equal(t, `{trace_id="t"}`, v.exemplars[0].Labels.String())
		require.Equal(t, int64(1000), v.exemplars[0].Ts)

		v = seen{}
		require.NoError(t, r.Series[1].Walk(&v))
		require.Len(t, v.histograms, 1)
		require.True(t, testHistogram().Equals(v.histograms[0].ToIntHistogram()))
	}
	require.Equal(t, r1.Series[0].Labels, r2.Series[0].Labels, "known by the same bytes whatever the version")
}

func TestASeriesPassesOnAsItCame(t *testing.T) {
	t.Parallel()
	m, err := (&prompb.WriteRequest{Timeseries: v1Request().Timeseries}).Marshal()
	require.NoError(t, err)
	var r Request
	require.NoError(t, r.DecodeV1(m))
	var out []byte
	for i := range r.Series {
		out = AppendSeries(out, &r.Series[i])
	}
	require.Equal(t, m, out)
}

func TestWrittenPartsAreWhatPeersRead(t *testing.T) {
	t.Parallel()
	lset, err := ParseLabels(mustSeries(t, lbl("__name__", "m", "a", "b")).Labels)
	require.NoError(t, err)
	labelBytes := AppendLabels(nil, lset)
	body := AppendSample(nil, -3, math.Inf(1), 0)
	body = AppendExemplar(body, exemplar.Exemplar{Labels: lset, Value: 2, Ts: 9})
	hist := writev2.FromIntHistogram(4, testHistogram())
	body, err = AppendHistogram(body, &hist)
	require.NoError(t, err)
	var ts prompb.TimeSeries
	require.NoError(t, ts.Unmarshal(append(labelBytes, body...)))
	require.Equal(t, lbl("__name__", "m", "a", "b"), ts.Labels)
	require.Equal(t, []prompb.Sample{{Value: math.Inf(1), Timestamp: -3}}, ts.Samples)
	require.True(t, testHistogram().Equals(ts.Histograms[0].ToIntHistogram()))
	require.Equal(t, int64(9), ts.Exemplars[0].Timestamp)
}

func mustSeries(t *testing.T, labels []prompb.Label) Series {
	t.Helper()
	m, err := (&prompb.TimeSeries{Labels: labels, Samples: []prompb.Sample{{Value: 1, Timestamp: 1}}}).Marshal()
	require.NoError(t, err)
	s, err := ParseSeries(m)
	require.NoError(t, err)
	return s
}

func TestLabelsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		labels []prompb.Label
		want   string
	}{
		"duplicate name":          {lbl("__name__", "m", "a", "1", "a", "2"), `"a" is not unique`},
		"duplicate name unsorted": {lbl("a", "1", "__name__", "m", "a", "2"), `"a" is not unique`},
		"empty name":              {lbl("", "x", "__name__", "m"), "has no name"},
		"no metric name":          {lbl("job", "x"), "no metric name"},
		"empty metric name":       {lbl("__name__", "", "job", "x"), "no metric name"},
		"no labels":               {nil, "no metric name"},
		"value not UTF-8":         {lbl("__name__", "m", "a", "\xff\xfe"), `of label a is not UTF-8`},
		"name not UTF-8":          {lbl("__name__", "m", "a\xc0", "x"), `is not UTF-8`},
		"name and value together": {lbl("__name__", "m", "a\xc3", "\xa9"), `is not UTF-8`},
	} {
		s := mustSeries(t, c.labels)
		_, _, err := AppendKey(nil, s.Labels)
		require.ErrorIs(t, err, ErrInvalidLabels, name)
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestUnsortedLabelsAreSorted(t *testing.T) {
	t.Parallel()
	a := mustSeries(t, lbl("job", "x", "__name__", "m", "instance", "i"))
	b := mustSeries(t, lbl("__name__", "m", "instance", "i", "job", "x"))
	ka, sorted, err := AppendKey(nil, a.Labels)
	require.NoError(t, err)
	kb, none, err := AppendKey(nil, b.Labels)
	require.NoError(t, err)
	require.Nil(t, none)
	require.Equal(t, b.Labels, sorted)
	require.Equal(t, xxhash.Sum64(kb), xxhash.Sum64(ka))
}

func TestLabelsBehindSamplesAreFound(t *testing.T) {
	t.Parallel()
	l := mustSeries(t, lbl("__name__", "m", "a", "b"))
	first, second := l.Labels[:2+int(l.Labels[1])], l.Labels[2+int(l.Labels[1]):]
	msg := append(append(append([]byte(nil), first...), l.Body...), second...)
	s, err := ParseSeries(msg)
	require.NoError(t, err)
	require.Equal(t, l.Labels, s.Labels)
	require.Equal(t, l.Body, s.Body)
}

func TestLabelBytesCanBeReadAndCut(t *testing.T) {
	t.Parallel()
	s := mustSeries(t, lbl("__name__", "m", "empty", "", "tenant", "x"))
	require.Equal(t, "x", string(Value(s.Labels, "tenant")))
	require.Nil(t, Value(s.Labels, "nope"))
	require.Equal(t, `{__name__="m", empty="", tenant="x"}`, Describe(s.Labels))
	rest := Without(s.Labels, "tenant")
	lset, err := ParseLabels(rest)
	require.NoError(t, err)
	require.Equal(t, `{__name__="m"}`, lset.String(), "an empty label is none")
}

func TestRequestsOfTwoPointZeroAreCheckedSeriesBySeries(t *testing.T) {
	t.Parallel()
	good := writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: 1}}}
	req := &writev2.Request{Symbols: []string{"", "__name__", "m"}, Timeseries: []writev2.TimeSeries{
		good,
		{LabelsRefs: []uint32{1, 9}, Samples: good.Samples},
		{LabelsRefs: []uint32{1, 2, 1}, Samples: good.Samples},
		{LabelsRefs: []uint32{1, 2}, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{1, 2}}}},
		{LabelsRefs: []uint32{1, 2}, Samples: good.Samples, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{7, 2}}}},
		good,
	}}
	m, err := req.Marshal()
	require.NoError(t, err)
	var r Request
	require.NoError(t, r.DecodeV2(m))
	require.Len(t, r.Series, 2)
	require.Equal(t, `{__name__="m"}`, Describe(r.Series[1].Labels))
	require.Len(t, r.Bad, 4)
	for i, want := range []string{"points to symbol 9", "odd number", "neither a sample nor a histogram", "points to symbol 7"} {
		require.ErrorIs(t, r.Bad[i].Err, ErrInvalidLabels)
		require.ErrorContains(t, r.Bad[i].Err, want)
	}

	m, err = (&writev2.Request{Symbols: []string{"x"}}).Marshal()
	require.NoError(t, err)
	var again Request
	require.ErrorIs(t, again.DecodeV2(m), ErrMalformed)
}

func TestARequestCanBeUsedAgain(t *testing.T) {
	t.Parallel()
	m2, err := v2Request().Marshal()
	require.NoError(t, err)
	var r Request
	for range 3 {
		require.NoError(t, r.DecodeV2(m2))
		require.Len(t, r.Series, 2)
		require.Len(t, r.Metadata, 1)
		r.Reset()
	}
}

func TestContentIsNegotiated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ, enc string
		want     Version
	}{
		{"", "", V1},
		{"application/x-protobuf", "snappy", V1},
		{"application/x-protobuf;proto=prometheus.WriteRequest", "snappy", V1},
		{"application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", V2},
		{"application/x-protobuf; proto=io.prometheus.write.v2.Request", "Snappy", V2},
		{"application/json", "snappy", 0},
		{"image/png", "", 0},
		{"application/x-protobuf;proto=other", "snappy", 0},
		{"application/x-protobuf", "gzip", 0},
		{"application/x-protobuf", "deflate", 0},
		{";;;", "", 0},
	} {
		h := http.Header{}
		h.Set("Content-Type", c.typ)
		h.Set("Content-Encoding", c.enc)
		got, err := Negotiate(h)
		if c.want == 0 {
			require.ErrorIs(t, err, ErrUnsupported, "%v", c)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v", c)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("abcdefgh"), 100)
	packed := snappy.Encode(nil, plain)
	size := int64(len(packed))
	_, out, err := Body(bytes.NewReader(packed), size, 1000, nil, nil)
	require.NoError(t, err)
	require.Equal(t, plain, out)
	_, out, err = Body(bytes.NewReader(packed), -1, 1000, make([]byte, 0, 10), make([]byte, 2000))
	require.NoError(t, err)
	require.Equal(t, plain, out)

	_, _, err = Body(bytes.NewReader(packed), size, size-1, nil, nil)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = Body(bytes.NewReader(packed), -1, size-1, nil, nil)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = Body(bytes.NewReader(packed), size, 60, nil, nil)
	require.ErrorIs(t, err, ErrTooLarge, "decompressed it is %d bytes", len(plain))
	_, _, err = Body(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0x7f}), 4, 1<<30, nil, nil)
	require.ErrorIs(t, err, ErrMalformed, "announces what it cannot hold")
	_, _, err = Body(bytes.NewReader([]byte("0not snappy")), 11, 1000, nil, nil)
	require.ErrorIs(t, err, ErrMalformed)
}
