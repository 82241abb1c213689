// Package receive makes remote-write load as a fleet of Prometheus servers makes it, and sends it.
//
// Labels are encoded once: what a request costs the sender is a sample for each series and the compression, so that
// the machine's time goes to who is measured.
package receive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"golang.org/x/sync/errgroup"
)

// Config sizes the load.
type Config struct {
	// Series is how many there are at a time, PerRequest how many of them go into one request.
	Series, PerRequest int
	// Concurrency is how many requests are under way at once.
	Concurrency int
	// Churn is the part of the series, 0 to 1, that a round replaces with new ones.
	Churn float64
}

// Load is a sender. Its methods may not be called concurrently.
type Load struct {
	cfg    Config
	client *http.Client
	labels [][]byte // of each series, as fields of a TimeSeries
	age    []int    // how often each was replaced
	next   int      // the series that is replaced next
	at     int64    // of the last round, Unix milliseconds
}

// Interval is the time between the samples of a series.
const Interval = 15 * time.Second

// New returns a load whose samples begin at a time.
func New(cfg Config, begin time.Time) *Load {
	l := &Load{
		cfg: cfg, at: begin.UnixMilli(), labels: make([][]byte, cfg.Series), age: make([]int, cfg.Series),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: cfg.Concurrency}, Timeout: time.Minute},
	}
	for i := range l.labels {
		l.labels[i] = labelsOf(i, 0)
	}
	return l
}

// labelsOf are the six labels of a series.
func labelsOf(i, age int) (b []byte) {
	for _, pair := range [][2]string{
		{"__name__", fmt.Sprintf("bench_metric_%d_total", i%500)},
		{"cluster", "eu1"},
		{"instance", fmt.Sprintf("10.0.%d.%d:9100", i/250%250, i%250)},
		{"job", "node"},
		{"pod", fmt.Sprintf("app-%d-%d-7d4f8b", i/500, age)},
		{"series", fmt.Sprint(i)},
	} {
		var label []byte
		label = appendBytes(label, 1, pair[0])
		label = appendBytes(label, 2, pair[1])
		b = appendBytes(b, 1, string(label))
	}
	return b
}

func appendBytes(b []byte, field byte, v string) []byte {
	b = append(b, field<<3|2)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// body is one request of remote write 1.0, compressed: series from a place on, each with a sample.
func (l *Load) body(from int) []byte {
	var b, series, sample []byte
	for i := from; i < min(from+l.cfg.PerRequest, len(l.labels)); i++ {
		sample = append(sample[:0], 1<<3|1)
		sample = binary.LittleEndian.AppendUint64(sample, math.Float64bits(float64(l.at/15_000*int64(1+i%7))))
		sample = append(sample, 2<<3)
		sample = binary.AppendUvarint(sample, uint64(l.at))
		series = append(series[:0], l.labels[i]...)
		series = append(series, 2<<3|2, byte(len(sample)))
		series = append(series, sample...)
		b = append(b, 1<<3|2)
		b = binary.AppendUvarint(b, uint64(len(series)))
		b = append(b, series...)
	}
	return snappy.Encode(nil, b)
}

// churn replaces some of the series.
func (l *Load) churn() {
	for range int(l.cfg.Churn * float64(len(l.labels))) {
		i := l.next % len(l.labels)
		l.next++
		l.age[i]++
		l.labels[i] = labelsOf(i, l.age[i])
	}
}

// Result is what rounds were like for the sender.
type Result struct {
	Samples  int
	P50, P99 time.Duration
	took     []time.Duration
}

// Rounds sends so many rounds to url, each with a sample of every series. Any answer but a success is an error: a
// figure of refused writes is none.
func (l *Load) Rounds(ctx context.Context, url string, rounds int) (r Result, err error) {
	for range rounds {
		l.at += Interval.Milliseconds()
		l.churn()
		if err := l.round(ctx, url, &r); err != nil {
			return r, err
		}
		r.Samples += len(l.labels)
	}
	slices.Sort(r.took)
	r.P50, r.P99 = r.took[len(r.took)/2], r.took[len(r.took)*99/100]
	return r, nil
}

func (l *Load) round(ctx context.Context, url string, r *Result) error {
	var mu sync.Mutex // guards r
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.cfg.Concurrency)
	for from := 0; from < len(l.labels); from += l.cfg.PerRequest {
		g.Go(func() error {
			body := l.body(from)
			begin := time.Now()
			if err := l.post(ctx, url, body); err != nil {
				return err
			}
			took := time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			r.took = append(r.took, took)
			return nil
		})
	}
	return g.Wait()
}

func (l *Load) post(ctx context.Context, url string, body []byte) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("write to %s: %w", url, err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := l.client.Do(req)
	if err != nil {
		return fmt.Errorf("write to %s: %w", url, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("write to %s: %w", url, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("write to %s: %s: %s", url, resp.Status, text)
	}
	return nil
}
