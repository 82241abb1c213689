// Package procstatus answers what each process tells about itself, in the shapes of Prometheus: its flags, its build, and how it
// runs. Pages and the command line ask every service for the same three.
//
// Services without queries have it too, so it does without package promapi, which knows PromQL's values.
package procstatus

import (
	"encoding/json"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// Mux is where handlers go, an *http.ServeMux for example.
type Mux interface {
	Handle(pattern string, h http.Handler)
}

// Handle serves GET /api/v1/status/flags, buildinfo and runtimeinfo on mux. flags are shown as they are: secrets must have been
// taken out of them. wrap gives each handler what all handlers get, under the name that dashboards select by; nil gives nothing.
// The time of the call is taken for the start of the process.
func Handle(mux Mux, flags map[string]string, wrap func(name string, h http.Handler) http.Handler, logger *zap.Logger) {
	if wrap == nil {
		wrap = func(_ string, h http.Handler) http.Handler { return h }
	}
	if flags == nil {
		flags = map[string]string{} // an object, not null
	}
	started := time.Now()
	get := func(path, name string, value func() any) {
		mux.Handle("GET /api/v1/status/"+path, wrap(name, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := respond(w, value()); err != nil {
				logger.Debug("answer status", zap.String("path", path), zap.Error(err))
			}
		})))
	}
	get("flags", "status_flags", func() any { return promtypes.Flags(flags) })
	get("buildinfo", "status_build", func() any { return promtypes.ThisBuild() })
	get("runtimeinfo", "status_runtime", func() any { return promtypes.ThisProcess(started) })
}

// respond writes the envelope of Prometheus' API.
func respond(w http.ResponseWriter, data any) error {
	b, err := json.Marshal(map[string]any{"status": "success", "data": data})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(b)
	return err
}
