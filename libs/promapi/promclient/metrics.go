package promclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ErrNoMetric tells that the server does not expose the metric asked for.
var ErrNoMetric = errors.New("metric is not exposed")

// Gauge reads one metric without labels from the server's own /metrics. The page is scanned as it arrives
// and left as soon as the metric is found.
func (c *Client) Gauge(ctx context.Context, name string) (float64, error) {
	const path = "/metrics"
	body, err := c.send(ctx, http.MethodGet, path, nil, "text/plain;version=0.0.4")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	v, err := scanGauge(body, name)
	switch {
	case err == nil:
		return v, nil
	case ctx.Err() != nil:
		return 0, fmt.Errorf("read %s: %w", c.endpoint(path).Redacted(), context.Cause(ctx))
	default:
		return 0, fmt.Errorf("read %s from %s: %w", name, c.endpoint(path).Redacted(), err)
	}
}

// scanGauge finds "name value [timestamp]" in the text format.
func scanGauge(r io.Reader, name string) (float64, error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if rest, ok := strings.CutPrefix(strings.TrimLeft(string(line), " \t"), name); ok && rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
			fields := strings.Fields(rest)
			if len(fields) == 0 || len(fields) > 2 {
				return 0, fmt.Errorf("malformed line %q", strings.TrimSpace(string(line)))
			}
			return strconv.ParseFloat(fields[0], 64)
		}
		// A line longer than the buffer is no metric without labels; the rest of it comes next and cannot match by
		// accident, since it would have to begin with the name right at the cut: skip it.
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return 0, ErrNoMetric
		}
		if err != nil {
			return 0, err
		}
	}
}

// LowestTimestamp reads the time of the oldest sample of the server's TSDB in Unix milliseconds.
// ok is false as long as the server does not know it.
func (c *Client) LowestTimestamp(ctx context.Context) (ms int64, ok bool, err error) {
	v, err := c.Gauge(ctx, "prometheus_tsdb_lowest_timestamp_seconds")
	if err != nil {
		return 0, false, err
	}
	// An empty TSDB says the largest time there is, which as a float is not exact any more. No real time is
	// anywhere near it.
	const beyond = float64(1<<62) / 1000
	if v != v || v >= beyond || v <= -beyond {
		return 0, false, nil
	}
	return int64(v * 1000), true, nil
}
