package webui

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"html"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func next() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(r.Method + " " + r.URL.Path))
	})
}

func ask(h http.Handler, method, target string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, nil))
	return rec
}

func TestOwnPagesAreServedAndAllElseIsLeftToTheAPI(t *testing.T) {
	t.Parallel()
	h := Over(Config{Service: "querier", Pages: []Page{Graph, Stores}}, next())
	for target, code := range map[string]int{
		"/graph": 200, "/graph?g0.expr=up": 200, "/query": 200, "/stores": 200, "/favicon.ico": 200, "/manifest.json": 200,
		"/":       302,
		"/blocks": 418, "/global": 418, "/api/v1/query": 418, "/graph/": 418, "/graph/x": 418, "/nope": 418, "/dist/index.html": 418, "/index.html": 418,
		"/static/nope.js": 404, "/static/": 404, "/static/../index.html": 404, "/static/../../webui.go": 404,
	} {
		require.Equal(t, code, ask(h, http.MethodGet, target).Code, target)
	}
	require.Equal(t, "POST /graph", ask(h, http.MethodPost, "/graph").Body.String())
	require.Equal(t, "OPTIONS /stores", ask(h, http.MethodOptions, "/stores").Body.String())
}

func TestTheRootLeadsToTheFirstPageUnderAnyPrefix(t *testing.T) {
	t.Parallel()
	h := http.StripPrefix("/a/b", Over(Config{Pages: []Page{Alerts, Rules}}, next()))
	require.Equal(t, "alerts", ask(h, http.MethodGet, "/a/b/").Header().Get("Location"), "relative: no prefix has to be known")
	require.Equal(t, "alerts?x=1", ask(h, http.MethodGet, "/a/b/?x=1").Header().Get("Location"))
}

// reference finds what a page loads.
var reference = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

func TestEverythingAPageLoadsIsThereAndRelative(t *testing.T) {
	t.Parallel()
	h := Over(Config{Pages: []Page{Graph}}, next())
	page := ask(h, http.MethodGet, "/graph").Body.String()
	found := reference.FindAllStringSubmatch(page, -1)
	require.GreaterOrEqual(t, len(found), 4)
	for _, m := range found {
		require.NotContains(t, m[1], ":", "an address of another host")
		require.False(t, strings.HasPrefix(m[1], "/"), "%s does not work under a prefix", m[1])
		rec := ask(h, http.MethodGet, "/"+strings.TrimPrefix(m[1], "./"))
		require.Equal(t, 200, rec.Code, m[1])
		require.NotEqual(t, "application/octet-stream", rec.Header().Get("Content-Type"), m[1])
		require.Equal(t, "nosniff", rec.Header().Get("X-Content-Type-Options"))
	}
}

func TestNothingBuiltNamesAnotherHostToLoadFrom(t *testing.T) {
	t.Parallel()
	// Addresses in texts are no matter: the policy forbids to load from them. A style sheet or a page has none at all.
	require.NoError(t, fs.WalkDir(dist, "dist", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !(strings.HasSuffix(path, ".css") || strings.HasSuffix(path, ".html")) {
			return err
		}
		b, err := dist.ReadFile(path)
		require.NotRegexp(t, `(https?:)?//[a-z]`, string(b), path)
		return err
	}))
}

func TestThePolicyForbidsWhatPagesDoNotNeed(t *testing.T) {
	t.Parallel()
	h := Over(Config{Pages: []Page{Graph}}, next())
	one, two := ask(h, http.MethodGet, "/graph"), ask(h, http.MethodGet, "/graph")
	policy := one.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-")
	require.Contains(t, policy, "connect-src 'self'")
	require.Contains(t, policy, "base-uri 'none'")
	require.NotContains(t, policy, "unsafe")
	require.NotEqual(t, policy, two.Header().Get("Content-Security-Policy"), "a nonce is used once")
	require.Equal(t, "no-store", one.Header().Get("Cache-Control"))
	require.Equal(t, "SAMEORIGIN", one.Header().Get("X-Frame-Options"))
	require.Equal(t, "same-origin", one.Header().Get("Referrer-Policy"))
	require.NotContains(t, one.Body.String(), "<script>", "no script in the page itself")
	require.NotContains(t, one.Body.String(), " style=")
}

func TestFactsCannotBringMarkupIntoAPage(t *testing.T) {
	t.Parallel()
	evil := `"/><script>alert(1)</script>'{{promontory}}`
	h := Over(Config{Service: evil, Pages: []Page{Graph}, Facts: map[string]string{evil: evil}}, next())
	page := ask(h, http.MethodGet, "/graph").Body.String()
	require.NotContains(t, page, "<script>alert")
	m := regexp.MustCompile(`<meta name="promontory" content="([^"]*)" />`).FindStringSubmatch(page)
	require.Len(t, m, 2)
	var got hints
	require.NoError(t, json.Unmarshal([]byte(html.UnescapeString(m[1])), &got))
	require.Equal(t, evil, got.Service)
	require.Equal(t, map[string]string{evil: evil}, got.Facts)
	require.Equal(t, []Page{Graph}, got.Pages)
}

func TestPagesAreInstrumentedUnderTheNameThatDashboardsKnow(t *testing.T) {
	t.Parallel()
	var names []string
	Over(Config{Pages: []Page{Graph}, Wrap: func(name string, h http.Handler) http.Handler {
		names = append(names, name)
		return h
	}}, next())
	require.Equal(t, []string{"react-static"}, names)
}

// TestTheBuildIsThatOfTheSources fails when a source was changed and the pages were not built again (make webui).
func TestTheBuildIsThatOfTheSources(t *testing.T) {
	t.Parallel()
	var names []string
	for _, dir := range []string{"public", "src"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("app", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, strings.TrimPrefix(filepath.ToSlash(path), "app/"))
			}
			return err
		}))
	}
	slices.Sort(names)
	names = append(names, "index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")
	sum := sha256.New()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("app", filepath.FromSlash(name)))
		require.NoError(t, err)
		sum.Write(append([]byte(name+"\x00"), append(b, 0)...))
	}
	require.Equal(t, strings.TrimSpace(string(content("sources.sha256"))), hex.EncodeToString(sum.Sum(nil)), "run `make webui`")
}
