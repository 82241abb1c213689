package app

import (
	"net/http"

	"github.com/promontory-io/promontory/libs/webui"
)

// pages are what a querier shows in a browser.
func pages(wrap func(name string, h http.Handler) http.Handler) webui.Config {
	return webui.Config{
		Service: "querier",
		Pages: []webui.Page{
			webui.Graph, webui.Stores, webui.Alerts, webui.Rules, webui.Targets, webui.TSDB, webui.Queries, webui.Flags, webui.Status,
		},
		Wrap: wrap,
	}
}
