package bucket

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// plainEvery is how often progress makes a line where there is no terminal.
	plainEvery = 10 * time.Second
	// barEvery is how often the bar on a terminal moves.
	barEvery = 100 * time.Millisecond
	barWidth = 30
)

// notes is what a command says beside its result: progress and the summary. Safe for concurrent use.
type notes struct {
	w    io.Writer
	live bool

	mu  sync.Mutex // guards the below and keeps lines whole
	bar bool       // the line the cursor is on is a bar
}

func newNotes(w io.Writer) *notes { return &notes{w: w, live: isTerminal(w)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// line prints a line of its own.
func (n *notes) line(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.print(strings.TrimRight(fmt.Sprintf(format, args...), "\n") + "\n")
}

// print needs the lock. What cannot be written has nobody to tell.
func (n *notes) print(s string) {
	if n.bar {
		_, _ = io.WriteString(n.w, "\r\x1b[K")
		n.bar = false
	}
	_, _ = io.WriteString(n.w, s)
}

// progress counts steps of known number. Safe for concurrent use.
type progress struct {
	notes *notes
	what  string
	total int
	done  int
	shown time.Time
}

// progress begins to count.
func (n *notes) progress(what string, total int) *progress {
	return &progress{notes: n, what: what, total: total, shown: time.Now()}
}

// step counts one more.
func (p *progress) step() {
	p.notes.mu.Lock()
	defer p.notes.mu.Unlock()
	p.done++
	every := plainEvery
	if p.notes.live {
		every = barEvery
	}
	if p.done < p.total && time.Since(p.shown) < every {
		return
	}
	p.shown = time.Now()
	if !p.notes.live {
		p.notes.print(fmt.Sprintf("%s: %d of %d\n", p.what, p.done, p.total))
		return
	}
	full := barWidth * p.done / max(1, p.total)
	p.notes.print(fmt.Sprintf("%s [%s%s] %d of %d", p.what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), p.done, p.total))
	p.notes.bar = true
	if p.done >= p.total {
		p.notes.bar = false
		_, _ = io.WriteString(p.notes.w, "\n")
	}
}
