// Package procs runs processes that belong together, such as a whole stack on one machine, or the real peers of a test.
//
// The central idea is that a stack is data: a list of [Spec], each with its binary, its arguments, the addresses it
// will listen on, the URL that tells when it is ready, and the names of those that must be ready before it. A [Group]
// starts such a list in that order, keeps each process' output in a file, says by name who died and with which last
// words, and stops all of it in reverse order. Nothing outlives the group: every process has a process group of its
// own that is killed with it, and on Linux the kernel kills it when we die ourselves.
//
// It is for Unix systems.
package procs

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Spec says how one process is run. It is plain data and never changed by this package.
type Spec struct {
	// Name is how messages and the log file call the process; unique in its group.
	Name string
	// Binary is the path of the executable, and Source says how it comes into being ("make build"), for the message
	// when it is not there.
	Binary, Source string
	Args           []string
	// Env is added to our own environment, as KEY=value.
	Env []string
	// Dir is the working directory; empty means ours.
	Dir string
	// Listen holds the addresses that the process will listen on; [Preflight] checks that they are free.
	Listen []Address
	// Ready is the URL that answers 200 once the process does its work. A process without it counts as ready as soon
	// as it runs.
	Ready string
	// After names the processes that must be ready before this one starts.
	After []string
	// StartTimeout bounds the time until ready, StopTimeout the time between the polite signal and SIGKILL.
	// Zero means a minute, and 20 seconds.
	StartTimeout, StopTimeout time.Duration
}

// Address is one listening address and what it is for: {"HTTP", "127.0.0.1:9090"}.
type Address struct{ Purpose, Addr string }

const (
	defaultStartTimeout = time.Minute
	defaultStopTimeout  = 20 * time.Second
)

func (s Spec) startTimeout() time.Duration {
	if s.StartTimeout > 0 {
		return s.StartTimeout
	}
	return defaultStartTimeout
}

func (s Spec) stopTimeout() time.Duration {
	if s.StopTimeout > 0 {
		return s.StopTimeout
	}
	return defaultStopTimeout
}

// order returns specs so that each comes after those it names, and otherwise as given. running holds the names of
// processes that are there already. Every mistake in the list is in the error.
func order(specs []Spec, running map[string]bool) ([]Spec, error) {
	var problems []error
	known := map[string]bool{}
	for _, s := range specs {
		switch {
		case s.Name == "":
			problems = append(problems, fmt.Errorf("a process without a name (binary %q)", s.Binary))
		case known[s.Name] || running[s.Name]:
			problems = append(problems, fmt.Errorf("more than one process is named %s", s.Name))
		}
		known[s.Name] = true
	}
	for _, s := range specs {
		for _, dep := range s.After {
			if !known[dep] && !running[dep] {
				problems = append(problems, fmt.Errorf("%s waits for %s, which is no process of this group", s.Name, dep))
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	done := map[string]bool{}
	ordered := make([]Spec, 0, len(specs))
	for len(ordered) < len(specs) {
		before := len(ordered)
		for _, s := range specs {
			waits := func(dep string) bool { return !done[dep] && !running[dep] }
			if !done[s.Name] && !slices.ContainsFunc(s.After, waits) {
				done[s.Name] = true
				ordered = append(ordered, s)
			}
		}
		if len(ordered) == before {
			return nil, fmt.Errorf("these processes wait for each other: %s", waitingNames(specs, done))
		}
	}
	return ordered, nil
}

func waitingNames(specs []Spec, done map[string]bool) []string {
	var names []string
	for _, s := range specs {
		if !done[s.Name] {
			names = append(names, s.Name)
		}
	}
	return names
}
