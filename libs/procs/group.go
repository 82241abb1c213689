package procs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// EventKind is a step in the life of a process.
type EventKind string

// The steps, in the order in which a process goes through them. Died is an end that nobody asked for, Killed one that
// took SIGKILL because the process did not heed the polite signal in time.
const (
	Starting EventKind = "starting"
	Ready    EventKind = "ready"
	Stopping EventKind = "stopping"
	Stopped  EventKind = "stopped"
	Killed   EventKind = "killed"
	Died     EventKind = "died"
)

// Event is one step of one process. Took is the time since the step before: to ready since starting, to stopped
// since stopping.
type Event struct {
	Kind EventKind
	Name string
	Took time.Duration
}

// Config is what a group needs beside its processes.
type Config struct {
	// LogDir is where each process' output goes, to <name>.log; made when it is not there. The file of an earlier
	// group becomes <name>.log.old.
	LogDir string
	// OnEvent, where it is set, is told every step. Calls come one at a time, from several goroutines; it must not
	// call back into the group.
	OnEvent func(Event)
}

// Group runs processes. Its methods may be called concurrently, Start and Stop one at a time.
type Group struct {
	config Config

	mu        sync.Mutex // guards processes
	processes []*Process // in the order of their start

	events sync.Mutex // serialises OnEvent
	deaths chan *Process
}

// New returns a group without processes.
func New(config Config) *Group {
	return &Group{config: config, deaths: make(chan *Process, 1)}
}

// Start runs specs, each as soon as those it names in After are ready, and returns when all are ready. It returns the
// first failure otherwise: a mistake in the list, a binary that does not start, a process that ends or does not
// become ready in time (both with the last lines of its log), or the end of ctx. What was started until then goes on:
// call Stop in any case. A later Start may name processes of an earlier one in After.
func (g *Group) Start(ctx context.Context, specs ...Spec) error {
	ordered, err := order(specs, g.names())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(g.config.LogDir, 0o755); err != nil {
		return fmt.Errorf("make folder of logs: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := map[string]chan struct{}{}
	for _, spec := range ordered {
		ready[spec.Name] = make(chan struct{})
	}
	var wg sync.WaitGroup
	failures := make(chan error, len(ordered))
	for _, spec := range ordered {
		wg.Go(func() {
			for _, dep := range spec.After {
				if err := await(ctx, ready[dep]); err != nil {
					return // whoever failed has said why
				}
			}
			if err := g.startOne(ctx, spec); err != nil {
				failures <- err
				cancel()
				return
			}
			close(ready[spec.Name])
		})
	}
	wg.Wait()
	close(failures)
	// The first failure cancelled the others: theirs are echoes.
	if err := <-failures; err != nil {
		return err
	}
	return ctx.Err()
}

// await waits for a channel to close; nil is one that closed long ago.
func await(ctx context.Context, ready <-chan struct{}) error {
	if ready == nil {
		return nil
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Group) startOne(ctx context.Context, spec Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	logPath := filepath.Join(g.config.LogDir, spec.Name+".log")
	if err := os.Rename(logPath, logPath+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set aside the old log of %s: %w", spec.Name, err)
	}
	p := &Process{group: g, spec: spec, logPath: logPath}
	g.mu.Lock()
	g.processes = append(g.processes, p)
	g.mu.Unlock()
	return p.start(ctx)
}

// Process returns the process with this name, nil when there is none.
func (g *Group) Process(name string) *Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.processes {
		if p.spec.Name == name {
			return p
		}
	}
	return nil
}

func (g *Group) names() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := map[string]bool{}
	for _, p := range g.processes {
		names[p.spec.Name] = true
	}
	return names
}

// Wait blocks until ctx is done, which is nil, or until a process ends that nobody stopped: then the error names it
// and holds the last lines of its log. A death before the call counts too.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case p := <-g.deaths:
		return p.death()
	case <-ctx.Done():
		return nil
	}
}

// Stop ends all processes, the last started first, each after the one before is gone: SIGTERM, and SIGKILL to its
// whole process group when its stop timeout is over. The group is empty afterwards and may start again. The error
// names the processes that had to be killed.
func (g *Group) Stop() error {
	g.mu.Lock()
	processes := slices.Clone(g.processes)
	g.processes = nil
	g.mu.Unlock()
	var problems []error
	for _, p := range slices.Backward(processes) {
		problems = append(problems, p.Stop())
	}
	select {
	case <-g.deaths: // of a process that is no longer ours
	default:
	}
	return errors.Join(problems...)
}

func (g *Group) tell(kind EventKind, name string, took time.Duration) {
	if g.config.OnEvent == nil {
		return
	}
	g.events.Lock()
	defer g.events.Unlock()
	g.config.OnEvent(Event{Kind: kind, Name: name, Took: took})
}

// died remembers the first death for Wait; the ones after it are mostly its consequence.
func (g *Group) died(p *Process) {
	g.tell(Died, p.spec.Name, 0)
	select {
	case g.deaths <- p:
	default:
	}
}
