package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/signal.loop"), goleak.IgnoreAnyFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

func ruleFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// querier is a querier over a database of its own.
type querier struct {
	*httptest.Server
	db *tsdb.DB
	// away makes it answer 503. incomplete is a warning it then has; requests without partial responses fail.
	away       atomic.Bool
	incomplete atomic.Pointer[func(query string) string]
	mu         sync.Mutex
	queries    []string // guarded by mu
}

func newQuerier(t *testing.T) *querier {
	t.Helper()
	db, err := tsdb.Open(t.TempDir(), nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	q := &querier{db: db}
	q.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q.away.Load() || r.URL.Path != "/api/v1/query" {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		form, err := promapi.ParseForm(r)
		if err != nil {
			_ = promapi.RespondError(w, err)
			return
		}
		req, err := form.InstantQuery(promapi.Defaults{Engine: promapi.EnginePrometheus}, time.Now())
		if err != nil {
			_ = promapi.RespondError(w, err)
			return
		}
		q.mu.Lock()
		q.queries = append(q.queries, req.Query)
		q.mu.Unlock()
		var annos annotations.Annotations
		if f := q.incomplete.Load(); f != nil {
			if warning := (*f)(req.Query); warning != "" {
				if !req.PartialResponse {
					_ = promapi.RespondError(w, promapi.NewError(promapi.ErrorExecution, fmt.Errorf("%s", warning)))
					return
				}
				annos.Add(fmt.Errorf("%s", warning))
			}
		}
		query, err := engine.NewInstantQuery(r.Context(), db, nil, req.Query, req.Time)
		if err != nil {
			_ = promapi.RespondError(w, promapi.NewError(promapi.ErrorBadData, err))
			return
		}
		defer query.Close()
		result := query.Exec(r.Context())
		if result.Err != nil {
			_ = promapi.RespondError(w, result.Err)
			return
		}
		_ = promapi.Respond(w, &promapi.QueryData{Result: result.Value}, promapi.NotesFrom(annos, req.Query))
	}))
	t.Cleanup(func() {
		q.Close()
		require.NoError(t, db.Close())
	})
	return q
}

func (q *querier) add(t *testing.T, lset labels.Labels, at time.Time, v float64) {
	t.Helper()
	app := q.db.Appender(t.Context())
	_, err := app.Append(0, lset, at.UnixMilli(), v)
	require.NoError(t, err)
	require.NoError(t, app.Commit())
}

// alertmanager takes alerts.
type alertmanager struct {
	*httptest.Server
	away atomic.Bool
	mu   sync.Mutex
	got  []sentAlert // guarded by mu
}

type sentAlert struct {
	Labels       map[string]string
	Annotations  map[string]string
	StartsAt     time.Time
	EndsAt       time.Time
	GeneratorURL string
	path         string
}

func newAlertmanager(t *testing.T) *alertmanager {
	t.Helper()
	a := &alertmanager{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in []sentAlert
		if a.away.Load() || json.NewDecoder(r.Body).Decode(&in) != nil {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, s := range in {
			s.path = r.URL.Path
			a.got = append(a.got, s)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *alertmanager) alerts() []sentAlert {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]sentAlert(nil), a.got...)
}

// running is a ruler in this process.
type running struct {
	base    string
	process *service.Process
	stop    func()
}

func start(t *testing.T, change func(*Config)) running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	cfg.Common.HTTP.Address, cfg.Common.GRPC.Address = "127.0.0.1:0", "127.0.0.1:0"
	change(&cfg)
	require.NoError(t, cfg.Validate())
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, p) }()
	r := running{base: "http://" + p.HTTP.Addr().String(), process: p}
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close())
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(r.stop)
	require.Eventually(t, func() bool {
		code, _ := r.get(t, "/-/ready")
		return code == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond)
	return r
}

func (r running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(r.base + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, b.String()
}
