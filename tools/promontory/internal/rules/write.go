package rules

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/ownwrites"
)

const (
	// journalName is the file in the output folder that says how far a back-fill is.
	journalName    = "backfill.json"
	journalVersion = 1
	// stagingName is the folder in it in which blocks are made.
	stagingName = ".backfill"
)

// journal says which windows are done. A window that has other work in it than it had is not.
type journal struct {
	Version int `json:"version"`
	// Windows are by what is to be done in them.
	Windows map[string]done `json:"windows"`
}

type done struct {
	MinTime int64 `json:"minTime"`
	// Block is empty where there was nothing to write.
	Block string `json:"block,omitempty"`
}

// output is a folder of blocks that are made window by window. It belongs to one goroutine.
type output struct {
	dir     string
	journal journal
}

// openOutput makes the folder and brings to an end what an earlier run has left.
func openOutput(dir string) (*output, error) {
	o := &output{dir: dir, journal: journal{Version: journalVersion, Windows: map[string]done{}}}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	b, err := os.ReadFile(o.path(journalName))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("--output: %w", err)
	default:
		if err := json.Unmarshal(b, &o.journal); err != nil || o.journal.Version != journalVersion || o.journal.Windows == nil {
			return nil, fmt.Errorf("--output: %s is not the journal of a back-fill, version %d; remove it to begin anew: %w", o.path(journalName), journalVersion, errors.Join(err))
		}
	}
	for _, d := range o.journal.Windows {
		if err := o.publish(d.Block); err != nil {
			return nil, err
		}
	}
	if err := os.RemoveAll(o.path(stagingName)); err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	return o, nil
}

func (o *output) path(name string) string { return filepath.Join(o.dir, name) }

// publish moves a block out of staging. One that is not there has been moved before.
func (o *output) publish(id string) error {
	if id == "" {
		return nil
	}
	err := os.Rename(filepath.Join(o.path(stagingName), id), o.path(id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}

// key names what is to be done in a window.
func (w *window) key(external labels.Labels) string {
	type job struct {
		Rule  rule
		First int64
		N     int
		End   bool
	}
	what := struct {
		Labels     string
		Mint, Maxt int64
		Jobs       []job
	}{Labels: external.String(), Mint: w.mint, Maxt: w.maxt}
	for _, s := range w.slots {
		what.Jobs = append(what.Jobs, job{s.fill.rule, s.first, s.n, s.end})
	}
	// These types have no value that cannot be encoded.
	b, err := json.Marshal(what)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func (o *output) isDone(key string) bool {
	_, ok := o.journal.Windows[key]
	return ok
}

// write makes the block of a window out of what produce emits, and notes that the window is done. The
// block is there whole or, after a crash, not at all; it is never there twice. A window without samples has no block.
func (o *output) write(ctx context.Context, w *window, key string, produce func(app func() storage.Appender) error) (id string, samples uint64, err error) {
	staging := o.path(stagingName)
	if err := errors.Join(os.RemoveAll(staging), os.MkdirAll(staging, 0o777)); err != nil {
		return "", 0, fmt.Errorf("--output: %w", err)
	}
	// The writer takes samples that are up to half of its size older than the newest.
	writer, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), staging, 2*(w.maxt-w.mint))
	if err != nil {
		return "", 0, fmt.Errorf("write block: %w", err)
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	if err := produce(func() storage.Appender { return writer.Appender(ctx) }); err != nil {
		return "", 0, err
	}
	made, err := writer.Flush(ctx)
	if err != nil && !errors.Is(err, tsdb.ErrNoSeriesAppended) {
		return "", 0, fmt.Errorf("write block: %w", err)
	}
	if made != (ulid.ULID{}) {
		meta, err := block.ReadMetaDir(filepath.Join(staging, made.String()))
		if err != nil {
			return "", 0, fmt.Errorf("write block: %w", err)
		}
		id, samples = made.String(), meta.Stats.NumSamples
	}
	o.journal.Windows[key] = done{MinTime: w.mint, Block: id}
	b, err := json.MarshalIndent(o.journal, "", "  ")
	if err != nil {
		return "", 0, err
	}
	if err := block.WriteFileAtomic(o.path(journalName), b); err != nil {
		return "", 0, fmt.Errorf("--output: %w", err)
	}
	return id, samples, o.publish(id)
}

// blocks returns the blocks that the back-fill has made.
func (o *output) blocks() map[string]bool {
	out := map[string]bool{}
	for _, d := range o.journal.Windows {
		if d.Block != "" {
			out[d.Block] = true
		}
	}
	return out
}

// read adds the samples that the blocks made so far have of a name from mint on to writes, and stale markers too.
func (o *output) read(ctx context.Context, writes *ownwrites.Writes, names map[string]bool, mint, maxt int64) error {
	for id := range o.blocks() {
		if err := o.readBlock(ctx, id, writes, names, mint, maxt); err != nil {
			return fmt.Errorf("read block %s: %w", id, err)
		}
	}
	return nil
}

func (o *output) readBlock(ctx context.Context, id string, writes *ownwrites.Writes, names map[string]bool, mint, maxt int64) (err error) {
	meta, err := block.ReadMetaDir(o.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil // whoever has taken it away has shown it to queriers, or does not want it
	}
	if err != nil || meta.MaxTime <= mint || meta.MinTime > maxt {
		return err
	}
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), o.path(id), nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	q, err := tsdb.NewBlockQuerier(b, mint, maxt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	for name := range names {
		set := q.Select(ctx, true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
		for set.Next() {
			lset := set.At().Labels()
			it := set.At().Iterator(nil)
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				if typ == chunkenc.ValFloat {
					t, v := it.At()
					writes.Add(lset, t, v, nil)
					continue
				}
				t, h := it.AtFloatHistogram(nil)
				writes.Add(lset, t, 0, h)
			}
			if err := it.Err(); err != nil {
				return err
			}
		}
		if err := set.Err(); err != nil {
			return err
		}
	}
	return nil
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
