package demo

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"
)

// TestScrapeSeesTheSeriesOfHistory parses each target's exposition as Prometheus does and wants the very series and
// values of the target.
func TestScrapeSeesTheSeriesOfHistory(t *testing.T) {
	t.Parallel()
	targets := Targets()
	now := begin.Add(17 * time.Hour)
	handler := Handler(targets, func() time.Time { return now })
	for _, target := range targets {
		want, wantHistograms := map[string]float64{}, map[string]*histogram.Histogram{}
		for _, s := range target.Series {
			if s.Histogram != nil {
				wantHistograms[s.Labels.String()] = s.Histogram(now)
			} else {
				want[s.Labels.String()] = s.Float(now)
			}
		}
		got, gotHistograms := scrapeOnce(t, handler, target)
		require.Equal(t, want, got, target.Pod)
		require.Len(t, gotHistograms, len(wantHistograms))
		for name, h := range wantHistograms {
			require.True(t, h.Equals(gotHistograms[name]), "%s: got %s, want %s", name, gotHistograms[name], h)
		}
	}
}

func scrapeOnce(t *testing.T, handler http.Handler, target *Target) (map[string]float64, map[string]*histogram.Histogram) {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, MetricsPath(target), nil)
	request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	require.Equal(t, http.StatusOK, recorder.Code, recorder.Body.String())
	parser := textparse.NewProtobufParser(recorder.Body.Bytes(), false, true, false, false, labels.NewSymbolTable())
	floats, histograms := map[string]float64{}, map[string]*histogram.Histogram{}
	for {
		entry, err := parser.Next()
		if err != nil {
			require.ErrorContains(t, err, "EOF")
			return floats, histograms
		}
		var lset labels.Labels
		parser.Labels(&lset)
		full := labels.NewBuilder(lset)
		target.Labels().Range(func(l labels.Label) { full.Set(l.Name, l.Value) })
		switch entry {
		case textparse.EntrySeries:
			_, _, v := parser.Series()
			floats[full.Labels().String()] = v
		case textparse.EntryHistogram:
			_, _, h, _ := parser.Histogram()
			h.CounterResetHint = histogram.UnknownCounterReset
			histograms[full.Labels().String()] = h.Copy()
		default:
		}
	}
}

func TestTargetThatIsDownAnswersSo(t *testing.T) {
	t.Parallel()
	target := Targets()[0]
	birth, up := target.birth(seconds(begin))
	require.True(t, up)
	now := time.UnixMilli(int64(math.Round((birth - 10) * 1000)))
	recorder := httptest.NewRecorder()
	Handler([]*Target{target}, func() time.Time { return now }).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, MetricsPath(target), nil))
	require.Equal(t, http.StatusServiceUnavailable, recorder.Code)
	require.False(t, target.Up(now))
}
