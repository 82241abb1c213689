package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func TestTheHTTPAPITellsAboutTheProcessAndRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for name, disable := range map[string]bool{"with pages": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), func(c *Config) { c.Web.Disable = disable })
			for _, path := range []string{"flags", "buildinfo", "runtimeinfo"} {
				var answer struct {
					Status string
					Data   map[string]any
				}
				require.NoError(t, json.Unmarshal([]byte(get(t, g.http+"/api/v1/status/"+path)), &answer), path)
				require.Equal(t, "success", answer.Status)
				require.NotNil(t, answer.Data)
			}
			blocks := map[bool]int{false: http.StatusOK, true: http.StatusNotFound}[disable]
			for request, want := range map[string]int{
				"GET /api/v1/blocks": blocks, "GET /api/v1/nothing": 404, "POST /api/v1/nothing": 404, "GET /api/v1/status/tsdb": 404, "GET /api/v1": 404,
			} {
				method, path, _ := strings.Cut(request, " ")
				require.Equal(t, want, statusOf(t, method, g.http+path), request)
			}
			if !disable {
				require.Equal(t, http.StatusNoContent, statusOf(t, http.MethodOptions, g.http+"/api/v1/anything"))
			}
		})
	}
}

func statusOf(t *testing.T, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}
