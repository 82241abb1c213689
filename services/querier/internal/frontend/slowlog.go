package frontend

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
)

// logSlow writes a line about a request that took longer than it should.
func (f *Frontend) logSlow(c *call, out *outcome, err error, code int, took time.Duration) {
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
		zap.Int64("time_taken_ms", took.Milliseconds()), zap.Duration("took", took), zap.Int("status", code),
		zap.String("grafana_dashboard_uid", r.Header.Get("X-Dashboard-Uid")),
		zap.String("grafana_panel_id", r.Header.Get("X-Panel-Id")),
	}
	if sc := trace.SpanContextFromContext(r.Context()); sc.HasTraceID() {
		fields = append(fields, zap.String("trace_id", sc.TraceID().String()))
	}
	if id, ok := requestctx.RequestID(r.Context()); ok {
		fields = append(fields, zap.String("request_id", id))
	}
	fields = append(fields, asked(c)...)
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
	if text := failure(out, err); text != "" {
		fields = append(fields, zap.String("error", text))
	}
	f.logger.Info("slow query", append(fields, spent(c, out, err)...)...)
}

// asked is what the request was about, in the fields in which the querier's log has it.
func asked(c *call) (fields []zap.Field) {
	query := c.form.Get("query")
	if query == "" {
		query = strings.Join(c.form.Values["match[]"], ", ")
	}
	start := c.form.Get("start")
	if start == "" {
		start = c.form.Get("time")
	}
	fields = append(fields, zap.String("query", query))
	for _, one := range [][2]string{{"start", start}, {"end", c.form.Get("end")}, {"step", c.form.Get("step")}} {
		if one[1] != "" {
			fields = append(fields, zap.String(one[0], one[1]))
		}
	}
	return fields
}

// failure is why there is no answer, in the words of whoever failed; empty where there is one.
func failure(out *outcome, err error) string {
	var reply *downstream.Reply
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		reply = refused.reply
	case err != nil:
		return err.Error()
	case out != nil && out.reply != nil && out.reply.Code >= http.StatusBadRequest:
		reply = out.reply
	default:
		return ""
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(reply.Body, &said) == nil && said.Error != "" {
		return said.Error
	}
	return (&refusal{reply: reply}).Error()
}

// spent is what the parts of the answer cost, all in all, and what is missing from it. What came from the cache is complete.
func spent(c *call, out *outcome, err error) (fields []zap.Field) {
	sum, whole := c.bills.sum()
	switch {
	case sum != nil && whole:
		fields = append(fields, zap.String("coverage", sum.Coverage))
	case whole && err == nil && out != nil && out.parts > 0 && out.hits == out.parts:
		fields = append(fields, zap.String("coverage", promtypes.CoverageComplete))
	}
	if sum != nil {
		fields = append(fields, zap.Any("receipt", sum))
	}
	return fields
}
