package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/objstore"
)

// repairer replaces and removes blocks. What goes is in the backup bucket before, and what stays in its place has been
// read back and found healthy.
type repairer struct {
	*env

	backup objstore.Bucket
	// delay of 0 deletes at once, else blocks are marked.
	delay  time.Duration
	dryRun bool
}

// mustDiffer refuses two configurations of one bucket, of which the texts may well differ: what is written into one
// must not appear in the other.
func mustDiffer(ctx context.Context, bkt, backup objstore.Bucket, token ulid.ULID) (err error) {
	name := "promontory-verify-" + token.String()
	if err := backup.Upload(ctx, name, strings.NewReader("written to see whether two buckets are one\n")); err != nil {
		return fmt.Errorf("write into the backup bucket: %w", err)
	}
	defer func() { err = errors.Join(err, backup.Delete(context.WithoutCancel(ctx), name)) }()
	same, err := bkt.Exists(ctx, name)
	if err == nil && same {
		return errors.New("is the bucket to be repaired itself")
	}
	return err
}

// remove takes away a block of which there is a healthy copy.
func (r repairer) remove(ctx context.Context, d duplicate) (string, error) {
	if err := r.mustBeHealthy(ctx, d.of); err != nil {
		return "", fmt.Errorf("remove block %s: the one to keep: %w", d.block.ULID, err)
	}
	if r.dryRun {
		return fmt.Sprintf("would be removed, %s stays", d.of.ULID), nil
	}
	if err := r.retire(ctx, d.block.ULID, "duplicate of "+d.of.ULID.String()); err != nil {
		return "", err
	}
	return fmt.Sprintf("repaired: removed, %s stays", d.of.ULID), nil
}

func (r repairer) mustBeHealthy(ctx context.Context, m *block.Meta) error {
	objects, err := objectsOf(ctx, r.bkt, m.ULID)
	if err != nil {
		return err
	}
	if fs := findFiles(m, objects); len(fs) > 0 {
		return fmt.Errorf("block %s: %s", m.ULID, fs[0].Problem)
	}
	h, err := r.fetchIndexHealth(ctx, m, objects)
	if err != nil {
		return err
	}
	if problem := h.problem(); problem != "" {
		return fmt.Errorf("block %s: %s", m.ULID, problem)
	}
	return nil
}

// retire copies a block into the backup bucket and deletes or marks it.
func (r repairer) retire(ctx context.Context, id ulid.ULID, details string) error {
	if _, err := copyBlock(ctx, r.bkt, r.backup, id, false); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if r.delay > 0 {
		_, err := block.MarkForDeletion(ctx, r.logger, r.bkt, id, details, r.now())
		return err
	}
	return block.Delete(ctx, r.logger, r.bkt, id)
}

// rewrite makes a healthy block of one with repeated or outside chunks, and retires that.
func (r repairer) rewrite(ctx context.Context, m *block.Meta) (what string, err error) {
	if r.dryRun {
		return "would be written anew without repeated and outside chunks", nil
	}
	replacement, err := r.earlier(ctx, m)
	if err != nil {
		return "", err
	}
	if replacement == nil {
		if replacement, err = r.write(ctx, m); err != nil {
			return "", fmt.Errorf("repair block %s: %w", m.ULID, err)
		}
	}
	details := "nothing of it lies within its time"
	if replacement != nil {
		if err := r.mustBeHealthy(ctx, replacement); err != nil {
			return "", fmt.Errorf("repair block %s: the replacement: %w", m.ULID, err)
		}
		details = "repaired as " + replacement.ULID.String()
	}
	if err := r.retire(ctx, m.ULID, details); err != nil {
		return "", fmt.Errorf("retire block %s: %w", m.ULID, err)
	}
	return "repaired: " + strings.TrimPrefix(details, "repaired "), nil
}

// earlier returns the replacement that a run that was cut off has left, nil if there is none.
func (r repairer) earlier(ctx context.Context, m *block.Meta) (*block.Meta, error) {
	result, err := r.fetch(ctx, 0)
	if err != nil {
		return nil, err
	}
	for _, o := range byID(result.Metas) {
		if o.Thanos.Source == block.SourceBucketRepair && o.GroupKey() == m.GroupKey() &&
			len(o.Compaction.Parents) == 1 && o.Compaction.Parents[0].ULID == m.ULID {
			return o, nil
		}
	}
	return nil, nil
}

// write downloads, filters and uploads. Nil without an error says that nothing was left.
func (r repairer) write(ctx context.Context, m *block.Meta) (_ *block.Meta, err error) {
	dir, err := os.MkdirTemp("", "promontory-repair-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	next := repairedMeta(m, ulid.MustNewDefault(r.now()))
	return remaker{r.env, dir, m, block.UploadOptions{Concurrency: 4}}.one(ctx, next, func(old *localBlock, made string) error {
		return filterBlock(ctx, old, made, m, &next.Stats)
	})
}

// repairedMeta is the replacement's meta.json, without stats: the same block but for its name and origin.
func repairedMeta(m *block.Meta, id ulid.ULID) *block.Meta {
	next := successor(m, id, block.SourceBucketRepair)
	next.Compaction.Parents = []tsdb.BlockDesc{{ULID: m.ULID, MinTime: m.MinTime, MaxTime: m.MaxTime}}
	return next
}

// filterBlock writes a block into the folder made, without repeated and outside chunks. Chunks are copied as they are,
// also those of downsampled data.
func filterBlock(ctx context.Context, old *localBlock, made string, m *block.Meta, stats *tsdb.BlockStats) (err error) {
	w, err := newBlockWriter(ctx, made, old.index.Symbols(), stats)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return eachSeries(ctx, old.index, func(s indexed) error {
		kept, err := healthy(m, old, s.chunks)
		if err != nil {
			return err
		}
		return w.add(s.lset, kept)
	})
}

// healthy returns the chunks to keep, with their data.
func healthy(m *block.Meta, old *localBlock, chks []chunks.Meta) ([]chunks.Meta, error) {
	var h health
	var kept []chunks.Meta
	var last *chunks.Meta
	for i, c := range chks {
		v := h.judge(m, last, c)
		if v == outside {
			continue
		}
		if v == other {
			return nil, fmt.Errorf("%w: chunk from %s to %s", block.ErrCorrupt, utc(c.MinTime), utc(c.MaxTime))
		}
		chunk, err := old.chunk(c)
		if err != nil {
			return nil, err
		}
		if v == repeated {
			// The index says that the time is the same; only the data says whether the samples are.
			if !bytes.Equal(chunk.Bytes(), kept[len(kept)-1].Chunk.Bytes()) {
				return nil, fmt.Errorf("%w: two chunks from %s to %s hold different samples, and one would be lost", block.ErrCorrupt, utc(c.MinTime), utc(c.MaxTime))
			}
			continue
		}
		c.Chunk = chunk
		kept = append(kept, c)
		last = &chks[i]
	}
	return kept, nil
}
