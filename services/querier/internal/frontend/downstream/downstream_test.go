package downstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyFailuresOfTheServerAreTriedAgain(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	for name, tc := range map[string]struct {
		code  int
		err   error
		calls int
	}{
		"answered":     {code: 200, calls: 1},
		"bad request":  {code: 400, calls: 1},
		"unanswerable": {code: 422, calls: 1},
		"too many":     {code: 429, calls: 1},
		"failed":       {code: 500, calls: 3},
		"unavailable":  {code: 503, calls: 3},
		"unreachable":  {err: down, calls: 3},
		"too large":    {err: ErrTooLarge, calls: 1},
		"refused":      {err: fair.ErrTooMany, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls, retries := 0, -1
				begin := time.Now()
				reply, err := Retrying(CallerFunc(func(context.Context, *Request) (*Reply, error) {
					calls++
					if tc.err != nil {
						return nil, tc.err
					}
					return &Reply{Code: tc.code}, nil
				}), 3, func(n int) { retries = n }).Call(t.Context(), &Request{})
				require.ErrorIs(t, err, tc.err)
				if tc.err == nil {
					require.Equal(t, tc.code, reply.Code)
				}
				require.Equal(t, tc.calls, calls)
				require.Equal(t, tc.calls-1, retries)
				if tc.calls > 1 {
					require.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond, "half of 200 and of 400 ms at least")
				}
			})
		})
	}
}

func TestNothingIsTriedAfterTheClientIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		calls := 0
		_, err := Retrying(CallerFunc(func(context.Context, *Request) (*Reply, error) {
			calls++
			return &Reply{Code: 500}, nil
		}), 5, func(int) {}).Call(ctx, &Request{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, calls)
	})
}

func TestAQuerierAtAnAddressGetsWhatItShall(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Seen", strings.Join([]string{
			r.Method, r.URL.Path, r.Form.Get("query")[:1], r.Header.Get("X-User"), r.Header.Get("X-Secret"), r.Header.Get("Tenant"),
		}, "|"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "body")
	}))
	defer srv.Close()
	base, err := url.Parse(srv.URL + "/prefix")
	require.NoError(t, err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	d := NewRemote(base, transport, []string{"x-user"})
	of := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query", nil)
	of.Header.Set("X-User", "me")
	of.Header.Set("X-Secret", "s")
	for text, method := range map[string]string{"up": "GET", strings.Repeat("up+", 3000) + "up": "POST"} {
		r := &Request{Of: of, Path: "/api/v1/query", Form: url.Values{"query": {text}}, Header: http.Header{"Tenant": {"t"}}}
		reply, err := d.Call(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, http.StatusTeapot, reply.Code)
		require.Equal(t, "body", string(reply.Body))
		require.Equal(t, method+"|/prefix/api/v1/query|u|me||t", reply.Header.Get("Seen"))
	}
	_, err = d.Call(t.Context(), &Request{Of: of, Path: "/x", Form: url.Values{"query": {"up"}}, Room: NewRoom(3)})
	require.ErrorIs(t, err, ErrTooLarge)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Call(ctx, &Request{Of: of, Path: "/x", Form: url.Values{"query": {"up"}}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestTheQuerierInTheProcessGetsAPlainRequest(t *testing.T) {
	t.Parallel()
	d := NewLocal(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Seen", strings.Join([]string{
			r.Method, r.URL.Path, r.Form.Get("query"), r.Header.Get("X-User"), r.Header.Get("Accept-Encoding"), r.Header.Get("Tenant"),
		}, "|"))
		_, _ = io.WriteString(w, "body")
	}))
	of := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/query?query=other", strings.NewReader("query=third"))
	of.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	of.Header.Set("Accept-Encoding", "gzip")
	of.Header.Set("X-User", "me")
	r := &Request{Of: of, Path: "/api/v1/query", Form: url.Values{"query": {"up"}}, Header: http.Header{"Tenant": {"t"}}}
	reply, err := d.Call(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.Code)
	require.Equal(t, "GET|/api/v1/query|up|me||t", reply.Header.Get("Seen"))
	require.Equal(t, "body", string(reply.Body))
	require.Equal(t, "gzip", of.Header.Get("Accept-Encoding"), "the request of the client stays as it is")
	r.Room = NewRoom(7)
	_, err = d.Call(t.Context(), r)
	require.NoError(t, err)
	_, err = d.Call(t.Context(), r)
	require.ErrorIs(t, err, ErrTooLarge, "the room is that of both answers")
}
