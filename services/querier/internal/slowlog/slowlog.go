// Package slowlog writes one line for each request that took longer than it should, with what explains it: the
// receipt of its answer.
package slowlog

import (
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// Log is safe for concurrent use. A nil one writes nothing.
type Log struct {
	logger    *zap.Logger
	threshold time.Duration
}

// New returns a log of requests that take at least threshold, or nil for a threshold of 0.
func New(threshold time.Duration, logger *zap.Logger) *Log {
	if threshold <= 0 {
		return nil
	}
	return &Log{logger: logger.Named("slowlog"), threshold: threshold}
}

// Enabled reports whether anything can be written, so that receipts are worth their making.
func (l *Log) Enabled() bool { return l != nil }

// Entry is one request.
type Entry struct {
	// Path is the path of the call, Tenant whose it was.
	Path, Tenant string
	// Query is the expression, or the selectors.
	Query string
	// Start, End and Step are as the request gave them, empty where it did not.
	Start, End, Step string
	// RequestID is the id by which other logs name the request.
	RequestID string
	// Took is from the first byte of the request to the end of its evaluation.
	Took time.Duration
	// Err is why it failed, nil if it did not.
	Err error
	// Receipt is what the answer cost, nil where nobody knows.
	Receipt *promtypes.Receipt
}

// Observe writes e if it took long enough.
func (l *Log) Observe(e Entry) {
	if l == nil || e.Took < l.threshold {
		return
	}
	fields := []zap.Field{
		zap.String("path", e.Path), zap.String("tenant", e.Tenant), zap.Duration("took", e.Took),
		zap.String("query", e.Query),
	}
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, zap.String(key, value))
		}
	}
	add("start", e.Start)
	add("end", e.End)
	add("step", e.Step)
	add("request_id", e.RequestID)
	if e.Err != nil {
		fields = append(fields, zap.Error(e.Err))
	}
	if e.Receipt != nil {
		fields = append(fields, zap.String("coverage", e.Receipt.Coverage), zap.Any("receipt", e.Receipt))
	}
	l.logger.Warn("slow query", fields...)
}
