package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

// ready is an engine that has its result already.
type ready struct{ result promql.Matrix }

func (r ready) NewQuery(context.Context, storage.Queryable, grpcapi.QuerySpec) (promql.Query, error) {
	return readyQuery{result: r.result}, nil
}

type readyQuery struct {
	promql.Query
	result promql.Matrix
}

func (q readyQuery) Close()                              {}
func (q readyQuery) Exec(context.Context) *promql.Result { return &promql.Result{Value: q.result} }

// discard is a response writer that keeps nothing but the size.
type discard struct {
	header http.Header
	code   int
	n      int64
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(code int)        { d.code = code }
func (d *discard) Write(b []byte) (int, error) { d.n += int64(len(b)); return len(b), nil }

func matrixOf(series, points int) promql.Matrix {
	m := make(promql.Matrix, series)
	for i := range m {
		m[i].Metric = labels.FromStrings("__name__", "http_requests_total", "code", "200", "instance", fmt.Sprintf("10.0.0.%d:9090", i),
			"job", "api", "namespace", "production", "pod", fmt.Sprintf("api-%d", i))
		for p := range points {
			m[i].Floats = append(m[i].Floats, promql.FPoint{T: 1763164800000 + int64(p)*15000, F: float64(i*1000+p) * 0.25})
		}
	}
	return m
}

// BenchmarkRangeAnswer is all that a range query costs but its evaluation.
func BenchmarkRangeAnswer(b *testing.B) {
	for _, size := range []struct{ series, points int }{{10, 100}, {1000, 1000}} {
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(fmt.Sprintf("series=%d/points=%d/%s", size.series, size.points, encoding), func(b *testing.B) {
				s := newStack()
				s.Deps.Engine = ready{matrixOf(size.series, size.points)}
				api := s.api(b)
				r := httptest.NewRequest(http.MethodGet, queryRange("up"), nil)
				r.Header.Set("Accept-Encoding", encoding)
				b.ReportAllocs()
				var sent int64
				for b.Loop() {
					w := &discard{header: http.Header{}, code: http.StatusOK}
					api.ServeHTTP(w, r)
					require.Equal(b, http.StatusOK, w.code)
					sent = w.n
				}
				b.ReportMetric(float64(sent), "sent_B/op")
			})
		}
	}
}
