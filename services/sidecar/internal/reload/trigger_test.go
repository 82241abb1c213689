package reload

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

func clientOf(t *testing.T, handler http.HandlerFunc) *promclient.Client {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.Client().CloseIdleConnections)
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	return promclient.New(u, promclient.Options{HTTP: srv.Client()})
}

func TestPrometheusSaysWhetherItReloaded(t *testing.T) {
	t.Parallel()
	var code atomic.Int64
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/-/reload" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(int(code.Load()))
		fmt.Fprint(w, "failed to reload config: line 3")
	})
	code.Store(200)
	require.NoError(t, ByHTTP{c}.Reload(t.Context()))
	code.Store(500)
	require.ErrorContains(t, ByHTTP{c}.Reload(t.Context()), "line 3")
}

// process makes an entry of /proc.
func process(t *testing.T, root string, pid int, comm, cmdline string) {
	t.Helper()
	dir := filepath.Join(root, strconv.Itoa(pid))
	put(t, filepath.Join(dir, "comm"), comm+"\n")
	put(t, filepath.Join(dir, "cmdline"), cmdline)
}

func TestTheFirstProcessOfTheNameIsFound(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "meminfo"), "x")
	require.NoError(t, os.Mkdir(filepath.Join(root, "5"), 0o755)) // ended meanwhile
	process(t, root, 100, "prometheus", "/bin/prometheus\x00--x")
	process(t, root, 20, "prometheus", "/bin/prometheus\x00--x")
	process(t, root, 7, "prometheus-of-a", "/bin/prometheus-of-another\x00")
	process(t, root, 8, "prometheus-of-a", "/bin/prometheus-of-a-friend\x00--y")
	for name, want := range map[string]int{"prometheus": 20, "prometheus-of-a-friend": 8, "prometheus-of-a": 7} {
		got, err := findProcess(root, name, 1)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	got, err := findProcess(root, "prometheus", 20)
	require.NoError(t, err)
	require.Equal(t, 100, got, "not ourselves")
	_, err = findProcess(root, "prometheus-of-nobody", 1)
	require.ErrorContains(t, err, `no process is named "prometheus-of-nobody"`)
	_, err = findProcess(filepath.Join(root, "none"), "x", 1)
	require.ErrorContains(t, err, `look for process "x"`)
}

// signalled runs a process that ends by the signal, and a server that behaves as Prometheus
// does once it has come.
func signalled(t *testing.T, successBefore, successAfter, loads bool) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	require.NoError(t, cmd.Start())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // killed by the signal
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // where the signal did not come
		<-gone
	})
	root := t.TempDir()
	process(t, root, cmd.Process.Pid, "prometheus", "prometheus\x00")
	before := time.Now().Add(-time.Hour).Truncate(time.Second)
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		success, at := successBefore, before
		select {
		case <-gone:
			success = successAfter
			if loads {
				at = time.Now()
			}
		default:
		}
		fmt.Fprintf(w, `{"status":"success","data":{"reloadConfigSuccess":%t,"lastConfigTime":%q}}`, success, at.UTC().Format(time.RFC3339))
	})
	return BySignal{Client: c, ProcessName: "prometheus", ProcRoot: root}.Reload(t.Context())
}

func TestASignalIsVerified(t *testing.T) {
	t.Parallel()
	require.NoError(t, signalled(t, true, true, true))
	require.NoError(t, signalled(t, false, true, true), "put right")
	require.ErrorContains(t, signalled(t, true, false, false), "refused its configuration")
}

func TestASignalWaitsUntilItsSuccessCanBeTold(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		fmt.Fprintf(w, `{"status":"success","data":{"reloadConfigSuccess":true,"lastConfigTime":%q}}`, time.Now().UTC().Format(time.RFC3339))
	})
	began := time.Now()
	err := BySignal{Client: c, ProcessName: "nobody", ProcRoot: t.TempDir()}.Reload(t.Context())
	require.ErrorContains(t, err, `no process is named "nobody"`)
	require.Greater(t, time.Since(began), 400*time.Millisecond, "a second's resolution")
}
