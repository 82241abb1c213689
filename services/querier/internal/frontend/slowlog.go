package frontend

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
)

// logSlow writes a line about a request that took longer than it should.
func (f *Frontend) logSlow(c *call, out *outcome, code int, took time.Duration) {
	if limit := f.cfg.SlowerThan; limit == 0 || limit > 0 && took < limit {
		return
	}
	r := c.http
	user := ""
	if f.cfg.UserHeader != "" {
		user = r.Header.Get(f.cfg.UserHeader)
	} else if name, _, ok := r.BasicAuth(); ok {
		user = name
	}
	fields := []zap.Field{
		zap.String("method", r.Method), zap.String("host", r.Host), zap.String("path", r.URL.Path),
		zap.String("remote_user", user), zap.String("remote_addr", r.RemoteAddr), zap.String("tenant", c.tenant),
		zap.Int64("time_taken_ms", took.Milliseconds()), zap.Int("status", code),
		zap.String("grafana_dashboard_uid", r.Header.Get("X-Dashboard-Uid")),
		zap.String("grafana_panel_id", r.Header.Get("X-Panel-Id")),
	}
	if sc := trace.SpanContextFromContext(r.Context()); sc.HasTraceID() {
		fields = append(fields, zap.String("trace_id", sc.TraceID().String()))
	}
	if id, ok := requestctx.RequestID(r.Context()); ok {
		fields = append(fields, zap.String("request_id", id))
	}
	for _, name := range slices.Sorted(maps.Keys(c.form.Values)) {
		fields = append(fields, zap.String("param_"+name, strings.Join(c.form.Values[name], ",")))
	}
	if span := c.end.Sub(c.start); span > 0 {
		fields = append(fields, zap.Int("query_range_hours", int(span.Hours())), zap.Stringer("query_range_human", span))
	}
	if out != nil {
		fields = append(fields, zap.Int("parts", out.parts), zap.Int("cached_parts", out.hits))
		if out.answer != nil && out.answer.Stats != nil {
			if s, err := answer.ParseStats(out.answer.Stats); err == nil {
				fields = append(fields, zap.Int64("peak_samples", s.Samples.Peak), zap.Int64("total_samples_loaded", s.Samples.Total))
			}
		}
	}
	f.logger.Info("slow query", fields...)
}
