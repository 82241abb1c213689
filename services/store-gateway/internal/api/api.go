// Package api is the store gateway's own HTTP surface: which blocks it serves, and
// which it cannot.
package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/store-gateway/internal/syncer"
)

// Blocks answers GET /api/v1/blocks with the state of the last round. Whatever view is
// asked for, it is that of the blocks served: a store gateway knows no other. label
// is the external label that pages group blocks by.
func Blocks(label string, state func() syncer.State, logger *zap.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(blocksOf(label, state()))
		if err == nil {
			err = promapi.Respond(w, raw(b), promapi.Notes{})
		} else {
			err = promapi.RespondError(w, promapi.NewError(promapi.ErrorInternal, err))
		}
		if err != nil {
			logger.Debug("answer blocks", zap.Error(err))
		}
	})
}

// raw is JSON that is ready.
type raw []byte

// EncodeJSON implements promapi.Data.
func (r raw) EncodeJSON(e *promapi.Encoder) { e.Raw(string(r)) }

// blocks is the JSON of an answer.
type blocks struct {
	Label     string        `json:"label"`
	Blocks    []*block.Meta `json:"blocks"`
	Refreshed time.Time     `json:"refreshedAt"`
	// Err is why the last round failed; null if it did not.
	Err *string `json:"err"`
	// Aside are blocks that should be served and cannot be; left out if there are none.
	Aside []aside `json:"setAside,omitempty"`
}

// aside is a block that is not served. Times and labels are left out where they are
// not known.
type aside struct {
	ID      string            `json:"ulid"`
	MinTime *int64            `json:"minTime,omitempty"`
	MaxTime *int64            `json:"maxTime,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Reason  string            `json:"reason"`
	// Instead are blocks that are served in its place and hold all of its data.
	Instead []ulid.ULID `json:"servedInstead,omitempty"`
}

func blocksOf(label string, st syncer.State) blocks {
	out := blocks{Label: label, Blocks: st.Metas, Refreshed: st.Refreshed}
	if out.Blocks == nil {
		out.Blocks = []*block.Meta{}
	}
	if st.Err != nil {
		text := st.Err.Error()
		out.Err = &text
	}
	for _, a := range st.Aside {
		e := aside{ID: a.ID, Reason: a.Reason.Error()}
		if a.Known {
			e.MinTime, e.MaxTime, e.Labels = &a.MinTime, &a.MaxTime, a.External.Map()
		}
		if id, ok := block.ParseID(a.ID); ok {
			e.Instead = st.Instead[id]
		}
		out.Aside = append(out.Aside, e)
	}
	return out
}
