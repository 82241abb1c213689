package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
)

// FuzzParameters puts any parameters to any path: each gets an answer in the usual form, and none is our fault.
func FuzzParameters(f *testing.F) {
	for _, line := range readLines[recorded](f, "testdata/http.jsonl") {
		u, err := url.Parse(line.Path)
		require.NoError(f, err)
		f.Add(u.Path, u.RawQuery, line.BodySent, line.Method == http.MethodPost)
	}
	for _, expr := range corpus(f) {
		f.Add("/api/v1/query", values("query", expr, "time", "600", "stats", "all", "engine", "thanos").Encode(), "", false)
		f.Add("/api/v1/query_range", values("query", expr, "start", "0", "end", "600", "step", "60", "stats", "all").Encode(), "", true)
	}
	f.Add("/api/v1/query_range", "query=up&start=-9e12&end=9e12&step=2e9&max_source_resolution=auto", "", false)
	f.Add("/api/v1/query", "query=up&shard_info=%7B%22total_shards%22%3A-1%7D", "", false)
	f.Add("/api/v1/label/%ff/values", "match%5B%5D=up&limit=1", "", false)
	s := newStack(fakepeer.StartStore(f, up(f, 3, ext("replica", "a"))), (&services{}).peer(f))
	s.Config.Timeout = 2 * time.Second
	api := s.api(f)
	f.Fuzz(func(t *testing.T, path, rawQuery, body string, post bool) {
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		u := &url.URL{Path: path, RawQuery: rawQuery}
		r, err := http.NewRequestWithContext(t.Context(), method, u.String(), strings.NewReader(body))
		if err != nil {
			t.Skip("no request")
		}
		if post {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			return
		case http.StatusInternalServerError:
			t.Fatalf("%s %s: %s", method, u, w.Body)
		}
		var env reply
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &env), w.Body.String())
		if w.Code == http.StatusOK {
			require.Equal(t, "success", env.Status)
			require.NotEmpty(t, env.Data)
			return
		}
		require.Equal(t, "error", env.Status)
		require.NotEmpty(t, env.Error)
		require.Equal(t, promapi.ErrorType(env.ErrorType).StatusCode(), w.Code)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	})
}
