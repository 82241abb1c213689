package up

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
)

// reporter prints what happens, one line a step. On a terminal the line of a step that takes time is written over.
// Its methods may be called concurrently.
type reporter struct {
	mu     sync.Mutex // guards what follows
	out    io.Writer
	live   bool // lines may be written over
	open   bool // the cursor is at the end of a line that may be
	decile int  // of the progress printed last, where lines are not written over
}

func newReporter(out io.Writer, plain bool) *reporter {
	return &reporter{out: out, live: !plain && isTerminal(out)}
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// line prints a line that stays.
func (r *reporter) line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	fmt.Fprintf(r.out, format+"\n", args...)
}

func (r *reporter) clear() {
	if r.open {
		fmt.Fprint(r.out, "\r\033[K")
	}
	r.open = false
}

// step prints "  name  text" as a line that stays.
func (r *reporter) step(name, format string, args ...any) {
	r.line("  %-14s %s", name, fmt.Sprintf(format, args...))
}

// progress shows how far a step has come: a bar on a terminal, else a line for each tenth.
func (r *reporter) progress(name string, done, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	decile := 10 * done / total
	switch {
	case r.live:
		const width = 30
		full := width * done / total
		r.clear()
		fmt.Fprintf(r.out, "  %-14s %s%s %d of %d blocks", name, strings.Repeat("█", full), strings.Repeat("░", width-full), done, total)
		r.open = true
	case decile > r.decile:
		r.decile = decile
		fmt.Fprintf(r.out, "  %-14s %3d %%, %d of %d blocks\n", name, 10*decile, done, total)
	}
}

// waiting shows what is waited for, on a terminal only.
func (r *reporter) waiting(name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return
	}
	r.clear()
	fmt.Fprintf(r.out, "  %-14s %s …", name, text)
	r.open = true
}

// event prints the steps of a process' life that a reader waits for.
func (r *reporter) event(members []member) func(procs.Event) {
	byName := map[string]member{}
	for _, m := range members {
		byName[m.Name] = m
	}
	return func(e procs.Event) {
		switch e.Kind {
		case procs.Starting:
			r.waiting(e.Name, "starting")
		case procs.Ready:
			r.step(e.Name, "ready after %-6s http://%s", short(e.Took), byName[e.Name].http)
		case procs.Stopping:
			r.waiting(e.Name, "stopping")
		case procs.Stopped:
			r.step(e.Name, "stopped after %s", short(e.Took))
		case procs.Killed:
			r.step(e.Name, "killed after %s", short(e.Took))
		case procs.Died:
			r.step(e.Name, "died")
		}
	}
}

func short(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// summary prints where everything is and what to ask.
func (r *reporter) summary(l layout, members []member) {
	r.line("\nThe stack runs. Ctrl-C stops it; `promontory up` goes on with the same data.\n")
	for _, m := range members {
		r.line("  %-14s http://%-16s %s", m.Name, m.http, m.about)
	}
	r.line("\n  data           %s\n  logs           %s\n\nAsk the querier:\n", l.data, l.logs())
	for _, e := range examples(members) {
		r.line("  # %s\n  %s\n", e.about, e.curl(l.querierURL()))
	}
}
