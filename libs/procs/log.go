package procs

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// tailBytes bounds what is read of a log to find its last lines.
const tailBytes = 64 << 10

// Tail returns the last n lines that the current or last run wrote.
func (p *Process) Tail(n int) ([]string, error) {
	p.mu.Lock()
	offset := p.offset
	p.mu.Unlock()
	file, err := os.Open(p.logPath)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(file, max(offset, info.Size()-tailBytes), tailBytes))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return lines[max(0, len(lines)-n):], nil
}

// WaitLog returns the first line of the current run that contains part, as soon as it is written. It ends with ctx's
// error, which names what was waited for, or when the process ends without having written it.
func (p *Process) WaitLog(ctx context.Context, part string) (string, error) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		gone := p.PID() == 0 // before reading: what it wrote last is read too
		line, err := p.find(part)
		if err != nil || line != "" {
			return line, err
		}
		if gone {
			return "", fmt.Errorf("%s ended and its log never said %q%s", p.spec.Name, part, p.lastWords())
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %q in the log of %s: %w%s", part, p.spec.Name, ctx.Err(), p.lastWords())
		case <-poll.C:
		}
	}
}

// find returns the first whole line of the current run that contains part, or "".
func (p *Process) find(part string) (string, error) {
	p.mu.Lock()
	offset := p.offset
	p.mu.Unlock()
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text[min(offset, int64(len(text))):])) {
		if strings.Contains(line, part) && strings.HasSuffix(line, "\n") {
			return strings.TrimSuffix(line, "\n"), nil
		}
	}
	return "", nil
}

// lastWords is the end of the log, to be put behind an error message.
func (p *Process) lastWords() string {
	lines, err := p.Tail(tailLines)
	if err != nil {
		return fmt.Sprintf(" (its log cannot be read: %v)", err)
	}
	if len(lines) == 0 || len(lines) == 1 && lines[0] == "" {
		return "; it logged nothing"
	}
	return fmt.Sprintf("; the end of %s:\n  | %s", p.logPath, strings.Join(lines, "\n  | "))
}
