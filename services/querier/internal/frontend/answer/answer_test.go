package answer

import (
	"bytes"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi"
)

// body is the answer of the API.
func body(t testing.TB, v parser.Value, notes promapi.Notes) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, promapi.Respond(w, &promapi.QueryData{Result: v}, notes))
	return w.Body.Bytes()
}

func written(t testing.TB, a *Answer) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, a.Write(&b))
	return b.String()
}

func parsed(t testing.TB, text string) *Answer {
	t.Helper()
	a, err := Parse([]byte(text))
	require.NoError(t, err, text)
	return a
}

func exampleHistogram(n float64) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		Schema: 0, Count: 4 * n, Sum: 5 * n, PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{n, 3 * n},
	}
}

func example() promql.Matrix {
	return promql.Matrix{
		{Metric: labels.FromStrings("a", "1"), Floats: []promql.FPoint{{T: 0, F: 1}, {T: 500, F: math.NaN()}, {T: 1000, F: math.Inf(-1)}}},
		{Metric: labels.FromStrings("a", `"]},{ \`, "b.c", "é<\n"), Floats: []promql.FPoint{{T: 1000, F: 1e30}}, Histograms: []promql.HPoint{{T: 2000, H: exampleHistogram(1)}, {T: 3000, H: exampleHistogram(2)}}},
		{Metric: labels.EmptyLabels(), Histograms: []promql.HPoint{{T: -1500, H: &histogram.FloatHistogram{}}}},
	}
}

func TestAnswersAreWrittenAsTheyCame(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]parser.Value{
		"matrix": example(), "empty matrix": promql.Matrix{}, "scalar": promql.Scalar{T: 1500, V: 2}, "string": promql.String{T: 1, V: `x"y`},
		"vector": promql.Vector{{Metric: labels.FromStrings("a", "1"), T: 1, F: 2}, {Metric: labels.FromStrings("a", "2"), T: 1, H: exampleHistogram(1)}},
	} {
		text := body(t, v, promapi.Notes{Warnings: []string{`w "1"`, "PromQL info: é"}, Infos: []string{"i"}})
		require.Equal(t, string(text), written(t, parsed(t, string(text))), name)
	}
	for _, text := range []string{
		`{"status":"success","data":["a","b\"c"]}`, `{"status":"success","data":[]}`, `{"status":"success","data":[{"a":"b"},{"a":"c"}],"warnings":["x"]}`,
		`{"status":"success","data":{"resultType":"matrix","result":[],"stats":{"timings":{"execTotalTime":0.5},"samples":{"totalQueryableSamples":3,"peakSamples":2}},"analysis":{"name":"x"}}}`,
	} {
		require.Equal(t, text, written(t, parsed(t, text)))
	}
}

func TestOtherSpellingsAndUnknownKeysAreRead(t *testing.T) {
	t.Parallel()
	a := parsed(t, ` { "receipt" : {"a":[1,{"b":"}"}]}, "data" : { "result" : [ { "values" : [ [ 1 , "2" ] , [2.5,"3"] ] , "x":null, "metric" : { "a" : "1" } } ] , "resultType" : "matrix" } , "warnings":null, "status" : "success" } `)
	require.Equal(t, TypeMatrix, a.Type)
	require.Len(t, a.Series, 1)
	cut, err := a.Cut(2500, 2500, 0)
	require.NoError(t, err)
	require.Equal(t, `[2.5,"3"]`, string(cut.Series[0].Floats[0]))
	require.Empty(t, parsed(t, `{"status":"success","data":null}`).Items)
}

func TestWhatIsNoAnswerIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, `{`, `[]`, `null`, `{"status":"success"}`, `{"status":"error","data":[]}`, `{"status":"success","data":{}}`,
		`{"status":"success","data":{"resultType":"matrix"}}`, `{"status":"success","data":[]}x`, `{"status":"success","data":["a]}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"2"]]}]}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"}]}]}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[1,2]}]}}`,
		`{"status":"success","data":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
	} {
		_, err := Parse([]byte(text))
		require.ErrorIs(t, err, ErrMalformed, text)
	}
}

func TestRangesAreCutOut(t *testing.T) {
	t.Parallel()
	a := parsed(t, string(body(t, example(), promapi.Notes{})))
	cut, err := a.Cut(500, 2000, 0)
	require.NoError(t, err)
	require.JSONEq(t, string(body(t, promql.Matrix{
		{Metric: example()[0].Metric, Floats: []promql.FPoint{{T: 500, F: math.NaN()}, {T: 1000, F: math.Inf(-1)}}},
		{Metric: example()[1].Metric, Floats: []promql.FPoint{{T: 1000, F: 1e30}}, Histograms: []promql.HPoint{{T: 2000, H: exampleHistogram(1)}}},
	}, promapi.Notes{})), written(t, cut))
	cut, err = a.Cut(0, 3000, 1000)
	require.NoError(t, err)
	require.JSONEq(t, string(body(t, promql.Matrix{
		{Metric: example()[0].Metric, Floats: []promql.FPoint{{T: 0, F: 1}, {T: 1000, F: math.Inf(-1)}}}, example()[1],
	}, promapi.Notes{})), written(t, cut))
	first, ok, err := a.First()
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, -1500, first)
	_, ok, err = parsed(t, `{"status":"success","data":{"resultType":"matrix","result":[]}}`).First()
	require.NoError(t, err)
	require.False(t, ok)
}

func TestPartsAreJoinedInTheOrderOfLabels(t *testing.T) {
	t.Parallel()
	float := func(name string, ts ...int64) promql.Series {
		s := promql.Series{Metric: labels.FromStrings("a", name)}
		for _, at := range ts {
			s.Floats = append(s.Floats, promql.FPoint{T: at, F: float64(at)})
		}
		return s
	}
	parts := []promql.Matrix{{float("b", 1, 2), float("d", 1)}, {}, {float("a", 3), float("b", 3)}, {float("b", 4), float("c", 4), float("d", 4, 5)}}
	want := promql.Matrix{float("a", 3), float("b", 1, 2, 3, 4), float("c", 4), float("d", 1, 4, 5)}
	answers := make([]*Answer, len(parts))
	for i, p := range parts {
		answers[i] = parsed(t, string(body(t, p, promapi.Notes{Warnings: []string{"same", fmt.Sprint(i)}})))
	}
	got, err := Join(answers)
	require.NoError(t, err)
	require.JSONEq(t, string(body(t, want, promapi.Notes{Warnings: []string{"same", "0", "1", "2", "3"}})), written(t, got))
	_, err = Join([]*Answer{answers[0], parsed(t, `{"status":"success","data":[]}`)})
	require.ErrorIs(t, err, ErrMalformed)
}

func TestListsAreUnited(t *testing.T) {
	t.Parallel()
	names, cut, err := Lists([]*Answer{parsed(t, `{"status":"success","data":["a","c"]}`), parsed(t, `{"status":"success","data":["b","c","d"]}`)}, 3)
	require.NoError(t, err)
	require.True(t, cut)
	require.Equal(t, `{"status":"success","data":["a","b","c"]}`, written(t, names))
	series, cut, err := Lists([]*Answer{
		parsed(t, `{"status":"success","data":[{"a":"2"},{"a":"3"}]}`), parsed(t, `{"status":"success","data":[{"a":"1","b":"\u00e9"},{"a":"3"}]}`),
	}, 0)
	require.NoError(t, err)
	require.False(t, cut)
	require.Equal(t, `{"status":"success","data":[{"a":"1","b":"\u00e9"},{"a":"2"},{"a":"3"}]}`, written(t, series))
}

func TestStatisticsAreAddedUp(t *testing.T) {
	t.Parallel()
	part := func(total, peak int, seconds float64) *Answer {
		return parsed(t, fmt.Sprintf(`{"status":"success","data":{"resultType":"matrix","result":[],"stats":{"timings":{"execTotalTime":%g},"samples":{"totalQueryableSamples":%d,"peakSamples":%d}}}}`, seconds, total, peak))
	}
	got, err := Join([]*Answer{part(3, 2, 0.5), part(4, 1, 0.25)})
	require.NoError(t, err)
	s, err := ParseStats(got.Stats)
	require.NoError(t, err)
	require.Equal(t, Stats{Timings: map[string]float64{"execTotalTime": 0.75}, Samples: s.Samples}, s)
	require.EqualValues(t, 7, s.Samples.Total)
	require.EqualValues(t, 2, s.Samples.Peak)
}

func FuzzAnswersEndInAnErrorOrAsTheyWere(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"2"],[2.5,"NaN"]],"histograms":[[3,{"count":"1","sum":"2","buckets":[[0,"0","1","1"]]}]]}]}}`))
	f.Add([]byte(`{"status":"success","data":["a","b"],"warnings":["x"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := Parse(text)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		if cut, err := a.Cut(0, 2000, 0); err == nil {
			_ = written(t, cut)
		}
		_, _, _ = a.First()
		again, err := Parse([]byte(written(t, a)))
		require.NoError(t, err)
		require.Equal(t, written(t, a), written(t, again))
	})
}

// benchmarkParts is the answer of n parts of 1,000 series, 288 points each.
func benchmarkParts(b *testing.B, n int) (bodies [][]byte) {
	for part := range n {
		var m promql.Matrix
		for s := range 1000 {
			one := promql.Series{Metric: labels.FromStrings("__name__", "http_requests_total", "instance", fmt.Sprintf("host-%04d", s), "job", "api")}
			for p := range 288 {
				one.Floats = append(one.Floats, promql.FPoint{T: int64(part*288+p) * 300_000, F: float64(s*p) / 7})
			}
			m = append(m, one)
		}
		bodies = append(bodies, body(b, m, promapi.Notes{}))
	}
	return bodies
}

func BenchmarkPartsAreReadJoinedAndWritten(b *testing.B) {
	for _, n := range []int{1, 7} {
		bodies := benchmarkParts(b, n)
		size := 0
		for _, body := range bodies {
			size += len(body)
		}
		b.Run(fmt.Sprintf("parts=%d", n), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				parts := make([]*Answer, n)
				for i, body := range bodies {
					var err error
					if parts[i], err = Parse(body); err != nil {
						b.Fatal(err)
					}
				}
				joined, err := Join(parts)
				if err != nil {
					b.Fatal(err)
				}
				if err := joined.Write(discard{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCutOfAKeptAnswer(b *testing.B) {
	bodies := benchmarkParts(b, 1)
	a, err := Parse(bodies[0])
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(bodies[0])))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Cut(20*300_000, 200*300_000, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// discard is not io.Discard, which takes a short way round the buffer.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestCuttingByHalvesIsCuttingPointByPoint(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		var points []string
		for i := range n {
			points = append(points, fmt.Sprintf(`[%d,"%s"]`, 10*i-50, strings.Repeat("7", i%5+1)))
		}
		for _, separator := range []string{",", " , "} {
			p := Points{[]byte(strings.Join(points, separator))}
			if n == 0 {
				p = nil
			}
			for start := int64(-60); start < 150; start += 5 {
				for end := start; end < 150; end += 5 {
					want, err := p.cut(start*1000, end*1000, 0)
					require.NoError(t, err)
					got, err := p.cutFloats(start*1000, end*1000, 0)
					require.NoError(t, err)
					require.Equal(t, want, got, "%d points, %d to %d", n, start, end)
				}
			}
		}
	}
}
