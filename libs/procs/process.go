package procs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pollInterval = 50 * time.Millisecond
	probeTimeout = 5 * time.Second
	// tailLines is how much of a log goes into an error.
	tailLines = 15
)

// Process is one process of a group, running or not. Its methods may be called concurrently, but for those that
// start and stop it: one of these at a time.
type Process struct {
	group   *Group
	spec    Spec
	logPath string

	mu     sync.Mutex // guards what follows
	run    *execution // the current or last run; nil before the first
	offset int64      // where in the log the current run begins
}

// execution is one run of the binary.
type execution struct {
	pid      int
	started  time.Time
	gone     chan struct{} // closed when the process has ended
	state    error         // what Wait said; to be read after gone
	expected bool          // we asked it to end; guarded by the process' mutex
}

// Name is the name of the process in its group.
func (p *Process) Name() string { return p.spec.Name }

// LogPath is the file that holds its standard output and standard error.
func (p *Process) LogPath() string { return p.logPath }

// PID is the number of the running process, 0 when it does not run.
func (p *Process) PID() int {
	if run := p.current(); run != nil && run.alive() {
		return run.pid
	}
	return 0
}

// Gone is closed once the current run has ended; nil when there never was one.
func (p *Process) Gone() <-chan struct{} {
	if run := p.current(); run != nil {
		return run.gone
	}
	return nil
}

func (p *Process) current() *execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

func (e *execution) alive() bool {
	select {
	case <-e.gone:
		return false
	default:
		return true
	}
}

// Start runs the process again after Stop or Kill, and returns when it is ready. Its log goes on in the same file.
func (p *Process) Start(ctx context.Context) error {
	if p.PID() != 0 {
		return fmt.Errorf("start %s: it runs", p.spec.Name)
	}
	return p.start(ctx)
}

func (p *Process) start(ctx context.Context) error {
	p.group.tell(Starting, p.spec.Name, 0)
	run, err := p.launch()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	if err := p.awaitReady(ctx, run); err != nil {
		return err
	}
	p.group.tell(Ready, p.spec.Name, time.Since(run.started))
	return nil
}

// launch starts the binary and a goroutine that waits for its end.
func (p *Process) launch() (*execution, error) {
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	offset, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	// Not CommandContext: the end is asked for politely, by Stop.
	cmd := exec.Command(p.spec.Binary, p.spec.Args...) //nolint:noctx // see above
	cmd.Dir = p.spec.Dir
	cmd.Env = append(os.Environ(), p.spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr()
	run := &execution{gone: make(chan struct{})}
	launched := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the starting thread ends, not the process: keep the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err != nil {
			launched <- errors.Join(err, log.Close())
			return
		}
		run.pid, run.started = cmd.Process.Pid, time.Now()
		p.mu.Lock()
		p.run, p.offset = run, offset
		p.mu.Unlock()
		launched <- nil
		run.state = errors.Join(cmd.Wait(), log.Close())
		// What it has started itself goes with it.
		_ = syscall.Kill(-run.pid, syscall.SIGKILL)
		p.mu.Lock()
		expected := run.expected
		p.mu.Unlock()
		close(run.gone)
		if !expected {
			p.group.died(p)
		}
	}()
	if err := <-launched; err != nil {
		return nil, err
	}
	return run, nil
}

// awaitReady polls the ready URL until it answers 200.
func (p *Process) awaitReady(ctx context.Context, run *execution) error {
	if p.spec.Ready == "" {
		return nil
	}
	timeout := time.NewTimer(p.spec.startTimeout())
	defer timeout.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		said := probe(ctx, p.spec.Ready)
		if said == "" {
			return nil
		}
		select {
		case <-run.gone:
			return p.death()
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("%s is not ready after %s: %s: %s%s", p.spec.Name, p.spec.startTimeout(), p.spec.Ready, said, p.lastWords())
		case <-poll.C:
		}
	}
}

// probe asks url and returns nothing when it says 200, else what it said.
func probe(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	// A connection kept open would delay the graceful end of the process.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return ""
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	if err != nil {
		return resp.Status
	}
	return strings.TrimSpace(resp.Status + " " + string(body))
}

// Signal sends sig to the process alone. The end it may bring about counts as a death.
func (p *Process) Signal(sig syscall.Signal) error {
	pid := p.PID()
	if pid == 0 {
		return fmt.Errorf("signal %s: it does not run", p.spec.Name)
	}
	return syscall.Kill(pid, sig)
}

// Kill ends the process and what it started by SIGKILL and returns when it is gone. It is nothing to a process that
// does not run, and does not count as a death.
func (p *Process) Kill() {
	run := p.expectEnd()
	if run == nil {
		return
	}
	_ = syscall.Kill(-run.pid, syscall.SIGKILL) // gone already is as good
	<-run.gone
}

// Stop ends the process politely and returns when it is gone. When its stop timeout is over it is killed, and the
// error says so. It is nothing to a process that does not run.
func (p *Process) Stop() error {
	run := p.expectEnd()
	if run == nil {
		return nil
	}
	p.group.tell(Stopping, p.spec.Name, 0)
	begun := time.Now()
	_ = syscall.Kill(run.pid, syscall.SIGTERM) // gone already is as good
	timeout := time.NewTimer(p.spec.stopTimeout())
	defer timeout.Stop()
	select {
	case <-run.gone:
		p.group.tell(Stopped, p.spec.Name, time.Since(begun))
		return nil
	case <-timeout.C:
	}
	_ = syscall.Kill(-run.pid, syscall.SIGKILL)
	<-run.gone
	p.group.tell(Killed, p.spec.Name, time.Since(begun))
	return fmt.Errorf("%s did not stop within %s and was killed%s", p.spec.Name, p.spec.stopTimeout(), p.lastWords())
}

// expectEnd marks the end of the running process as wanted; nil when none runs.
func (p *Process) expectEnd() *execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil || !p.run.alive() {
		return nil
	}
	p.run.expected = true
	return p.run
}

// death is the error for a process that has ended.
func (p *Process) death() error {
	how := "ended with exit status 0"
	if run := p.current(); run != nil && run.state != nil {
		how = "died: " + run.state.Error()
	}
	return fmt.Errorf("%s %s%s", p.spec.Name, how, p.lastWords())
}
