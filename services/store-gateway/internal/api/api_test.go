package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/store-gateway/internal/store"
	"github.com/promontory-io/promontory/services/store-gateway/internal/syncer"
)

func TestBlocksShowsTheStateOfTheLastRound(t *testing.T) {
	t.Parallel()
	meta := &block.Meta{Thanos: block.Thanos{Labels: map[string]string{"a": "b"}}}
	meta.Version = 1
	metaJSON, err := meta.MarshalJSON()
	require.NoError(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		state syncer.State
		want  string
	}{
		"before the first": {syncer.State{}, `{"label":"cluster","blocks":[],"refreshedAt":"0001-01-01T00:00:00Z","err":null}`},
		"a good one": {
			syncer.State{Metas: []*block.Meta{meta}, Refreshed: at},
			`{"label":"cluster","blocks":[` + string(metaJSON) + `],"refreshedAt":"2026-01-02T03:04:05Z","err":null}`,
		},
		"a failed one": {syncer.State{Refreshed: at, Err: errors.New("no bucket")}, `{"label":"cluster","blocks":[],"refreshedAt":"2026-01-02T03:04:05Z","err":"no bucket"}`},
		"blocks set aside": {
			syncer.State{Refreshed: at, Aside: []store.Aside{
				{ID: "X", Known: true, External: labels.FromStrings("a", "b"), MinTime: 1, MaxTime: 2, Reason: errors.New("broken")},
				{ID: "Y", Reason: errors.New("unknown")},
			}},
			`{"label":"cluster","blocks":[],"refreshedAt":"2026-01-02T03:04:05Z","err":null,"setAside":[` +
				`{"ulid":"X","minTime":1,"maxTime":2,"labels":{"a":"b"},"reason":"broken"},{"ulid":"Y","reason":"unknown"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := httptest.NewRecorder()
			Blocks("cluster", func() syncer.State { return tc.state }, zap.NewNop()).
				ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/api/v1/blocks?view=loaded", nil))
			require.Equal(t, http.StatusOK, rec.Code)
			require.JSONEq(t, `{"status":"success","data":`+tc.want+`}`, rec.Body.String())
		})
	}
}
