package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blockapi"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/webui"
	"github.com/promontory-io/promontory/services/compactor/internal/api"
	"github.com/promontory-io/promontory/services/compactor/internal/job"
	"github.com/promontory-io/promontory/services/compactor/internal/lease"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
	"github.com/promontory-io/promontory/services/compactor/internal/run"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// gcPercent is how much the heap may grow beyond what is in use before garbage is collected.
// Most of the heap is buffers of fixed size that make little garbage: room for as much again
// as is in use would double the memory and save next to no work.
const gcPercent = 40

// Run wires a compactor. With --wait it serves until ctx ends, else it does what there is to
// do and returns.
func Run(ctx context.Context, cfg Config, p *service.Process) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	text, err := cfg.Bucket.Bytes()
	if err != nil {
		return err
	}
	bkt, err := objstore.New(text, component, p.Logger, p.Registry, objstore.WithSource(cfg.Bucket.Source()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bkt.Close()) }()
	relabels, err := relabelRules(&cfg)
	if err != nil {
		return err
	}
	if err := clearScratch(cfg.DataDir); err != nil {
		return err
	}

	base, err := fetch.NewBase(p.Logger, bkt, fetch.Config{
		Strategy: fetch.Strategy(cfg.Blocks.Discovery), Concurrency: cfg.Blocks.MetaFetchConcurrency, CacheDir: cfg.DataDir,
	}, p.Registry)
	if err != nil {
		return err
	}
	defer func() { base.Close(context.WithoutCancel(ctx)) }()
	share := []fetch.Filter{
		fetch.TimePartition(func(now time.Time) int64 { return cfg.Blocks.MinTime.Millis(now) }, func(now time.Time) int64 { return cfg.Blocks.MaxTime.Millis(now) }),
		fetch.RelabelShard(relabels),
		fetch.ConsistencyDelay(cfg.Blocks.ConsistencyDelay, p.Registry),
	}
	fetcher := base.NewFetcher(p.Registry, run.Filters(share, cfg.Work.ReplicaLabels)...)
	showDelay(p.Registry, cfg.Retention.DeleteDelay)

	guard := func() error { return nil }
	var claim *lease.Lease
	if !cfg.Lease.Disable && !cfg.PlanOnly {
		claim = lease.New(p.Logger, bkt, lease.Config{Name: shareName(&cfg), Term: cfg.Lease.Term})
		guard = claim.Check
	}
	exec := job.New(p.Logger, bkt, job.Config{
		Dir: filepath.Join(cfg.DataDir, scratchDir), Dedup: cfg.Work.Dedup(), Hash: block.HashFunc(cfg.Work.HashFunc),
		ReadBytes: cfg.Work.ReadBuffer, Guard: guard,
	})
	rules, err := cfg.Retention.Rules()
	if err != nil {
		return err
	}
	runner, err := newRunner(&cfg, rules, p, run.Deps{Logger: p.Logger, Bucket: bkt, Fetcher: fetcher, Executor: exec, Registerer: p.Registry}, guard)
	if err != nil {
		return err
	}
	switch {
	case cfg.PlanOnly:
		return printPlan(ctx, runner, cfg.PlanFormat, os.Stdout)
	case !cfg.Wait:
		return serveOnce(ctx, p, runner, claim)
	}
	if !cfg.Viewer.Disable {
		addViewer(&cfg, rules, p, bkt, base, runner)
	}
	addLanes(p, runner, claim)
	return p.Serve(ctx)
}

