package webui

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"path"
	"slices"
	"strings"
)

//go:embed dist
var dist embed.FS

// Page is the name of a page and the path it is served at, without the leading slash.
type Page string

// The pages there are.
const (
	Graph   Page = "graph"       // queries, as table and graph
	Stores  Page = "stores"      // the endpoints of a querier
	Rules   Page = "rules"       // rules and their health
	Alerts  Page = "alerts"      // pending and firing alerts
	Targets Page = "targets"     // scrape targets
	TSDB    Page = "tsdb-status" // cardinality of the newest data
	Queries Page = "queries"     // queries that run now
	Blocks  Page = "blocks"      // all blocks of a bucket
	Loaded  Page = "loaded"      // the blocks that a process works with
	Usage   Page = "usage"       // what a bucket holds, by label and over time
	Work    Page = "work"        // what a compactor does and will do
	Tenants Page = "tenants"     // tenants and hashring of a receiver
	Gaps    Page = "gaps"        // rule evaluations that were left out
	Ruler   Page = "ruler"       // a ruler as a whole: what it evaluates, asks and tells
	Flags   Page = "flags"       // effective flags
	Status  Page = "status"      // build and process
)

// aliases are paths under which other programs have served a page.
func aliases() map[string]Page {
	return map[string]Page{"query": Graph, "global": Blocks}
}

// Config is what a service says about its pages.
type Config struct {
	// Service is the name that pages show.
	Service string
	// Pages are in the order of the navigation. The first is the one that / leads to.
	Pages []Page
	// Facts tell pages what they cannot ask the API for, such as admin operations that are switched off. They are
	// shown to whoever opens a page. May be nil.
	Facts map[string]string
	// Wrap puts the instrumentation of the process around the handler of the pages, under the name that dashboards
	// know; nil puts none.
	Wrap func(name string, h http.Handler) http.Handler
}

// handlerName is what requests of pages are counted under.
const handlerName = "react-static"

// Over returns a handler that answers requests of the pages and leaves all others to next. Like next it is to
// be mounted without the route prefix. Safe for concurrent use.
func Over(cfg Config, next http.Handler) http.Handler {
	p := &pages{cfg: cfg, known: map[string]bool{}, page: content("index.html")}
	for _, page := range cfg.Pages {
		p.known["/"+string(page)] = true
	}
	for alias, page := range aliases() {
		if slices.Contains(cfg.Pages, page) {
			p.known["/"+alias] = true
		}
	}
	if cfg.Wrap == nil {
		cfg.Wrap = func(_ string, h http.Handler) http.Handler { return h }
	}
	own := cfg.Wrap(handlerName, p)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.answers(r) {
			own.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type pages struct {
	cfg   Config
	known map[string]bool
	page  []byte
}

// static is where the built files are, and never anything else.
const static = "/static/"

func (p *pages) answers(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	at := r.URL.Path
	return at == "/" || at == "/favicon.ico" || at == "/manifest.json" || p.known[at] || strings.HasPrefix(at, static)
}

// ServeHTTP implements http.Handler.
func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	switch at := r.URL.Path; {
	case at == "/":
		// Relative, for the reason the package comment gives; http.Redirect would make it absolute.
		target := string(p.cfg.Pages[0])
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		header.Set("Location", target)
		w.WriteHeader(http.StatusFound)
	case at == "/favicon.ico":
		p.file(w, "icon.svg", false)
	case at == "/manifest.json":
		p.file(w, "manifest.json", false)
	case strings.HasPrefix(at, static):
		p.file(w, strings.TrimPrefix(at, "/"), true)
	default:
		p.document(w)
	}
}

// hints is what a page is told in its own text.
type hints struct {
	Service string            `json:"service"`
	Pages   []Page            `json:"pages"`
	Nonce   string            `json:"nonce"`
	Facts   map[string]string `json:"facts,omitempty"`
}

// placeholder is where the text of a page takes its hints.
const placeholder = "{{promontory}}"

func (p *pages) document(w http.ResponseWriter) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hints{Service: p.cfg.Service, Pages: p.cfg.Pages, Nonce: base64.RawStdEncoding.EncodeToString(b[:]), Facts: p.cfg.Facts}
	text, err := json.Marshal(h)
	if err != nil {
		http.Error(w, fmt.Sprintf("encode page: %v", err), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Frame-Options", "SAMEORIGIN")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	// The editor makes its style sheets at run time, which is what the nonce is for.
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-"+h.Nonce+"'; img-src 'self' data:; "+
		"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
	_, _ = w.Write(bytes.Replace(p.page, []byte(placeholder), []byte(html.EscapeString(string(text))), 1))
}

// file answers with a built file. The names of those that are kept carry a checksum of their content.
func (p *pages) file(w http.ResponseWriter, name string, keep bool) {
	b := content(name)
	if b == nil {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	header := w.Header()
	header.Set("Content-Type", contentType(name))
	if keep {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		header.Set("Cache-Control", "public, max-age=3600")
	}
	// An icon that is opened as a document of its own may do nothing either.
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = w.Write(b)
}

// content returns a built file, nil if there is none of that name.
func content(name string) []byte {
	b, err := dist.ReadFile("dist/" + name) // names with .. in them are refused
	if err != nil {
		return nil // only "no such file" is possible in what is embedded
	}
	return b
}

// contentType does not ask the machine's tables, which differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}
