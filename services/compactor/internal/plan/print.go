package plan

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/promontory-io/promontory/libs/block"
)

// Summary is a plan in numbers, with what it leads to.
type Summary struct {
	Compactions, CompactionBlocks int
	Downsamplings                 int
	Bytes                         int64
	// Left is the estimated time, 0 where the rate or the sizes are not known.
	Left time.Duration
}

// Summarize adds up rounds of plans. rate is how many bytes of sources one job gets
// through in a second, concurrency how many jobs run at once.
func Summarize(rounds []Plan, rate float64, concurrency int) Summary {
	var s Summary
	for _, p := range rounds {
		for i := range p.Jobs {
			j := &p.Jobs[i]
			s.Bytes += j.Bytes()
			if j.KeepsResolution() {
				s.Compactions++
				s.CompactionBlocks += len(j.Sources)
			}
			for _, t := range j.Targets {
				if t != j.Resolution {
					s.Downsamplings++
				}
			}
		}
	}
	if rate > 0 && s.Bytes > 0 {
		s.Left = max(time.Second, time.Duration(float64(s.Bytes)/rate/float64(max(1, concurrency))*float64(time.Second)).Round(time.Second))
	}
	return s
}

// Print writes rounds of plans for people: what is done, in which order, how big it
// is, and how long it will take.
func Print(w io.Writer, rounds []Plan, rate float64, concurrency int) error {
	s := Summarize(rounds, rate, concurrency)
	p := &printer{w: w}
	p.line("%d compactions of %d blocks, %d downsampled blocks, %s to read", s.Compactions, s.CompactionBlocks, s.Downsamplings, FormatBytes(s.Bytes))
	if s.Left > 0 {
		p.line("estimated time left: %s (at %s/s and %d at once)", s.Left, FormatBytes(int64(rate)), max(1, concurrency))
	}
	n := 0
	for i, r := range rounds {
		if i > 0 {
			p.line("then:")
		}
		for _, m := range r.Marks {
			p.line("  mark %s no-compact (%s): %s", m.ID, m.Reason, m.Details)
		}
		for k := range r.Jobs {
			n++
			p.line("  %3d. %s", n, r.Jobs[k].String())
		}
	}
	// Problems stay through the rounds; those of the first are all there are.
	if len(rounds) > 0 {
		for _, pr := range rounds[0].Problems {
			p.line("  set aside (%s), group %s: %s", pr.Kind, pr.Group, pr.Reason)
		}
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// String describes the job in one line.
func (j *Job) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s at %s: %d blocks, %s to %s (%s)", j.Kind, formatLabels(j.Labels), FormatResolution(j.Resolution),
		len(j.Sources), formatTime(j.MinTime), formatTime(j.MaxTime), formatSpan(j.MaxTime-j.MinTime))
	if n := j.Bytes(); n > 0 {
		b.WriteString(", " + FormatBytes(n))
	}
	fmt.Fprintf(&b, ", %d samples", j.Samples())
	if j.Overlap {
		b.WriteString(", overlapping")
	}
	out := make([]string, len(j.Targets))
	for i, t := range j.Targets {
		out[i] = FormatResolution(t)
	}
	b.WriteString(" -> " + strings.Join(out, ", "))
	return b.String()
}

// FormatResolution returns raw, 5m, 1h, or another resolution as a duration.
func FormatResolution(r int64) string {
	switch r {
	case block.ResolutionRaw:
		return "raw"
	case block.Resolution5m:
		return "5m"
	case block.Resolution1h:
		return "1h"
	}
	return (time.Duration(r) * time.Millisecond).String()
}

func formatTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04Z") }

func formatSpan(ms int64) string {
	d := (time.Duration(ms) * time.Millisecond).Round(time.Minute)
	if d >= 48*time.Hour {
		return strconv.FormatFloat(d.Hours()/24, 'f', 1, 64) + "d"
	}
	return strconv.FormatFloat(d.Hours(), 'f', 1, 64) + "h"
}

// FormatBytes writes a size for people.
func FormatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, i := float64(n), -1
	for f >= unit && i < 4 {
		f /= unit
		i++
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + string("KMGTP"[i]) + "iB"
}

func formatLabels(lset map[string]string) string {
	m := block.Meta{Thanos: block.Thanos{Labels: lset}}
	return m.ExternalLabels().String()
}
