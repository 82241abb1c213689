package promapi

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"github.com/stretchr/testify/require"
)

// reference is how Prometheus itself writes the data of an answer.
func reference(t testing.TB, data any) string {
	t.Helper()
	b, err := v1.JSONCodec{}.Encode(&v1.Response{Status: "success", Data: data})
	require.NoError(t, err)
	return string(b)
}

// referenceQuery is a query result in the shape Prometheus writes; ours has the analysis after it.
func referenceQuery(t testing.TB, v parser.Value) string {
	t.Helper()
	s := reference(t, &v1.QueryData{ResultType: v.Type(), Result: v})
	s, ok := strings.CutSuffix(s, `}}`)
	require.True(t, ok)
	return s + `,"analysis":{}}}`
}

// encode is how we write the same.
func encode(t testing.TB, d Data) string {
	t.Helper()
	var buf bytes.Buffer
	e := NewEncoder(&buf)
	e.Raw(`{"status":"success","data":`)
	d.EncodeJSON(e)
	e.Raw(`}`)
	require.NoError(t, e.Close())
	return buf.String()
}

var oddFloats = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.1, 1e-6, 9.99999e-7, -1e-7, 1e20, 1e21, -1e21, 1e15, 1e15 - 1, -1e15, 123456789.125, math.Pi,
	math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(0x7ff0000000000002),
	1 << 53, 1<<53 + 2, math.MaxInt64, math.MinInt64, 4503599627370496.5,
}

var oddTimes = []int64{0, 1, 9, 10, 99, 100, 999, 1000, 1001, 1795427326870, 1795427326007, -1, -999, -1000, -1001, -1795427326870, math.MaxInt64, math.MinInt64 + 1}

var oddLabels = []labels.Labels{
	labels.EmptyLabels(),
	labels.FromStrings("__name__", "up", "job", "a"),
	labels.FromStrings("a", `quote " back \ slash`, "b", "new\nline\ttab\rret", "c", "<html> & 'x'", "d", "\x00\x01\x1f\x7f\b\f"),
	labels.FromStrings("ä.ö", "日本語 🎉", "ls", "\u2028\u2029", "bad", "\xff\xfe ok \xc3"),
}

func TestFloatsTimesAndLabelsAreWrittenAsPrometheusDoes(t *testing.T) {
	t.Parallel()
	var vec promql.Vector
	for _, f := range oddFloats {
		vec = append(vec, promql.Sample{T: 1, F: f})
	}
	for _, ms := range oddTimes {
		vec = append(vec, promql.Sample{T: ms, F: 1})
	}
	for _, ls := range oddLabels {
		vec = append(vec, promql.Sample{Metric: ls})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		vec = append(vec, promql.Sample{T: r.Int64N(4e12) - 1e12, F: math.Float64frombits(r.Uint64())})
		vec = append(vec, promql.Sample{T: r.Int64N(4e12), F: math.Round(r.NormFloat64()*1e6) / 100})
	}
	require.Equal(t, referenceQuery(t, vec), encode(t, &QueryData{Result: vec}))
}

func TestAllKindsOfValuesAreWrittenAsPrometheusDoes(t *testing.T) {
	t.Parallel()
	hist := tsdbutil.GenerateTestFloatHistogram(3)
	gauge := tsdbutil.GenerateTestGaugeFloatHistogram(5)
	custom := tsdbutil.GenerateTestCustomBucketsFloatHistogram(7)
	empty := &histogram.FloatHistogram{}
	negative := &histogram.FloatHistogram{
		Schema: -4, Count: 1.5, Sum: math.NaN(), ZeroThreshold: 1e-128, ZeroCount: 0.5,
		NegativeSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, NegativeBuckets: []float64{1, 0, 1e22},
	}
	for name, v := range map[string]parser.Value{
		"empty vector": promql.Vector{},
		"nil vector":   promql.Vector(nil),
		"empty matrix": promql.Matrix{},
		"vector of histograms": promql.Vector{
			{Metric: oddLabels[1], T: 1500, H: hist}, {T: 2, H: gauge}, {T: 3, H: custom}, {T: 4, H: empty}, {T: 5, H: negative}, {T: 6, F: 1},
		},
		"matrix": promql.Matrix{
			{Metric: oddLabels[1], Floats: []promql.FPoint{{T: 1, F: 1}, {T: 2, F: math.NaN()}}},
			{Metric: oddLabels[2], Histograms: []promql.HPoint{{T: 1, H: hist}, {T: 2500, H: negative}}},
			{Metric: oddLabels[3], Floats: []promql.FPoint{{T: 1, F: 1}}, Histograms: []promql.HPoint{{T: 2, H: custom}}},
			{Metric: oddLabels[0]},
		},
		"scalar":          promql.Scalar{T: 1795427326870, V: 2},
		"negative scalar": promql.Scalar{T: -1, V: 1e-9},
		"huge scalar":     promql.Scalar{T: 1, V: 1e300},
		"inf scalar":      promql.Scalar{T: 1001, V: math.Inf(-1)},
		"string":          promql.String{T: 1795427326864, V: "x <y> & \b\f\u2028 \xff \" ä"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, referenceQuery(t, v), encode(t, &QueryData{Result: v}))
		})
	}
}

