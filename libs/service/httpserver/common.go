package httpserver

import (
	"io"
	"net/http"
	"net/http/pprof"

	"github.com/felixge/fgprof"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// registerCommon adds what every process answers.
func registerCommon(mux *http.ServeMux, opts Options) {
	if opts.Status != nil {
		mux.Handle("/-/healthy", probe(opts.Status.Healthy))
		mux.Handle("/-/ready", probe(opts.Status.Ready))
	}
	if opts.Gatherer != nil {
		mux.Handle("/metrics", promhttp.HandlerFor(opts.Gatherer, promhttp.HandlerOpts{
			EnableOpenMetrics: true,
			ErrorLog:          zap.NewStdLog(opts.Logger.Named("metrics")),
			// One bad collector must not take all other metrics away.
			ErrorHandling: promhttp.ContinueOnError,
			Registry:      opts.Registerer,
		}))
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/debug/fgprof", fgprof.Handler())
}

func probe(passes func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		body := "OK"
		if !passes() {
			w.WriteHeader(http.StatusServiceUnavailable)
			body = "NOT OK"
		}
		// A prober that hung up needs no answer.
		_, _ = io.WriteString(w, body)
	})
}
