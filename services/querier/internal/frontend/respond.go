package frontend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
)

// outcome is what a client gets: an answer that was put together, or a reply as it came.
type outcome struct {
	answer *answer.Answer
	// noStore tells that something may be missing from the answer.
	noStore bool
	reply   *downstream.Reply
	// hits is how many of the parts came from the cache, parts how many there were.
	hits, parts int
}

// refusal is a reply of the querier that says no. It becomes the answer to the client.
type refusal struct{ reply *downstream.Reply }

func (r *refusal) Error() string {
	return fmt.Sprintf("the querier answers with status %d", r.reply.Code)
}

// statusClosed is for requests whose client went away.
const statusClosed = 499

// respond writes the outcome and returns the status.
func (f *Frontend) respond(w http.ResponseWriter, c *call, out *outcome, err error) (code int) {
	var refused *refusal
	if errors.As(err, &refused) {
		out, err = &outcome{reply: refused.reply}, nil
	}
	switch {
	case err != nil:
		code, err = f.respondError(w, err)
	case out.reply != nil:
		code, err = out.reply.Code, respondReply(w, out.reply)
	default:
		code, err = http.StatusOK, f.respondAnswer(w, c, out)
	}
	if err != nil {
		f.logger.Debug("write answer", zap.String("path", c.http.URL.Path), zap.Error(err))
	}
	return code
}

// respondReply passes on what a client of the API may need to know.
func respondReply(w http.ResponseWriter, r *downstream.Reply) error {
	for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After"} {
		if v := r.Header.Values(name); len(v) > 0 {
			w.Header()[name] = v
		}
	}
	w.WriteHeader(r.Code)
	_, err := w.Write(r.Body)
	return err
}

func (f *Frontend) respondAnswer(w http.ResponseWriter, c *call, out *outcome) error {
	w.Header().Set("Content-Type", "application/json")
	if out.noStore {
		w.Header().Set("Cache-Control", "no-store")
	}
	a := *out.answer
	if f.cfg.ForceStats {
		if s, err := answer.ParseStats(a.Stats); err == nil {
			w.Header().Set("Server-Timing", fmt.Sprintf("querier_wall_time;dur=%.3f, response_time;dur=%.3f",
				1000*s.Timings["execTotalTime"], float64(f.deps.Now().Sub(c.begin))/float64(time.Millisecond)))
		}
		if !c.statsAsked {
			a.Stats = nil
		}
	}
	return a.Write(w)
}

// respondError writes an error that does not come from the querier.
func (f *Frontend) respondError(w http.ResponseWriter, err error) (int, error) {
	typed := promapi.AsError(err)
	kind, code := typed.Type, typed.Type.StatusCode()
	var known *promapi.Error
	switch {
	case errors.As(err, &known):
	case errors.Is(err, context.Canceled):
		kind, code = promapi.ErrorCanceled, statusClosed
	case errors.Is(err, context.DeadlineExceeded):
		kind, code = promapi.ErrorTimeout, http.StatusGatewayTimeout
	case errors.Is(err, downstream.ErrTooLarge):
		kind, code = promapi.ErrorExecution, http.StatusRequestEntityTooLarge
	case errors.Is(err, fair.ErrTooMany):
		kind, code = promapi.ErrorExecution, http.StatusTooManyRequests
		w.Header().Set("Retry-After", "1")
	default:
		// The querier cannot be reached, or answers what nobody understands.
		kind, code = promapi.ErrorInternal, http.StatusBadGateway
	}
	b := promapi.AppendString([]byte(`{"status":"error","errorType":`), string(kind))
	b = promapi.AppendString(append(b, `,"error":`...), err.Error())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, werr := w.Write(append(b, '}'))
	return code, werr
}
