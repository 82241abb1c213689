package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/procs"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/tools/promontory/internal/history"
)

// Run runs the stack until ctx ends, which is a good end, or until something fails. Progress and the summary go to out,
// the words of the processes to files below the data folder.
func Run(ctx context.Context, config Config, logger *zap.Logger, out io.Writer) error {
	l, err := newLayout(config)
	if err != nil {
		return err
	}
	members := stack(l)
	release, err := lock(l)
	if err != nil {
		return err
	}
	defer release()
	if err := procs.Preflight(specs(members)...); err != nil {
		return fmt.Errorf("the stack cannot start:\n%w", err)
	}
	report := newReporter(out, config.Plain)
	report.line("Starting the stack, data in %s\n", l.data)
	if err := writeFiles(l, members); err != nil {
		return err
	}
	made, err := makeHistory(ctx, l, logger, report)
	if err != nil {
		return l.interrupted(ctx, err)
	}
	return runStack(ctx, l, members, made, report)
}

func newLayout(config Config) (layout, error) {
	l := layout{Config: config}
	if err := config.Validate(); err != nil {
		return l, err
	}
	var err error
	for _, dir := range []*string{&l.BinDir, &l.PeersDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return l, err
		}
	}
	if config.DataDir == "" {
		config.DataDir = defaultDataDir(config.SetUp)
	}
	if l.data, err = filepath.Abs(config.DataDir); err != nil {
		return l, err
	}
	l.self, err = os.Executable()
	return l, err
}

// interrupted makes nothing of an error that came when ctx had ended: it is the echo of that, and being stopped is a
// good end, but for who wanted the answers checked.
func (l layout) interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if l.Once {
		return errors.New("stopped before the answers were checked")
	}
	return nil
}

// makeHistory brings history into the bucket where it is wanted and not there yet, and returns the time it covers.
func makeHistory(ctx context.Context, l layout, logger *zap.Logger, report *reporter) (past, error) {
	s, err := loadState(l, time.Now())
	if err != nil {
		return past{}, err
	}
	if s.History == nil && !l.NoHistory {
		s.History = &historyState{Length: l.History, Interval: l.HistoryInterval}
	}
	// Saved before anything is made: the end of history is before all live data, whatever happens from now on.
	if err := s.save(l); err != nil {
		return past{}, err
	}
	switch {
	case s.History == nil:
		report.step("history", "none")
		return past{}, nil
	case s.History.Complete:
		report.step("history", "%s from an earlier run, until %s", days(s.History.Length), s.FirstRun.Local().Format(time.DateTime))
		return s.past(), nil
	}
	bucket, err := filesystem.New(l.bucket())
	if err != nil {
		return past{}, err
	}
	begun := time.Now()
	made, err := history.Make(ctx, historyConfig(l, s), history.Deps{
		Bucket: bucket, Logger: logger, WorkDir: l.dir("tmp"),
		Progress: func(done, total int) { report.progress("history", done, total) },
	})
	if err != nil {
		return past{}, err
	}
	report.step("history", "%s of an HA pair, %d blocks made in %s", days(s.History.Length), made, short(time.Since(begun)))
	s.History.Complete = true
	return s.past(), s.save(l)
}

// historyConfig is the past of the two Prometheus servers: the second scrapes seven seconds after the first, and each
// misses ten minutes of every second block, never both at once.
func historyConfig(l layout, s state) history.Config {
	return history.Config{
		End: s.FirstRun, Length: s.History.Length, Interval: s.History.Interval,
		Replicas: []history.Replica{
			{Labels: l.historyLabels("a"), Outage: 30 * time.Minute},
			{Labels: l.historyLabels("b"), Offset: 7 * time.Second, Outage: 75 * time.Minute, OddBlocks: true},
		},
	}
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}

// runStack starts the processes, checks the answers, and waits for the end of ctx or of a process.
func runStack(ctx context.Context, l layout, members []member, history past, report *reporter) (err error) {
	group := procs.New(procs.Config{LogDir: l.logs(), OnEvent: report.event(members)})
	defer func() {
		report.line("")
		err = errors.Join(err, group.Stop())
	}()
	if err := group.Start(ctx, specs(members)...); err != nil {
		return l.interrupted(ctx, err)
	}
	if err := check(ctx, group, l, members, history, report); err != nil {
		return l.interrupted(ctx, err)
	}
	if l.Once {
		report.line("\nAll queries are answered as they should.")
		return nil
	}
	report.summary(l, members)
	return group.Wait(ctx)
}

// check waits until the examples are answered, or until a process dies over it. Without Once a wrong answer is only
// reported: whoever wants to find out why needs the stack running.
func check(ctx context.Context, group *procs.Group, l layout, members []member, history past, report *reporter) error {
	ctx, cancel := context.WithTimeout(ctx, l.answersTimeout)
	defer cancel()
	died := make(chan error, 1)
	watch, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go func() {
		err := group.Wait(watch)
		if err != nil {
			cancel()
		}
		died <- err
	}()
	report.waiting("answers", "waiting for the first scrapes")
	err := awaitAnswers(ctx, l.querierURL(), members, history, func(e example, points map[string]int) {
		total := 0
		for _, n := range points {
			total += n
		}
		report.step("answer", "%d series, %d points: %s", len(points), total, e.promQL)
	})
	unwatch()
	if death := <-died; death != nil {
		return death
	}
	if err == nil || l.Once || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	report.line("\nNot all is well: %v\n", err)
	return nil
}
