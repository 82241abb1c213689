package api

import (
	"net/http"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

func (a *API) build(*http.Request) (promapi.Data, error) {
	return promapi.JSON{Value: promtypes.ThisBuild()}, nil
}

func (a *API) runtime(*http.Request) (promapi.Data, error) {
	return promapi.JSON{Value: promtypes.ThisProcess(a.start)}, nil
}
