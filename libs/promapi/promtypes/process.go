package promtypes

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/common/version"
)

// ThisBuild returns what this program was built from.
func ThisBuild() BuildInfo {
	return BuildInfo{
		Version: version.Version, Revision: version.GetRevision(), Branch: version.Branch,
		BuildUser: version.BuildUser, BuildDate: version.BuildDate, GoVersion: version.GoVersion,
	}
}

// ThisProcess returns how this process runs; started is when it began.
func ThisProcess(started time.Time) RuntimeInfo {
	dir, err := os.Getwd()
	if err != nil {
		// It may have been removed, which is worth to know and no reason to hide the rest.
		dir = fmt.Sprintf("<error retrieving current working directory: %v>", err)
	}
	return RuntimeInfo{
		StartTime: started.UTC(), CWD: dir, GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"), GOMEMLIMIT: debug.SetMemoryLimit(-1), // a negative limit reads only
	}
}
