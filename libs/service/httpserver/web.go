package httpserver

import (
	"net/http"
	"path"
	"strings"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// WebConfig is under which path an API and its pages are served, and how they are seen from
// outside.
type WebConfig struct {
	// RoutePrefix is the path below which the process serves; empty means the root.
	RoutePrefix string
	// ExternalPrefix is the path below which a user reaches it, through a proxy that removes it.
	ExternalPrefix string
	// PrefixHeader names the header in which a proxy says that path.
	PrefixHeader string
	// DisableCORS leaves out the headers that let other sites' pages call the API.
	DisableCORS bool
}

// BindFlags binds --web.external-prefix, --web.prefix-header and --web.disable-cors.
func (c *WebConfig) BindFlags(fs *pflag.FlagSet) {
	flags.String(fs, &c.ExternalPrefix, "web.external-prefix", "Path under which pages and redirects link to this server, for use behind a proxy that strips it.")
	flags.String(fs, &c.PrefixHeader, "web.prefix-header", "Request header in which a proxy gives that path; without effect when --web.external-prefix is set. Only for use behind a proxy that sets or removes this header.")
	flags.Bool(fs, &c.DisableCORS, "web.disable-cors", "Do not send the CORS headers that let pages of other sites call the API.")
}

// BindRoutePrefix binds --web.route-prefix.
func (c *WebConfig) BindRoutePrefix(fs *pflag.FlagSet) {
	flags.String(fs, &c.RoutePrefix, "web.route-prefix", "Path under which the API and the pages are served. Metrics, probes and profiles stay at the root.")
}

// Normalize brings both prefixes into the form with one leading and no trailing slash; the root
// becomes "/" for the route and "" for the external prefix. Where routeFromExternal is true an empty
// route prefix takes the external one.
func (c *WebConfig) Normalize(routeFromExternal bool) {
	if c.RoutePrefix == "" && routeFromExternal {
		c.RoutePrefix = c.ExternalPrefix
	}
	c.RoutePrefix = "/" + strings.Trim(c.RoutePrefix, "/")
	if c.ExternalPrefix = strings.Trim(c.ExternalPrefix, "/"); c.ExternalPrefix != "" {
		c.ExternalPrefix = "/" + c.ExternalPrefix
	}
}

// UserPrefix returns the path a user has to put before our own ones for this request: the external
// prefix, else what the prefix header says; no trailing slash, "" for none. It is meant for links in
// pages and for redirects. Normalize has to be called before.
func (c *WebConfig) UserPrefix(r *http.Request) string {
	if c.ExternalPrefix == "" && c.PrefixHeader != "" {
		// Cleaned as a rooted path, so that no header value can make a link to another host.
		if p := path.Clean("/" + r.Header.Get(c.PrefixHeader)); p != "/" {
			return p
		}
	}
	return c.ExternalPrefix
}

// Mount serves h below the route prefix; h sees paths without it. With a prefix other than the
// root, GET / redirects (302) to the prefix followed by landing, such as "/graph", "/" or "".
// Normalize has to be called before.
func (c *WebConfig) Mount(s *Server, landing string, h http.Handler) {
	if c.RoutePrefix == "/" {
		s.Handle("/", h)
		return
	}
	s.Handle(c.RoutePrefix+"/", http.StripPrefix(c.RoutePrefix, h))
	s.Handle("/{$}", http.RedirectHandler(c.RoutePrefix+landing, http.StatusFound))
}

// CORS adds the headers that let pages of other sites call h, unless DisableCORS is set.
func (c *WebConfig) CORS(h http.Handler) http.Handler {
	if c.DisableCORS {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Access-Control-Allow-Headers", "Accept, Accept-Encoding, Authorization, Content-Type, Origin")
		header.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("Access-Control-Expose-Headers", "Date")
		h.ServeHTTP(w, r)
	})
}

// Preflight answers OPTIONS for any path below /api/v1/, so that browsers let pages of other sites call what is there, and leaves
// everything else to next. Were it a route of next, unknown paths would be "method not allowed" instead of "not found". wrap
// is put around the answer under the name "options".
func (c *WebConfig) Preflight(next http.Handler, wrap func(name string, h http.Handler) http.Handler) http.Handler {
	options := wrap("options", c.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions && strings.HasPrefix(r.URL.Path, "/api/v1/") {
			options.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
