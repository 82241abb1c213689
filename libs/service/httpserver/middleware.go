package httpserver

import (
	"net/http"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/service/requestlog"
	"github.com/promontory-io/promontory/libs/service/tracing"
)

// maxRequestID bounds what a client can make us log and pass on with every call.
const maxRequestID = 128

// MiddlewareOptions is what the middleware of an API needs.
type MiddlewareOptions struct {
	Logger *zap.Logger
	// Registerer takes the http_* metrics; nil works. One registry holds one Middleware.
	Registerer prometheus.Registerer
	// Tracing makes a span for each request; nil makes none.
	Tracing *tracing.Tracing
	// RequestLog says which requests are logged; nil means none.
	RequestLog *requestlog.Policy
	// Tenant, where set, adds the label tenant to the metrics with what it returns for a request.
	Tenant func(*http.Request) string
	// Port is that of the server, for the request log.
	Port int
}

// Middleware wraps the handlers of an API with what all of them have in common. It is safe for
// concurrent use.
type Middleware struct {
	opts     MiddlewareOptions
	logger   *zap.Logger
	metrics  *metrics
	compress func(http.Handler) http.HandlerFunc
}

// NewMiddleware returns the middleware of one API.
func NewMiddleware(opts MiddlewareOptions) *Middleware {
	compress, err := gzhttp.NewWrapper(gzhttp.EnableZstd(true), gzhttp.PreferZstd(false))
	if err != nil {
		// Only options that contradict each other are refused.
		panic(err) //nolint:forbidigo // our own mistake
	}
	return &Middleware{
		opts:     opts,
		logger:   opts.Logger.Named("http"),
		metrics:  newMetrics(opts.Registerer, opts.Tenant),
		compress: compress,
	}
}

// Wrap returns h with all of it: from the outside in a span, metrics under the given handler name, the request
// id, the request log, compression, and recovery from panics.
func (m *Middleware) Wrap(handler string, h http.Handler) http.Handler {
	return m.opts.Tracing.HTTP("/"+handler, m.observe(handler, m.compress(m.recover(h))))
}

// Plain is Wrap without compression, for handlers whose bodies are compressed already or are streamed.
func (m *Middleware) Plain(handler string, h http.Handler) http.Handler {
	return m.opts.Tracing.HTTP("/"+handler, m.observe(handler, m.recover(h)))
}

// observe measures and logs, and gives the request its id: the one it came with, else a new one.
func (m *Middleware) observe(handler string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestctx.RequestIDHeader)
		if id == "" || len(id) > maxRequestID {
			id = requestctx.NewRequestID()
		}
		r = r.WithContext(requestctx.WithRequestID(r.Context(), id))
		w.Header().Set(requestctx.RequestIDHeader, id)

		done := m.metrics.begin(handler, r)
		decision := m.opts.RequestLog.HTTP(r.URL.Path, m.opts.Port)
		m.logStart(decision, handler, r, id)
		start := time.Now()
		// What is counted when next panics its way out.
		code, written := http.StatusInternalServerError, int64(0)
		defer func() {
			done(code, written)
			m.logEnd(decision, handler, r, id, code, written, start)
		}()
		got := httpsnoop.CaptureMetricsFn(w, func(w http.ResponseWriter) { next.ServeHTTP(w, r) })
		code, written = got.Code, got.Written
	})
}

func (m *Middleware) logStart(d requestlog.Decision, handler string, r *http.Request, id string) {
	level, ok := d.StartLevel()
	if !ok {
		return
	}
	if ce := m.logger.Check(level, "started request"); ce != nil {
		ce.Write(requestFields(handler, r, id)...)
	}
}

func (m *Middleware) logEnd(d requestlog.Decision, handler string, r *http.Request, id string, code int, written int64, start time.Time) {
	level, ok := d.EndLevel(requestlog.HTTPFailed(code))
	if !ok {
		return
	}
	if ce := m.logger.Check(level, "finished request"); ce != nil {
		ce.Write(append(requestFields(handler, r, id),
			zap.Int("code", code), zap.Int64("response_bytes", written), zap.Duration("took", time.Since(start)))...)
	}
}

func requestFields(handler string, r *http.Request, id string) []zap.Field {
	return []zap.Field{
		zap.String("handler", handler),
		zap.String("method", r.Method),
		zap.String("path", r.URL.Path),
		zap.String("remote", r.RemoteAddr),
		zap.String("request_id", id),
	}
}

// recover answers 500 where a handler panics, so that a bug costs one request and is logged with what
// led to it.
func (m *Middleware) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := false
		hooked := httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) { started = true; f(code) }
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (int, error) { started = true; return f(b) }
			},
		})
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares like that too
				panic(p) //nolint:forbidigo // the way to end an answer in net/http
			}
			id, _ := requestctx.RequestID(r.Context())
			m.logger.Error("recovered from panic", zap.String("path", r.URL.Path), zap.String("request_id", id),
				zap.Any("panic", p), zap.StackSkip("stack", 1))
			if started {
				// Half an answer must not look like a whole one.
				panic(http.ErrAbortHandler) //nolint:forbidigo // the way to end an answer in net/http
			}
			http.Error(w, "internal error", http.StatusInternalServerError)
		}()
		next.ServeHTTP(hooked, r)
	})
}
