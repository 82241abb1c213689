package blockapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/promapi"
)

// serve answers with the calls as services mount them.
func serve(a *API) http.Handler {
	mux := http.NewServeMux()
	answer := func(f func(*http.Request) (promapi.Data, error)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if data, err := f(r); err != nil {
				_ = promapi.RespondError(w, err)
			} else {
				_ = promapi.Respond(w, data, promapi.Notes{})
			}
		})
	}
	mux.Handle("GET /{id}", answer(a.Block))
	mux.Handle("GET /{id}/cardinality", answer(a.Cardinality))
	mux.Handle("POST /mark", Guard(answer(a.Mark)))
	return mux
}

func ask(t *testing.T, h http.Handler, method, target string, form url.Values) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func mark(id, action, detail string) url.Values {
	return url.Values{"id": {id}, "action": {action}, "detail": {detail}}
}

func TestEachMarkIsSetShownAndTakenOff(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	id := blocktest.Upload(t, bkt, blocktest.Spec{}).ULID
	h := serve(New(Config{Bucket: bkt, Logger: zap.NewNop()}))
	for action, name := range map[string]string{
		ActionDelete: "deletion", ActionNoCompact: "noCompact", ActionNoDownsample: "noDownsample",
	} {
		code, body := ask(t, h, http.MethodPost, "/mark", mark(id.String(), action, "the reason"))
		require.Equal(t, 204, code, body)
		_, body = ask(t, h, http.MethodGet, "/"+id.String(), nil)
		require.Contains(t, body, `"`+name+`":{`)
		require.Contains(t, body, `"details":"the reason"`)
		code, body = ask(t, h, http.MethodPost, "/mark", mark(id.String(), "REMOVE_"+action, ""))
		require.Equal(t, 204, code, body)
		_, body = ask(t, h, http.MethodGet, "/"+id.String(), nil)
		require.Contains(t, body, `"marks":{}`)
		code, body = ask(t, h, http.MethodPost, "/mark", mark(id.String(), "REMOVE_"+action, ""))
		require.Equal(t, 400, code, body)
	}
}

func TestMarksThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	id := blocktest.Upload(t, bkt, blocktest.Spec{}).ULID
	gone := blocktest.Upload(t, bkt, blocktest.Spec{}).ULID
	h := serve(New(Config{Bucket: bkt, Logger: zap.NewNop()}))
	_, err := block.MarkForDeletion(t.Context(), zap.NewNop(), bkt, gone, "old", time.Unix(1, 0))
	require.NoError(t, err)
	require.NoError(t, bkt.Delete(t.Context(), block.ObjectName(gone, block.MetaFilename)))
	absent := "01HZZZZZZZZZZZZZZZZZZZZZZZ"
	for name, tc := range map[string]struct {
		form url.Values
		want string
	}{
		"no ULID":                 {mark("nope", ActionDelete, ""), "not valid"},
		"unknown action":          {mark(id.String(), "EXPLODE", ""), "not supported"},
		"no such block":           {mark(absent, ActionDelete, ""), "there is no block"},
		"deletion has begun":      {mark(gone.String(), ActionKeep, ""), "being deleted already"},
		"nothing to be taken off": {mark(id.String(), ActionKeep, ""), "no such marker"},
	} {
		code, body := ask(t, h, http.MethodPost, "/mark", tc.form)
		require.Equal(t, 400, code, "%s: %s", name, body)
		require.Contains(t, body, tc.want, name)
	}
	for object := range bkt.Objects() {
		require.NotContains(t, object, absent)
	}
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r := httptest.NewRequest(http.MethodPost, "/mark", nil)
		r.Header.Set(header, value)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		require.Equal(t, 403, rec.Code, "a page of another site")
	}
	off := serve(New(Config{Bucket: bkt, Logger: zap.NewNop(), DisableAdmin: true}))
	code, body := ask(t, off, http.MethodPost, "/mark", mark(id.String(), ActionDelete, ""))
	require.Equal(t, 500, code)
	require.Contains(t, body, "--disable-admin-operations")
}

func TestABlockIsToldAsItLiesInTheBucket(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	id := blocktest.Upload(t, bkt, blocktest.Spec{}).ULID
	h := serve(New(Config{Bucket: bkt, Logger: zap.NewNop()}))
	code, body := ask(t, h, http.MethodGet, "/"+id.String(), nil)
	require.Equal(t, 200, code)
	for _, want := range []string{`"ulid":"` + id.String() + `"`, `"name":"index"`, `"name":"chunks/000001"`, `"marks":{}`} {
		require.Contains(t, body, want)
	}
	code, body = ask(t, h, http.MethodGet, "/"+id.String()+"/cardinality?limit=1", nil)
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"series":`)
	require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id, block.MetaFilename), bytes.NewReader([]byte("{"))))
	code, body = ask(t, h, http.MethodGet, "/"+id.String(), nil)
	require.Equal(t, 200, code)
	require.Contains(t, body, `"meta":null,"metaError":"`)
	require.NoError(t, bkt.Delete(t.Context(), block.ObjectName(id, block.IndexFilename)))
	for target, want := range map[string]string{
		"/nope": "not valid", "/01HZZZZZZZZZZZZZZZZZZZZZZZ": "there is no block",
		"/" + id.String() + "/cardinality":         "has no index",
		"/" + id.String() + "/cardinality?limit=0": "limit",
	} {
		code, body = ask(t, h, http.MethodGet, target, nil)
		require.Equal(t, 400, code, target)
		require.Contains(t, body, want, target)
	}
}

func TestABucketThatFailsIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	inner := objstore.NewInMemBucket()
	id := blocktest.Upload(t, inner, blocktest.Spec{}).ULID
	broken := errors.New("the bucket is on fire")
	h := serve(New(Config{Bucket: inner, Logger: zap.NewNop(), ReadMarks: func(context.Context, ulid.ULID) (Marks, error) { return Marks{}, broken }}))
	code, body := ask(t, h, http.MethodGet, "/"+id.String(), nil)
	require.Equal(t, 500, code)
	require.Contains(t, body, broken.Error())
	code, body = ask(t, h, http.MethodPost, "/mark", mark(id.String(), ActionNoCompact, "kept"))
	require.Equal(t, 204, code, "the mark is set, although it cannot be read again: %s", body)
	got, err := block.ReadNoCompactMark(t.Context(), inner, id)
	require.NoError(t, err)
	require.Equal(t, "kept", got.Details)
}
