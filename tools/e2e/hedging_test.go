package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// slowAtFirst passes requests on to an S3 server. While it is switched on, it keeps each read waiting when it comes for the first time.
type slowAtFirst struct {
	next http.Handler

	mu   sync.Mutex // guards on and seen
	on   bool
	seen map[string]bool
}

// hold is how long a read is kept waiting.
const hold = 2 * time.Second

func newSlowAtFirst(t *testing.T, addr string) (*slowAtFirst, string) {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: addr}
	p := &slowAtFirst{next: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is part of what clients sign
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, strings.TrimPrefix(server.URL, "http://")
}

// set switches it on or off; what came before is forgotten.
func (p *slowAtFirst) set(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on, p.seen = on, map[string]bool{}
}

func (p *slowAtFirst) first(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := r.URL.Path + r.Header.Get("Range")
	first := p.on && r.Method == http.MethodGet && r.Header.Get("Range") != "" && !p.seen[key]
	if p.on {
		p.seen[key] = true
	}
	return first
}

func (p *slowAtFirst) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.first(r) {
		select {
		case <-time.After(hold):
		case <-r.Context().Done():
			return
		}
	}
	p.next.ServeHTTP(w, r)
}

// A read that takes longer than most is sent once more, where the bucket's configuration says so.
func TestHedgedReadsOutrunAnS3ServerThatIsSlowNowAndThen(t *testing.T) {
	t.Parallel()
	h := newCachedHistory(t)
	h.memcached.Kill() // the bucket has to be asked each time
	text, err := os.ReadFile(h.config)
	require.NoError(t, err)
	addr := regexp.MustCompile(`endpoint: "([^"]+)"`).FindSubmatch(text)
	require.NotNil(t, addr)
	slow, through := newSlowAtFirst(t, string(addr[1]))
	proxied := strings.Replace(string(text), string(addr[1]), through, 1)
	took := map[string]time.Duration{}
	for name, more := range map[string]string{"plain": "", "hedged": "hedging_config: {enabled: true, up_to: 3, quantile: 0.9}\n"} {
		h.config = h.Dir(name + ".yml")
		require.NoError(t, os.WriteFile(h.config, []byte(proxied+more), 0o600))
		slow.set(false)
		r := h.reader(name)
		harness.Eventually(t, func() error { _, err := r.ask(); return err })
		for range 10 { // there has to be something to compare with
			_, err := r.ask()
			require.NoError(t, err)
		}
		slow.set(true)
		begin := time.Now()
		start, end, step := h.steps()
		got, _, err := r.api.With("timeout", "1m").TryRange(blocktest.FloatMetric, start, end, step)
		took[name] = time.Since(begin)
		slow.set(false)
		require.NoError(t, err)
		require.Len(t, got, historySeries)
		require.Equal(t, name == "hedged", h.Metric(r.gateway, "promontory_objstore_hedged_requests_total") > 0)
	}
	t.Logf("the same query took %s without hedging and %s with it", took["plain"], took["hedged"])
	require.GreaterOrEqual(t, took["plain"], hold)
	require.Less(t, took["hedged"], hold)
}
