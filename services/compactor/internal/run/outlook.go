package run

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

// assumedRate is how many bytes of sources a job gets through in a second where nothing has been
// measured yet: somewhat less than a pair of replicas took on two slow cores.
const assumedRate = 30 << 20

// Outlook is what will be done, as far as can be told now.
type Outlook struct {
	// Rounds are what Plan returns.
	Rounds []plan.Plan
	// Rate is how many bytes of sources one job gets through in a second; Assumed says that it
	// is a guess, since no job has ended here yet. Concurrency is how many jobs run at once.
	Rate        float64
	Assumed     bool
	Concurrency int
	// Retention is what retention would mark now, and what it would if it were not held back.
	Retention []retention.Verdict
}

// Summary adds the rounds up.
func (o *Outlook) Summary() plan.Summary { return plan.Summarize(o.Rounds, o.Rate, o.Concurrency) }

// Outlook plays through what is to be done, until nothing is left. It changes nothing.
func (r *Runner) Outlook(ctx context.Context) (*Outlook, error) {
	rounds, err := r.Plan(ctx)
	if err != nil {
		return nil, err
	}
	s := r.Snapshot()
	o := &Outlook{
		Rounds: rounds, Rate: s.Rate, Concurrency: r.cfg.CompactConcurrency,
		Retention: retention.Expired(s.Blocks, r.cfg.Retention, r.cfg.Downsampling, plan.NewAwaited(rounds), r.cfg.Now()),
	}
	if o.Rate <= 0 {
		o.Rate, o.Assumed = assumedRate, true
	}
	return o, nil
}

// Print writes the outlook for people.
func (o *Outlook) Print(w io.Writer) error {
	if err := plan.Print(w, o.Rounds, o.Rate, o.Concurrency); err != nil {
		return err
	}
	if o.Assumed && o.Summary().Left > 0 {
		if _, err := fmt.Fprintln(w, "the speed is assumed: no job has ended here yet"); err != nil {
			return err
		}
	}
	var bytes int64
	for _, v := range o.Retention {
		bytes += v.Block.SizeBytes
	}
	if _, err := fmt.Fprintf(w, "retention: %d blocks, %s\n", len(o.Retention), plan.FormatBytes(bytes)); err != nil {
		return err
	}
	for _, v := range o.Retention {
		held := ""
		if v.Held != "" {
			held = ", held back: " + v.Held
		}
		if _, err := fmt.Fprintf(w, "  %s, %s, policy %s, over since %s%s\n", v.Block.Meta, plan.FormatBytes(v.Block.SizeBytes), v.Policy, v.Since.Round(time.Minute), held); err != nil {
			return err
		}
	}
	return nil
}
