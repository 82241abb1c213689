package harness

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Target is something to be scraped whose values never change: the same for every replica, at any time.
//
// It exposes demo_gauge{n="0"…"2"} with the values 10, 11, 12, and demo_total, a counter that stays at 5.
func Target(t testing.TB) (addr string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, "# TYPE demo_gauge gauge\n")
		for n := range 3 {
			fmt.Fprintf(w, "demo_gauge{n=\"%d\"} %d\n", n, 10+n)
		}
		fmt.Fprint(w, "# TYPE demo_total counter\ndemo_total 5\n")
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
