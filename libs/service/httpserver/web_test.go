package httpserver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/lifecycle"
)

func TestAnAPIUnderAPrefixLeavesProbesAtTheRoot(t *testing.T) {
	t.Parallel()
	status := lifecycle.NewStatus("query", nil)
	status.SetReady(true)
	s := New(loopback(), Options{Logger: zap.NewNop(), Status: status})
	web := WebConfig{ExternalPrefix: "thanos/"}
	web.Normalize(true)
	require.Equal(t, WebConfig{RoutePrefix: "/thanos", ExternalPrefix: "/thanos"}, web)
	api := http.NewServeMux()
	api.HandleFunc("/api/v1/query", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	web.Mount(s, "/graph", web.CORS(api))
	base := "http://" + serve(t, s)

	resp, body := get(t, client(t), base+"/thanos/api/v1/query")
	require.Equal(t, "/api/v1/query", body)
	require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "GET, POST, OPTIONS", resp.Header.Get("Access-Control-Allow-Methods"))
	require.Equal(t, "Accept, Accept-Encoding, Authorization, Content-Type, Origin", resp.Header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, "Date", resp.Header.Get("Access-Control-Expose-Headers"))
	resp, _ = get(t, client(t), base+"/api/v1/query")
	require.Equal(t, 404, resp.StatusCode)
	resp, _ = get(t, client(t), base+"/")
	require.Equal(t, 302, resp.StatusCode)
	require.Equal(t, "/thanos/graph", resp.Header.Get("Location"))
	resp, _ = get(t, client(t), base+"/-/ready")
	require.Equal(t, 200, resp.StatusCode)
}

func TestPrefixesAreNormalised(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in           WebConfig
		fromExternal bool
		want         WebConfig
	}{
		{WebConfig{}, true, WebConfig{RoutePrefix: "/"}},
		{WebConfig{RoutePrefix: "/"}, true, WebConfig{RoutePrefix: "/"}},
		{WebConfig{ExternalPrefix: "/a/b/"}, false, WebConfig{RoutePrefix: "/", ExternalPrefix: "/a/b"}},
		{WebConfig{ExternalPrefix: "a", RoutePrefix: "r/"}, true, WebConfig{RoutePrefix: "/r", ExternalPrefix: "/a"}},
	} {
		tc.in.Normalize(tc.fromExternal)
		require.Equal(t, tc.want, tc.in)
	}
}

func TestThePrefixHeaderCannotLeadToAnotherHost(t *testing.T) {
	t.Parallel()
	web := WebConfig{PrefixHeader: "X-Forwarded-Prefix"}
	fixed := WebConfig{PrefixHeader: "X-Forwarded-Prefix", ExternalPrefix: "/ext"}
	for header, want := range map[string]string{"": "", "/p/": "/p", "p": "/p", "//evil.test": "/evil.test", "/../..": ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Forwarded-Prefix", header)
		require.Equal(t, want, web.UserPrefix(r), header)
		require.Equal(t, "/ext", fixed.UserPrefix(r), "the external prefix goes before any header")
	}
}

func TestCORSCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	web := WebConfig{DisableCORS: true}
	rec := httptest.NewRecorder()
	web.CORS(http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Empty(t, rec.Header().Get("Access-Control-Allow-Origin"))
}

func TestAnyPathOfTheAPIMayBeAskedForByPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	var web WebConfig
	api := http.NewServeMux()
	api.HandleFunc("GET /api/v1/known", func(http.ResponseWriter, *http.Request) {})
	name := ""
	h := web.Preflight(api, func(n string, h http.Handler) http.Handler { name = n; return h })
	require.Equal(t, "options", name)
	for request, want := range map[[2]string]int{
		{http.MethodOptions, "/api/v1/known"}: 204, {http.MethodOptions, "/api/v1/other/path"}: 204, {http.MethodOptions, "/elsewhere"}: 404,
		{http.MethodGet, "/api/v1/known"}: 200, {http.MethodGet, "/api/v1/other"}: 404, {http.MethodPost, "/api/v1/known"}: 405,
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(request[0], request[1], nil))
		require.Equal(t, want, rec.Code, "%v", request)
		require.Equal(t, want == 204, rec.Header().Get("Access-Control-Allow-Origin") == "*", "%v", request)
	}
}
