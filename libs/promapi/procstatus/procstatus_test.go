package procstatus

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// get asks for a status and decodes its data.
func get[T any](t *testing.T, h http.Handler, path string) (data T) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/api/v1/status/"+path, nil))
	require.Equal(t, http.StatusOK, rec.Code)
	var answer struct {
		Status string
		Data   *T
	}
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
	require.Equal(t, "success", answer.Status)
	require.NotNil(t, answer.Data, "%s", rec.Body)
	return *answer.Data
}

func TestAProcessTellsAboutItself(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	wrapped := map[string]bool{}
	before := time.Now()
	Handle(mux, map[string]string{"data-dir": "./data"}, func(name string, h http.Handler) http.Handler {
		wrapped[name] = true
		return h
	}, zap.NewNop())
	require.Equal(t, map[string]bool{"status_flags": true, "status_build": true, "status_runtime": true}, wrapped)
	require.Equal(t, promtypes.Flags{"data-dir": "./data"}, get[promtypes.Flags](t, mux, "flags"))
	require.Equal(t, runtime.Version(), get[promtypes.BuildInfo](t, mux, "buildinfo").GoVersion)
	info := get[promtypes.RuntimeInfo](t, mux, "runtimeinfo")
	dir, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, dir, info.CWD)
	require.Equal(t, runtime.GOMAXPROCS(0), info.GOMAXPROCS)
	require.Positive(t, info.GoroutineCount)
	require.Positive(t, info.GOMEMLIMIT)
	require.False(t, info.StartTime.Before(before.Truncate(0)))
	require.Equal(t, time.UTC, info.StartTime.Location())
}

func TestAProcessWithoutFlagsHasAnEmptyListOfThem(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	Handle(mux, nil, nil, zap.NewNop())
	require.Empty(t, get[promtypes.Flags](t, mux, "flags"))
}
