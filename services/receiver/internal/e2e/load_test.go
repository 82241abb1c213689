package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// load is a sender: series of six labels, each with one sample a round, in requests of a fixed size.
type load struct {
	labels     [][]byte
	perRequest int
	client     *http.Client
}

func newLoad(series, perRequest int) *load {
	l := &load{perRequest: perRequest, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 30 * time.Second}}
	for i := range series {
		l.labels = append(l.labels, remotewrite.AppendLabels(nil, labels.FromStrings(
			"__name__", fmt.Sprintf("load_%d_total", i%500), "cluster", "eu1", "i", fmt.Sprint(i),
			"instance", fmt.Sprintf("10.0.%d.%d:9100", i/250%250, i%250), "job", "node", "pod", fmt.Sprintf("app-%d-7d4f8b", i/10))))
	}
	return l
}

// body is one request: series from a place on, with a sample at a time.
func (l *load) body(from int, at int64) []byte {
	var b []byte
	for i := from; i < min(from+l.perRequest, len(l.labels)); i++ {
		s := remotewrite.Series{Labels: l.labels[i], Body: remotewrite.AppendSample(nil, at, value(i, at), 0), Floats: 1}
		b = remotewrite.AppendSeries(b, &s)
	}
	return snappy.Encode(nil, b)
}

// value is what series i has at a time, so that what comes back can be checked.
func value(i int, at int64) float64 { return float64(int64(i) + at%1000) }

// post sends one request and returns its status, 0 where there was no answer.
func (l *load) post(ctx context.Context, url string, body []byte) (code int, text string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// outcome is what a run of the sender saw.
type outcome struct {
	mu       sync.Mutex
	rounds   []int64 // times of which every series was acknowledged
	answers  map[int]int
	firstBad string
}

// more waits until n more rounds were acknowledged.
func (o *outcome) more(t testing.TB, n int) {
	t.Helper()
	count := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.rounds)
	}
	until := count() + n
	require.Eventually(t, func() bool { return count() >= until }, time.Minute, 10*time.Millisecond)
}

// run sends a round every interval until ctx is done. Requests that are refused are sent again, as every
// sender does.
func (l *load) run(ctx context.Context, url string, interval time.Duration, o *outcome) {
	for ctx.Err() == nil {
		at := time.Now().UnixMilli()
		var wg sync.WaitGroup
		for from := 0; from < len(l.labels); from += l.perRequest {
			wg.Go(func() { l.until(url, l.body(from, at), o) })
		}
		wg.Wait()
		o.mu.Lock()
		o.rounds = append(o.rounds, at)
		o.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

// until sends a request until it is taken.
func (l *load) until(url string, body []byte, o *outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		code, text := l.post(ctx, url, body)
		o.mu.Lock()
		o.answers[code]++
		if code/100 != 2 && o.firstBad == "" {
			o.firstBad = fmt.Sprintf("%d %s", code, text)
		}
		o.mu.Unlock()
		if code/100 == 2 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lost counts acknowledged samples that are not there or have another value.
func (l *load) lost(t testing.TB, o *outcome, got map[string]map[int64]float64) (n int) {
	t.Helper()
	for i := range l.labels {
		at := got[fmt.Sprint(i)]
		for _, ts := range o.rounds {
			if v, ok := at[ts]; !ok || v != value(i, ts) {
				n++
			}
		}
	}
	return n
}
