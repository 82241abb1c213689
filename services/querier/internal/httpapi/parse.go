package httpapi

import (
	"context"

	"github.com/promontory-io/promontory/libs/promapi"
)

// formatQuery answers with the expression as it is written by convention.
func (a *API) formatQuery(_ context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	expr, err := a.deps.Parse(r.Get("query"))
	if err != nil {
		return nil, promapi.Notes{}, promapi.BadData("'query' parameter: %w", err)
	}
	return promapi.JSON{Value: expr.Pretty(0)}, promapi.Notes{}, nil
}

// parseQuery answers with the tree of an expression.
func (a *API) parseQuery(_ context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	expr, err := a.deps.Parse(r.Get("query"))
	if err != nil {
		return nil, promapi.Notes{}, promapi.BadData("'query' parameter: %w", err)
	}
	return promapi.JSON{Value: syntaxTree(expr)}, promapi.Notes{}, nil
}
