package api

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/common/version"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

func (a *API) build(*http.Request) (promapi.Data, error) {
	return promapi.JSON{Value: promtypes.BuildInfo{
		Version: version.Version, Revision: version.GetRevision(), Branch: version.Branch,
		BuildUser: version.BuildUser, BuildDate: version.BuildDate, GoVersion: version.GoVersion,
	}}, nil
}

func (a *API) runtime(*http.Request) (promapi.Data, error) {
	dir, err := os.Getwd()
	if err != nil {
		// It may have been removed, which is no reason to hide the rest.
		dir = fmt.Sprintf("unknown: %v", err)
	}
	return promapi.JSON{Value: promtypes.RuntimeInfo{
		StartTime: a.start.UTC(), CWD: dir, GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"), GOMEMLIMIT: debug.SetMemoryLimit(-1), // a negative limit reads only
	}}, nil
}
