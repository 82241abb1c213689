package receive

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// sink decodes what comes in as Prometheus does.
type sink struct {
	mu      sync.Mutex
	series  map[string]int // samples by labels
	biggest int
	status  int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		raw, err = snappy.Decode(nil, raw)
	}
	var req prompb.WriteRequest
	if err == nil {
		err = req.Unmarshal(raw)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.biggest = max(s.biggest, len(req.Timeseries))
	for _, ts := range req.Timeseries {
		key := ""
		for _, l := range ts.Labels {
			key += l.Name + "=" + l.Value + ","
		}
		s.series[key] += len(ts.Samples)
	}
	w.WriteHeader(s.status)
}

func TestEveryRoundHasASampleOfEachSeries(t *testing.T) {
	t.Parallel()
	s := &sink{series: map[string]int{}, status: http.StatusNoContent}
	srv := httptest.NewServer(s)
	defer srv.Close()
	l := New(Config{Series: 50, PerRequest: 20, Concurrency: 2}, time.Now())
	r, err := l.Rounds(t.Context(), srv.URL, 3)
	require.NoError(t, err)
	require.Equal(t, 150, r.Samples)
	require.Len(t, r.took, 9)
	require.Len(t, s.series, 50)
	require.Equal(t, 20, s.biggest)
	for k, n := range s.series {
		require.Equal(t, 3, n, k)
	}
}

func TestChurnReplacesItsPartOfTheSeries(t *testing.T) {
	t.Parallel()
	s := &sink{series: map[string]int{}, status: http.StatusOK}
	srv := httptest.NewServer(s)
	defer srv.Close()
	l := New(Config{Series: 50, PerRequest: 20, Concurrency: 2, Churn: 0.1}, time.Now())
	_, err := l.Rounds(t.Context(), srv.URL, 4)
	require.NoError(t, err)
	require.Len(t, s.series, 50+3*5, "the first round's are made before it")
}

func TestARefusedWriteIsAnError(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&sink{series: map[string]int{}, status: http.StatusServiceUnavailable})
	defer srv.Close()
	_, err := New(Config{Series: 5, PerRequest: 5, Concurrency: 1}, time.Now()).Rounds(t.Context(), srv.URL, 1)
	require.ErrorContains(t, err, "503")
}
