package app

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/querier/internal/frontend"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// parsed is what the arguments of a frontend alone say.
func parsed(t *testing.T, args ...string) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Role = RoleFrontend
	fs := pflag.NewFlagSet("querier", pflag.ContinueOnError)
	cfg.BindFlags(fs)
	require.NoError(t, fs.Parse(args))
	return cfg
}

func TestEachFlagOfTheFrontendSetsWhatItIsNamedFor(t *testing.T) {
	t.Parallel()
	source := tenancy.DefaultSource()
	for args, change := range map[string]func(*frontend.Config){
		"--no-query-range.align-range-with-step":                              func(c *frontend.Config) { c.Range.Align = false },
		"--query-range.align-range-with-step=false":                           func(c *frontend.Config) { c.Range.Align = false },
		"--no-query-range.request-downsampled":                                func(c *frontend.Config) { c.Range.Downsampled = false },
		"--query-range.split-interval=6h":                                     func(c *frontend.Config) { c.Range.Intervals.Static = 6 * time.Hour },
		"--query-range.max-retries-per-request=2":                             func(c *frontend.Config) { c.Range.Tries = 2 },
		"--query.max-retries-per-request=3":                                   func(c *frontend.Config) { c.Instant.Tries = 3 },
		"--query-range.max-query-length=30d":                                  func(c *frontend.Config) { c.Range.MaxLength = 30 * 24 * time.Hour },
		"--query-range.max-query-parallelism=3":                               func(c *frontend.Config) { c.Range.Parallelism = 3 },
		"--query-range.response-cache-max-freshness=5m":                       func(c *frontend.Config) { c.Range.MaxFreshness = 5 * time.Minute },
		"--no-query-range.partial-response":                                   func(c *frontend.Config) { c.Defaults.PartialResponse = false },
		"--labels.split-interval=1h":                                          func(c *frontend.Config) { c.Labels.Interval = time.Hour },
		"--labels.max-retries-per-request=1":                                  func(c *frontend.Config) { c.Labels.Tries = 1 },
		"--labels.max-query-parallelism=2":                                    func(c *frontend.Config) { c.Labels.Parallelism = 2 },
		"--labels.response-cache-max-freshness=3m":                            func(c *frontend.Config) { c.Labels.MaxFreshness = 3 * time.Minute },
		"--no-labels.partial-response":                                        func(c *frontend.Config) { c.Labels.PartialResponse = false },
		"--labels.default-time-range=48h":                                     func(c *frontend.Config) { c.Labels.DefaultRange = 48 * time.Hour },
		"--query-frontend.vertical-shards=4":                                  func(c *frontend.Config) { c.VerticalShards = 4 },
		"--query-frontend.log-queries-longer-than=10s":                        func(c *frontend.Config) { c.SlowerThan = 10 * time.Second },
		"--query-frontend.log-queries-longer-than=-1s":                        func(c *frontend.Config) { c.SlowerThan = -time.Second },
		"--query-frontend.force-query-stats":                                  func(c *frontend.Config) { c.ForceStats = true },
		"--query-frontend.slow-query-logs-user-header=X-U":                    func(c *frontend.Config) { c.UserHeader = "X-U" },
		"--query-frontend.max-response-bytes=5MB":                             func(c *frontend.Config) { c.MaxBytes = 5 << 20 },
		"--query-frontend.org-id-header=A --query-frontend.org-id-header=B":   func(c *frontend.Config) { c.OrgHeaders = []string{"A", "B"} },
		"--query-frontend.forward-header=A --query-frontend.forward-header=B": func(c *frontend.Config) { c.KeyHeaders = []string{"A", "B"} },
		"--query-range.split-interval=0 --query-range.min-split-interval=1h --query-range.max-split-interval=12h --query-range.horizontal-shards=4": func(c *frontend.Config) {
			c.Range.Intervals = plan.Intervals{Min: time.Hour, Max: 12 * time.Hour, Shards: 4}
		},
	} {
		cfg := parsed(t, strings.Fields(args)...)
		require.NoError(t, cfg.Validate(), args)
		want := frontendConfig(parsed(t), source, true)
		before := want
		change(&want)
		require.NotEqual(t, before, want, "%s: the default", args)
		require.Equal(t, want, frontendConfig(cfg, source, true), args)
	}
	require.Equal(t, "http://q:1", parsed(t, "--query-frontend.downstream-url=http://q:1").Frontend.DownstreamURL)
	require.Equal(t, "http://q:1", parsed(t, "--downstream-url=http://q:1").Frontend.DownstreamURL)

	// What is the querier's own to say where the frontend is a part of it.
	cfg := parsed(t, "--no-query-range.partial-response", "--query-frontend.forward-header=A")
	part := frontendConfig(cfg, source, false)
	require.True(t, part.Defaults.PartialResponse)
	require.Empty(t, part.KeyHeaders)
	require.False(t, part.SetPartial)
}

