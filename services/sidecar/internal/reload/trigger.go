package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// Names of the ways to reload.
const (
	MethodHTTP   = "http"
	MethodSignal = "signal"
)

// ByHTTP asks Prometheus to reload, which it answers when it has.
type ByHTTP struct{ Client *promclient.Client }

// Method is MethodHTTP.
func (ByHTTP) Method() string { return MethodHTTP }

// Reload returns nil when Prometheus says 200.
func (t ByHTTP) Reload(ctx context.Context) error { return t.Client.Reload(ctx) }

const (
	// pollInterval is how often Prometheus is asked whether it has done what a signal asked for.
	pollInterval = 200 * time.Millisecond
	// verifyTimeout is when it is taken for not having heard it.
	verifyTimeout = 30 * time.Second
	// clockStep is the resolution in which it tells when it last loaded its configuration, and
	// some more for rounding.
	clockStep = 1500 * time.Millisecond
)

// BySignal sends SIGHUP to the first process of a name, and asks Prometheus whether it worked.
type BySignal struct {
	Client *promclient.Client
	// ProcessName is the name of the executable.
	ProcessName string
	// ProcRoot is where processes are looked up; empty means /proc.
	ProcRoot string
}

// Method is MethodSignal.
func (BySignal) Method() string { return MethodSignal }

// Reload returns nil when Prometheus says that it has loaded its configuration since.
func (t BySignal) Reload(ctx context.Context) error {
	before, err := t.Client.RuntimeInfo(ctx)
	if err != nil {
		return err
	}
	// A load in the same second as the one before could not be told from it.
	if err := wait(ctx, min(clockStep, time.Until(before.LastConfigTime.Add(clockStep)))); err != nil {
		return err
	}
	pid, err := findProcess(t.procRoot(), t.ProcessName, os.Getpid())
	if err != nil {
		return err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	if err := process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("send SIGHUP to process %d (%s): %w", pid, t.ProcessName, err)
	}
	return t.verify(ctx, pid, before)
}

func (t BySignal) procRoot() string {
	if t.ProcRoot != "" {
		return t.ProcRoot
	}
	return "/proc"
}

// verify waits until Prometheus says that it has loaded, or refused, what it was told to.
func (t BySignal) verify(ctx context.Context, pid int, before promclient.RuntimeInfo) error {
	ctx, cancel := context.WithTimeoutCause(ctx, verifyTimeout, errors.New("it does not say that it has loaded its configuration"))
	defer cancel()
	for {
		now, err := t.Client.RuntimeInfo(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case now.ReloadConfigSuccess && now.LastConfigTime.After(before.LastConfigTime):
			return nil
		case before.ReloadConfigSuccess && !now.ReloadConfigSuccess:
			return fmt.Errorf("SIGHUP to process %d (%s): Prometheus refused its configuration, its log says why", pid, t.ProcessName)
		}
		if err := wait(ctx, pollInterval); err != nil {
			return fmt.Errorf("SIGHUP to process %d (%s): %w", pid, t.ProcessName, context.Cause(ctx))
		}
	}
}

// wait waits for d, or for the end of ctx, whose error it returns.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commLength is how much of a name the kernel keeps.
const commLength = 15

// findProcess returns the process with the lowest number whose executable has the name; except
// is none of them.
func findProcess(procRoot, name string, except int) (int, error) {
	entries, err := os.ReadDir(procRoot)
	if err != nil {
		return 0, fmt.Errorf("look for process %q: %w", name, err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != except {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		if isNamed(filepath.Join(procRoot, strconv.Itoa(pid)), name) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process is named %q (--reloader.process-name); processes of other containers are seen only when they share the process namespace", name)
}

func isNamed(dir, name string) bool {
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return false // it ended meanwhile
	}
	got := strings.TrimSuffix(string(comm), "\n")
	if got == name {
		return true
	}
	if len(name) <= commLength || got != name[:commLength] {
		return false
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return false
	}
	argv0, _, _ := strings.Cut(string(line), "\x00")
	return filepath.Base(argv0) == name
}
