package frontend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi"
)

func TestLabelsAndSeriesAreAskedPartByPart(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached()
	h.now = time.Unix(7200+700, 0)
	h.build()
	for path, params := range map[string][]string{
		"labels": {}, "label/job/values": {}, "series": {"match[]", "requests_total"},
	} {
		span := append(params, "start", "1000", "end", "7500")
		want := ask(t, h.up, path, span...)
		h.up.taken()
		got := ask(t, h.fe, path, span...)
		require.JSONEq(t, want.Body.String(), got.Body.String())
		// Both ends are moved outward to five minutes.
		require.Equal(t, []string{"1800-3599.999", "3600-5399.999", "5400-7199.999", "7200-7799.999", "900-1799.999"}, times(h.up.taken()))
		got = ask(t, h.fe, path, append(params, "start", "1100", "end", "7550")...)
		require.Empty(t, h.up.taken(), "%s: the same five minutes", path)
		require.JSONEq(t, want.Body.String(), got.Body.String())
		limited := ask(t, h.fe, path, append(span, "limit", "1")...)
		require.Contains(t, limited.Body.String(), truncated)
		require.Len(t, decodeAnswer(t, limited.Body.Bytes())["data"], 1)
	}
	h.up.taken()
	ask(t, h.fe, "labels")
	require.Len(t, h.up.taken(), 1, "all time is asked as one")
	h.cfg.Labels.DefaultRange = time.Hour
	h.build()
	ask(t, h.fe, "labels")
	require.Equal(t, []string{"4200-5399.999", "7800-7900"}, times(h.up.taken()), "the default is the last hour: what is not known of it")
}

func TestAnIncompleteListIsNeverKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached().build()
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, `{"status":"success","data":["a"],"warnings":["a store is gone"]}`)
		return true
	})
	w := ask(t, h.fe, "labels", "start", "0", "end", "3000")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Contains(t, w.Body.String(), "a store is gone")
	n := len(h.up.taken())
	h.up.fault(nil)
	ask(t, h.fe, "labels", "start", "0", "end", "3000")
	require.Len(t, h.up.taken(), n)
}

func TestATruncatedListIsFlaggedAndNotKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached().build()
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Cache-Control", "no-store")
		_ = promapi.Respond(w, promapi.Strings{"a"}, promapi.Notes{Warnings: []string{truncated}})
		return true
	})
	for range 2 {
		w := ask(t, h.fe, "labels", "start", "0", "end", "1700", "limit", "1")
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		var got struct{ Warnings []string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, []string{truncated}, got.Warnings)
		require.NotEmpty(t, h.up.taken())
	}
}

func TestTheYoungPartOfAListIsAskedEachTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached()
	h.cfg.Labels.MaxFreshness = 10 * time.Minute
	h.now = time.Unix(7200+700, 0)
	h.build()
	for path, params := range map[string][]string{
		"labels": {}, "label/job/values": {}, "series": {"match[]", "requests_total"},
	} {
		params = append(params, "start", "6000", "end", "7900")
		ask(t, h.fe, path, params...)
		require.Equal(t, []string{"6000-7199.999", "7200-7900"}, times(h.up.taken()), path)
		for range 2 {
			ask(t, h.fe, path, params...)
			require.Equal(t, []string{"7200-7900"}, times(h.up.taken()), "%s: ten minutes ago is 7300, rounded to five minutes 7200", path)
		}
	}
}
