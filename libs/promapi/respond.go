package promapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// maxNotes bounds how many PromQL annotations of one kind an answer carries; the rest is counted.
const maxNotes = 10

// Notes is what an answer says besides its data.
type Notes struct {
	// Warnings say what may be wrong or missing.
	Warnings []string
	// Infos are remarks of the query engine that need no action.
	Infos []string
	// Receipt says what the answer cost and what is missing from it; nil leaves the key out.
	Receipt *promtypes.Receipt
	// NoStore keeps caches from storing the answer. It must be set whenever something is missing from it.
	NoStore bool
}

// NotesFrom sorts what a query reported into warnings and infos. Positions in the texts are those in query.
// Anything that is no PromQL annotation, such as a store that could not be asked, sets NoStore and is never cut;
// of the PromQL annotations at most ten of each kind are kept. The order is stable.
func NotesFrom(annos annotations.Annotations, query string) Notes {
	var n Notes
	var promQL annotations.Annotations
	for _, err := range annos {
		if errors.Is(err, annotations.PromQLInfo) || errors.Is(err, annotations.PromQLWarning) {
			promQL.Add(err)
			continue
		}
		n.Warnings = append(n.Warnings, err.Error())
		n.NoStore = true
	}
	slices.Sort(n.Warnings)
	if len(promQL) == 0 {
		return n
	}
	warnings, infos := promQL.AsStrings(query, 0, 0)
	n.Warnings = append(n.Warnings, capNotes(warnings, "warning")...)
	n.Infos = capNotes(infos, "info")
	return n
}

func capNotes(notes []string, kind string) []string {
	slices.Sort(notes)
	if len(notes) <= maxNotes {
		return notes
	}
	more := len(notes) - maxNotes
	return append(notes[:maxNotes:maxNotes], fmt.Sprintf("%d more %s annotations omitted", more, kind))
}

// Partial returns the notes of an answer from which something is missing: warnings that forbid caching.
func Partial(warnings ...string) Notes {
	return Notes{Warnings: warnings, NoStore: len(warnings) > 0}
}

// Join returns the notes of n and others together.
func (n Notes) Join(others ...Notes) Notes {
	out := Notes{Warnings: slices.Clone(n.Warnings), Infos: slices.Clone(n.Infos), NoStore: n.NoStore, Receipt: n.Receipt}
	for _, o := range others {
		out.Warnings = append(out.Warnings, o.Warnings...)
		out.Infos = append(out.Infos, o.Infos...)
		out.NoStore = out.NoStore || o.NoStore
	}
	return out
}

// Flat returns n with the infos moved to the end of the warnings, for clients that know only "warnings", as Thanos' do.
func (n Notes) Flat() Notes {
	flat := n.Join()
	flat.Warnings = append(flat.Warnings, flat.Infos...)
	flat.Infos = nil
	return flat
}

// Respond writes a success envelope around data, or 204 without a body if data is nil.
//
// The answer is sent in pieces while it is encoded. If encoding fails before the first piece has gone, the
// client gets an internal error instead; later the answer ends where it is, which no JSON parser takes for whole.
// The error returned is for the log: it is either that one or the writer's.
func Respond(w http.ResponseWriter, data Data, notes Notes) error {
	if notes.NoStore {
		w.Header().Set("Cache-Control", "no-store")
	}
	if data == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	e := NewEncoder(w)
	e.Raw(`{"status":"success","data":`)
	data.EncodeJSON(e)
	encodeNotes(e, "warnings", notes.Warnings)
	encodeNotes(e, "infos", notes.Infos)
	if notes.Receipt != nil {
		e.Raw(`,"receipt":`)
		e.Value(notes.Receipt)
	}
	e.Raw(`}`)
	if err := e.Err(); err != nil && !e.flushed {
		e.release()
		return errors.Join(err, RespondError(w, NewError(ErrorInternal, err)))
	}
	return e.Close()
}

func encodeNotes(e *Encoder, key string, notes []string) {
	if len(notes) == 0 {
		return
	}
	e.Raw(`,"` + key + `":`)
	Strings(notes).EncodeJSON(e)
}

// RespondError writes an error envelope; the type of err is found by [AsError]. Errors are never cached.
// The error returned is the writer's.
func RespondError(w http.ResponseWriter, err error) error { return RespondFailure(w, err, nil) }

// RespondFailure is RespondError with the receipt of what was done in vain; nil leaves the key out.
func RespondFailure(w http.ResponseWriter, err error, receipt *promtypes.Receipt) error {
	typed := AsError(err)
	if typed == nil {
		typed = NewError(ErrorInternal, errors.New("unknown error"))
	}
	b := append([]byte(nil), `{"status":"error","errorType":`...)
	b = AppendString(b, string(typed.Type))
	b = append(b, `,"error":`...)
	b = AppendString(b, typed.Error())
	if receipt != nil {
		if text, err := json.Marshal(receipt); err == nil {
			b = append(append(b, `,"receipt":`...), text...)
		}
	}
	b = append(b, '}')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(typed.Type.StatusCode())
	_, werr := bytes.NewReader(b).WriteTo(w)
	return werr
}
