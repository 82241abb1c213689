package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/promontory-io/promontory/libs/promapi"
)

const (
	compactorTimeout = 30 * time.Second
	// maxCompactorAnswer bounds what is kept of an answer: a plan of a very large bucket is some megabytes.
	maxCompactorAnswer = 64 << 20
)

// compactor passes on what the compactor's API says, so that pages need to reach one address only.
func (a *API) compactor(what string) func(r *http.Request) (promapi.Data, error) {
	return func(r *http.Request) (promapi.Data, error) {
		if a.cfg.Compactor == nil {
			return nil, promapi.BadData("the address of the compactor is not known (--compactor.url)")
		}
		target := a.cfg.Compactor.JoinPath("api/v1/compactor", what)
		data, err := a.ask(r, target.String())
		if err != nil {
			// Redacted: the address may hold a password.
			return nil, promapi.NewError(promapi.ErrorInternal, fmt.Errorf("ask the compactor at %s: %w", a.cfg.Compactor.Redacted(), err))
		}
		return raw(data), nil
	}
}

func (a *API) ask(r *http.Request, target string) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, errors.Unwrap(err) // without the address, which the caller says
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCompactorAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxCompactorAnswer {
		return nil, fmt.Errorf("it answers with more than %d bytes", maxCompactorAnswer)
	}
	var envelope struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, fmt.Errorf("it answers %s with no JSON: %w", resp.Status, err)
	}
	if envelope.Status != "success" || len(envelope.Data) == 0 {
		return nil, fmt.Errorf("it answers %s: %s", resp.Status, envelope.Error)
	}
	return envelope.Data, nil
}