// printPlan writes what would be done, and changes nothing.
func printPlan(ctx context.Context, r *run.Runner, format string, w io.Writer) error {
	o, err := r.Outlook(ctx)
	if err != nil {
		return err
	}
	if format == planText {
		return o.Print(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(api.NewPlan(o))
}

func newRunner(cfg *Config, rules retention.Rules, p *service.Process, d run.Deps, guard func() error) (*run.Runner, error) {
	for _, text := range cfg.Accepted.notes() {
		p.Logger.Info("flag without effect", zap.String("note", text))
	}
	return run.New(run.Config{
		Vertical:     cfg.Work.Vertical || len(cfg.Work.ReplicaLabels) > 0,
		Downsampling: !cfg.Work.DisableDownsampling, MaxIndexBytes: cfg.Work.MaxIndexBytes,
		Ranges:             plan.Ranges()[:cfg.Work.MaxLevel+1],
		CompactConcurrency: cfg.Work.CompactConcurrency, DownsampleConcurrency: cfg.Work.DownsampleConcurrency,
		DeleteDelay: cfg.Retention.DeleteDelay, Retention: rules,
		WaitInterval: cfg.WaitInterval, CleanupInterval: cfg.Retention.CleanupInterval, ProgressInterval: cfg.Work.ProgressInterval,
		Guard: guard,
	}, d), nil
}

func (a *AcceptedConfig) notes() []string {
	var out []string
	if a.MalformedIndex {
		out = append(out, "--debug.accept-malformed-index: what can be read of broken blocks is always saved")
	}
	if a.SkipOutOfOrder {
		out = append(out, "--compact.skip-block-with-out-of-order-chunks: such chunks are always put in order")
	}
	return out
}

// serveOnce does one round while metrics and probes are served, and ends with it.
func serveOnce(ctx context.Context, p *service.Process, r *run.Runner, claim *lease.Lease) error {
	p.Group.Add("compactor", func(ctx context.Context) error {
		begin := time.Now()
		err := underLease(ctx, claim, r, r.Once)
		logSummary(p.Logger, p.Registry, time.Since(begin))
		return err
	})
	return p.Serve(ctx)
}

// addLanes adds the lanes. A compactor that finds another one at work says so and waits
// for its turn; one that loses its lease stops working and asks for it again.
func addLanes(p *service.Process, r *run.Runner, claim *lease.Lease) {
	synced := make(chan struct{})
	p.Group.AddPart(lifecycle.Part{Name: "compactor", Ready: synced, Run: func(ctx context.Context) error {
		first := synced
		for ctx.Err() == nil {
			err := underLease(ctx, claim, r, func(ctx context.Context) error {
				signal := first
				if signal == nil {
					signal = make(chan struct{})
				}
				first = nil
				return r.Lanes(ctx, signal)
			})
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // the end that was asked for
			case errors.Is(err, lease.ErrHeld), errors.Is(err, lease.ErrLost):
				p.Logger.Error("another compactor works on these blocks, waiting for it to stop", zap.Error(err))
			case err != nil:
				p.Logger.Warn("lanes ended, beginning anew", zap.Error(err))
			}
			if first != nil {
				// Waiting is what this process is there for: it is ready to.
				close(first)
				first = nil
			}
			pause(ctx, retryPause)
		}
		return nil
	}})
}

const retryPause = 15 * time.Second

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// underLease runs work while the lease is held, and cancels it when the lease is lost.
func underLease(ctx context.Context, claim *lease.Lease, r *run.Runner, work func(context.Context) error) error {
	if claim == nil {
		return work(ctx)
	}
	if err := claim.Acquire(ctx); err != nil {
		return fmt.Errorf("take the lease: %w", err)
	}
	r.SetLeaseHeld(true)
	defer r.SetLeaseHeld(false)
	ctx, cancel := context.WithCancelCause(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		if err := claim.Keep(ctx); err != nil {
			cancel(err)
		}
	}()
	err := work(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	<-kept
	if errors.Is(cause, lease.ErrLost) {
		return cause
	}
	return err
}

// addViewer adds the API, and what keeps its view of the whole bucket.
func addViewer(cfg *Config, rules retention.Rules, p *service.Process, bkt objstore.Bucket, base *fetch.Base, r *run.Runner) {
	a := api.New(api.Config{
		Label: cfg.Viewer.Label, DisableAdmin: cfg.Viewer.DisableAdmin, Flags: p.Flags,
		Retention: rules, ReplicaLabels: cfg.Work.ReplicaLabels, DeleteDelay: cfg.Retention.DeleteDelay,
	}, p.Logger, bkt, r)
	facts := map[string]string{}
	if cfg.Viewer.DisableAdmin {
		facts["admin"] = "disabled"
	}
	mw := p.Middleware(nil)
	cfg.Web.Normalize(true)
	cfg.Web.Mount(p.HTTP, "/", webui.Over(webui.Config{
		Service: "compactor", Pages: []webui.Page{webui.Work, webui.Blocks, webui.Loaded, webui.Flags, webui.Status}, Facts: facts, Wrap: mw.Wrap,
	}, cfg.Web.Preflight(cfg.Web.CORS(a.Handler(mw.Wrap)), mw.Wrap)))

	all := base.NewFetcher(nil, blockapi.Gather())
	p.Group.Add("block viewer", func(ctx context.Context) error {
		for {
			metas, marks, err := globalView(ctx, all, cfg.Viewer.SyncTimeout)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end that was asked for
			}
			a.SetGlobal(metas, marks, time.Now(), err)
			pause(ctx, cfg.Viewer.SyncInterval)
		}
	})
}

func globalView(ctx context.Context, f *fetch.Fetcher, timeout time.Duration) ([]*block.Meta, map[ulid.ULID]blockapi.Marks, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := f.Fetch(ctx)
	if res == nil {
		return nil, nil, err
	}
	var out []*block.Meta
	for _, m := range res.Metas {
		out = append(out, m)
	}
	return out, blockapi.Joined(res.Marks), nil
}

func relabelRules(cfg *Config) ([]*relabel.Config, error) {
	if !cfg.Blocks.Relabel.IsSet() {
		return nil, nil
	}
	text, err := cfg.Blocks.Relabel.Bytes()
	if err != nil {
		return nil, err
	}
	rules, err := fetch.ParseRelabelShard(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Blocks.Relabel.Source(), err)
	}
	return rules, nil
}

// scratchDir is where unfinished blocks lie, below the data folder.
const scratchDir = "compact"

// clearScratch removes what a killed process has left.
func clearScratch(dataDir string) error {
	for _, dir := range []string{scratchDir, "downsample"} {
		if err := os.RemoveAll(filepath.Join(dataDir, dir)); err != nil {
			return fmt.Errorf("clear --data-dir: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dataDir, scratchDir), 0o755); err != nil {
		return fmt.Errorf("make --data-dir: %w", err)
	}
	return nil
}

// shareName names the part of the bucket that this compactor is for: those with the same
// selector work on the same blocks.
func shareName(cfg *Config) string {
	d := xxhash.New()
	text, err := cfg.Blocks.Relabel.Bytes()
	if err != nil {
		text = nil // the same text has been read before
	}
	for _, s := range []string{string(text), cfg.Blocks.MinTime.String(), cfg.Blocks.MaxTime.String()} {
		_, _ = d.WriteString(s + "\xff") // cannot fail
	}
	return strconv.FormatUint(d.Sum64(), 16)
}

func showDelay(reg prometheus.Registerer, d time.Duration) {
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "thanos_delete_delay_seconds", Help: "How long a block stays after it was marked for deletion.",
	}).Set(d.Seconds())
}
