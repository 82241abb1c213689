package procs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// Preflight finds out what would keep specs from starting, without starting anything: binaries that are not there or
// not executable, and addresses that somebody else listens on or that two of them share. The error holds all of it,
// one line each, by name.
func Preflight(specs ...Spec) error {
	var problems []error
	missing := map[string]bool{}
	wanted := map[string]string{}
	for _, s := range specs {
		if err := checkBinary(s); err != nil && !missing[s.Binary] {
			missing[s.Binary] = true
			problems = append(problems, err)
		}
		for _, a := range s.Listen {
			who := s.Name + " " + a.Purpose
			if other, twice := wanted[a.Addr]; twice {
				problems = append(problems, fmt.Errorf("address %s is wanted by both %s and %s", a.Addr, other, who))
				continue
			}
			wanted[a.Addr] = who
			if err := checkAddress(a.Addr); err != nil {
				problems = append(problems, fmt.Errorf("address %s, wanted by %s, %w", a.Addr, who, err))
			}
		}
	}
	return errors.Join(problems...)
}

func checkBinary(s Spec) error {
	how := ""
	if s.Source != "" {
		how = fmt.Sprintf(" (%s)", s.Source)
	}
	if _, err := os.Stat(s.Binary); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("binary %s, wanted by %s, is not there%s", s.Binary, s.Name, how)
	}
	if _, err := exec.LookPath(s.Binary); err != nil {
		return fmt.Errorf("binary %s, wanted by %s, cannot be run: %w%s", s.Binary, s.Name, errors.Unwrap(err), how)
	}
	return nil
}

func checkAddress(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		if who := holder(addr); who != "" {
			return fmt.Errorf("is in use by %s", who)
		}
		return errors.New("is in use")
	}
	if err != nil {
		return fmt.Errorf("cannot be listened on: %w", err)
	}
	return listener.Close()
}

// Ports below the range from which systems take the ports of outgoing connections, so that nobody gets one of them by
// chance between our look and the process' start.
const (
	firstFreePort = 20000
	lastFreePort  = 32000
)

// FreeAddrs returns n addresses on the loopback interface that nobody listens on, for tests and for stacks beside each
// other. They are free when it returns, and all different.
func FreeAddrs(n int) ([]string, error) {
	listeners := make([]net.Listener, 0, n)
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // nothing was accepted or written
		}
	}()
	addrs := make([]string, 0, n)
	for tries := 0; len(addrs) < n; tries++ {
		addr := fmt.Sprintf("127.0.0.1:%d", firstFreePort+rand.IntN(lastFreePort-firstFreePort))
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			if tries > 100*n {
				return nil, fmt.Errorf("find %d free ports: %w", n, err)
			}
			continue
		}
		listeners = append(listeners, listener)
		addrs = append(addrs, addr)
	}
	return addrs, nil
}
