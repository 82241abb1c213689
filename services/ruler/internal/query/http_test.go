package query

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestAReplicaThatStandsInMakesAnAnswerWhole(t *testing.T) {
	t.Parallel()
	const refused = `{"status":"error","errorType":"execution","error":"endpoint a failed"}`
	answer := func(receipt string) string {
		return `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]},"warnings":["endpoint a failed"]` + receipt + `}`
	}
	receipt := func(coverage string, covered bool) string {
		return fmt.Sprintf(`,"receipt":{"version":1,"coverage":%q,"missing":[{"address":"a","labels":{"x":"y"},"covered":%v,"reason":"gone"}]}`, coverage, covered)
	}
	for name, tc := range map[string]struct {
		partial bool
		receipt string // of the partial answer
		status  int    // of the answer that has to be complete
		asked   int
		wantErr string
		missing int
	}{
		"covered":                    {false, receipt("covered", true), 422, 2, "", 0},
		"covered, partial":           {true, receipt("covered", true), 422, 1, "", 0},
		"incomplete":                 {false, receipt("incomplete", false), 422, 2, "endpoint a failed", 0},
		"incomplete, partial":        {true, receipt("incomplete", false), 422, 1, "", 1},
		"a querier without receipts": {false, "", 422, 2, "endpoint a failed", 0},
		"an unreadable receipt":      {false, `,"receipt":[]`, 422, 2, "endpoint a failed", 0},
		"another trouble":            {false, receipt("covered", true), 503, 1, "503", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				text := answer(tc.receipt)
				if r.FormValue("partial_response") == "false" {
					w.WriteHeader(tc.status)
					text = refused
				}
				fmt.Fprint(w, text)
			}))
			defer s.Close()
			u, err := url.Parse(s.URL)
			require.NoError(t, err)
			target := NewHTTP(u, HTTPOptions{})
			r, err := New(func() []Target { return []Target{target} }, zap.NewNop()).Query(t.Context(), "up", time.Unix(1, 0), tc.partial)
			require.Equal(t, tc.asked, asked)
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				return
			}
			require.NoError(t, err)
			require.Len(t, r.Missing, tc.missing)
			require.Equal(t, `{x="y"}`, r.Receipt.Missing[0].Labels.String())
		})
	}
}