func TestCachesAreOpenedAsTheirFlagsSay(t *testing.T) {
	t.Parallel()
	open := func(args ...string) (caches, *prometheus.Registry) {
		c := parsed(t, args...).Frontend
		reg := prometheus.NewRegistry()
		opened, err := openCaches(&c, zap.NewNop(), reg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, opened.close()) })
		return opened, reg
	}
	none, _ := open()
	require.Equal(t, caches{}, none)
	ranges, _ := open("--query-range.response-cache-config=" + inMemory)
	require.NotNil(t, ranges[0])
	require.Nil(t, ranges[1])
	labels, _ := open("--labels.response-cache-config=" + inMemory)
	require.Nil(t, labels[0])
	require.NotNil(t, labels[1])
}

// silent is a querier that answers after a while that a test ends.
func silent(t *testing.T) (url string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/-/ready" {
			return
		}
		if r.URL.Path == "/api/v1/query" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":["`+strings.Repeat("a", 5000)+`"]}`)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestTheTripperBoundsHowLongTheQuerierMayTake(t *testing.T) {
	f := startFrontend(t, silent(t), func(c *Config) {
		c.Frontend.InstantTries = 1
		c.Frontend.DownstreamConfig = flags.InlineContent("query-frontend.downstream-tripper-config", "response_header_timeout: 50ms\n")
	})
	code, body := f.get(t, "/api/v1/query?query=up")
	require.Equal(t, http.StatusGatewayTimeout, code)
	require.Contains(t, body, "timeout awaiting response headers")
}

func TestTheTripperSaysWhomToTrust(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
	}))
	srv.Config.ErrorLog = zap.NewStdLog(zap.NewNop()) // of those who do not trust it
	srv.StartTLS()
	defer srv.Close()
	for config, want := range map[string]int{"": http.StatusBadGateway, "tls_config: {insecure_skip_verify: true}": http.StatusOK} {
		f := startFrontend(t, srv.URL, func(c *Config) {
			c.Frontend.LabelsTries = 1
			if config != "" {
				c.Frontend.DownstreamConfig = flags.InlineContent("query-frontend.downstream-tripper-config", config)
			}
		})
		code, body := f.get(t, "/api/v1/labels?start=0&end=1")
		require.Equal(t, want, code, body)
	}
}

func TestAnswersAreCompressedWhereThatIsAskedFor(t *testing.T) {
	url := silent(t)
	for _, compress := range []bool{false, true} {
		f := startFrontend(t, url, func(c *Config) { c.Frontend.CompressResponses = compress })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.base+"/api/v1/labels?start=0&end=1", nil)
		require.NoError(t, err)
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		var r io.Reader = resp.Body
		if compress {
			require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
			r, err = gzip.NewReader(resp.Body)
			require.NoError(t, err)
		} else {
			require.Empty(t, resp.Header.Get("Content-Encoding"))
		}
		body, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Contains(t, string(body), "aaaa")
	}
}

func TestXFunctionsAreTakenApartWhereTheyAreKnown(t *testing.T) {
	asked := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/query_range" {
			asked <- r.URL.Query().Get("start")
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
	}))
	defer srv.Close()
	for known, parts := range map[bool]int{false: 1, true: 2} {
		f := startFrontend(t, srv.URL, func(c *Config) { c.Frontend.XFunctions, c.Frontend.SplitInterval = known, time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		code, _ := f.get(t, "/api/v1/query_range?query=xrate(a[5m])&start=0&end=3600&step=60")
		require.Equal(t, http.StatusOK, code)
		for range parts {
			select {
			case <-asked:
			case <-ctx.Done():
				t.Fatal("too few parts")
			}
		}
		require.Empty(t, asked)
	}
}