func TestListsAreWrittenAsPrometheusDoes(t *testing.T) {
	t.Parallel()
	names := []string{"", "a", `"\`, "<script>&", "\x00\t\n\r\x1f\x7f", "日本\u2028\u2029", "\xff\xc3 x", "a\xe2\x80"}
	require.Equal(t, reference(t, names), encode(t, Strings(names)))
	require.Equal(t, reference(t, []string{}), encode(t, Strings(nil)))
	require.Equal(t, reference(t, oddLabels), encode(t, LabelSets(oddLabels)))
	require.Equal(t, reference(t, []labels.Labels{}), encode(t, LabelSets(nil)))
}

func TestLargeAnswersAreWrittenInPiecesAndWhole(t *testing.T) {
	t.Parallel()
	m := syntheticMatrix(100, 500)
	var w countingWriter
	e := NewEncoder(&w)
	(&QueryData{Result: m}).EncodeJSON(e)
	require.NoError(t, e.Close())
	require.Greater(t, w.writes, 10)
	require.Less(t, w.largest, 2*flushBytes)
	require.Equal(t, referenceQuery(t, m), `{"status":"success","data":`+w.String()+`}`)
}

type countingWriter struct {
	bytes.Buffer
	writes, largest int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.writes++
	w.largest = max(w.largest, len(p))
	return w.Buffer.Write(p)
}

func FuzzStringsAreWrittenAsPrometheusDoes(f *testing.F) {
	for _, s := range []string{"", "a", "\x00<>&\u2028\xff\"\\", "日本"} {
		f.Add(s, 1.5, int64(1500))
	}
	f.Fuzz(func(t *testing.T, s string, v float64, ms int64) {
		if ms == math.MinInt64 {
			ms++ // Prometheus' own code overflows there
		}
		require.Equal(t, reference(t, []string{s}), encode(t, Strings{s}))
		vec := promql.Vector{{Metric: labels.FromStrings("a", s), T: ms, F: v}}
		require.Equal(t, referenceQuery(t, vec), encode(t, &QueryData{Result: vec}))
	})
}

func syntheticMatrix(series, points int) promql.Matrix {
	r := rand.New(rand.NewPCG(3, 4))
	m := make(promql.Matrix, series)
	for i := range m {
		m[i].Metric = labels.FromStrings("__name__", "http_requests_total", "instance", "10.0.0.1:9090", "job", "app", "pod", "app-"+strings.Repeat("x", i%7))
		m[i].Floats = make([]promql.FPoint, points)
		for j := range m[i].Floats {
			f := r.Float64() * 1e4
			if i%2 == 0 {
				f = math.Floor(f)
			}
			m[i].Floats[j] = promql.FPoint{T: 1795427326870 + int64(j)*15000, F: f}
		}
	}
	return m
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkMatrix(b *testing.B) {
	for _, size := range []struct {
		name           string
		series, points int
	}{{"100x250", 100, 250}, {"1000x1000", 1000, 1000}} {
		m := syntheticMatrix(size.series, size.points)
		n := int64(len(encode(b, &QueryData{Result: m})))
		b.Run("ours/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(n)
			for b.Loop() {
				e := NewEncoder(discard{})
				(&QueryData{Result: m}).EncodeJSON(e)
				if err := e.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("prometheus/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(n)
			for b.Loop() {
				_, err := v1.JSONCodec{}.Encode(&v1.Response{Status: "success", Data: &v1.QueryData{ResultType: m.Type(), Result: m}})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
