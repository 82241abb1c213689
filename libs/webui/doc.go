// Package webui is the pages of all services and the handler that serves them.
//
// The pages are one React application; its sources are in app, and what Vite builds of them lies checked in below
// dist and is embedded, so that go build alone makes a complete binary. A service says which of the pages it has;
// everything else the pages need they ask its HTTP API for.
//
// All links and calls of the pages are relative to the place where the browser found them. Hence no page
// has to be told under which prefix it is served: a route prefix, an external one and a proxy that says its prefix in a
// header all work, and nothing a header says gets into a page.
//
// The pages load nothing from other hosts, and a content security policy holds them to it. Only the standard
// library is needed, so that any service can have pages.
package webui
