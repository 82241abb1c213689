package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/bucket-web/internal/view"
)

// overviews keeps the last overview as it is sent: making it of tens of thousands of blocks takes a while, and pages ask
// every few seconds whether there is a newer one.
type overviews struct {
	mu      sync.Mutex // guards what follows
	version uint64
	made    bool
	text    []byte
}

func (o *overviews) of(s view.State, complete func(*view.Overview)) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made && o.version == s.Version {
		return o.text, nil
	}
	out := view.OverviewOf(s)
	complete(&out)
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	o.version, o.made, o.text = s.Version, true, text
	return text, nil
}

// overview answers 304 to those who have the present one.
func (a *API) overview(w http.ResponseWriter, r *http.Request) {
	s := a.view.State()
	// The start of the process tells versions of two processes apart.
	tag := fmt.Sprintf(`W/"%d-%d"`, a.start.UnixNano(), s.Version)
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	text, err := a.kept.of(s, func(o *view.Overview) {
		o.Label, o.Admin, o.Compactor = a.cfg.Label, !a.cfg.DisableAdmin, a.cfg.Compactor != nil
	})
	if err != nil {
		err = promapi.RespondError(w, promapi.NewError(promapi.ErrorInternal, err))
	} else {
		err = promapi.Respond(w, raw(text), promapi.Notes{})
	}
	if err != nil {
		a.logger.Debug("write overview", zap.Error(err))
	}
}

// raw is JSON that is ready.
type raw []byte

// EncodeJSON implements promapi.Data.
func (r raw) EncodeJSON(e *promapi.Encoder) { e.Raw(string(r)) }
