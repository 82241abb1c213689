package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
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
	old := filepath.Join(dir, m.ULID.String())
	if _, err := block.Download(ctx, r.bkt, m.ULID, old, block.DownloadOptions{Concurrency: 4}); err != nil {
		return nil, err
	}
	next := repairedMeta(m, ulid.MustNewDefault(r.now()))
	made := filepath.Join(dir, next.ULID.String())
	if err := filterBlock(ctx, old, made, m, &next.Stats); err != nil {
		return nil, err
	}
	if next.Stats.NumSeries == 0 {
		return nil, nil
	}
	if err := block.WriteMetaDir(made, next); err != nil {
		return nil, err
	}
	return block.Upload(ctx, r.logger, r.bkt, made, block.UploadOptions{Concurrency: 4, Now: r.now})
}

// repairedMeta is the replacement's meta.json, without stats: the same block but for its name and origin.
func repairedMeta(m *block.Meta, id ulid.ULID) *block.Meta {
	next := m.Clone()
	next.ULID = id
	next.Stats = tsdb.BlockStats{}
	next.Compaction.Parents = []tsdb.BlockDesc{{ULID: m.ULID, MinTime: m.MinTime, MaxTime: m.MaxTime}}
	next.Thanos.Source = block.SourceBucketRepair
	next.Thanos.Files, next.Thanos.SegmentFiles, next.Thanos.IndexStats = nil, nil, block.IndexStats{}
	next.Thanos.UploadTime = time.Time{}
	return next
}

// filterBlock writes the block in the folder old into the folder made, without repeated and outside chunks. Chunks are
// copied as they are, also those of downsampled data. The writer keeps strings that lie in the file the reader has mapped:
// deferred calls close it first.
func filterBlock(ctx context.Context, old, made string, m *block.Meta, stats *tsdb.BlockStats) (err error) {
	in, err := index.NewFileReader(filepath.Join(old, block.IndexFilename), index.DecodePostingsRaw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	data, err := chunks.NewDirReader(filepath.Join(old, block.ChunksDirname), downsample.NewPool())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	if err := os.MkdirAll(made, 0o755); err != nil {
		return err
	}
	outData, err := chunks.NewWriter(filepath.Join(made, block.ChunksDirname))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, outData.Close()) }()
	out, err := index.NewWriter(ctx, filepath.Join(made, block.IndexFilename))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for symbols := in.Symbols(); symbols.Next(); {
		if err := out.AddSymbol(symbols.At()); err != nil {
			return err
		}
	}
	return eachSeries(ctx, in, func(lset, _ labels.Labels, chks []chunks.Meta) error {
		kept, err := healthy(m, data, chks, stats)
		if err != nil || len(kept) == 0 {
			return err
		}
		if err := outData.WriteChunks(kept...); err != nil {
			return err
		}
		ref := storage.SeriesRef(stats.NumSeries)
		stats.NumSeries++
		return out.AddSeries(ref, lset, kept...)
	})
}

// healthy returns the chunks to keep, with their data, and counts them.
func healthy(m *block.Meta, data *chunks.Reader, chks []chunks.Meta, stats *tsdb.BlockStats) ([]chunks.Meta, error) {
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
		chunk, _, err := data.ChunkOrIterable(c)
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
		count(stats, chunk)
	}
	return kept, nil
}

func count(stats *tsdb.BlockStats, chunk chunkenc.Chunk) {
	n := uint64(chunk.NumSamples())
	stats.NumChunks++
	stats.NumSamples += n
	switch chunk.Encoding() {
	case chunkenc.EncXOR:
		stats.NumFloatSamples += n
	case chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		stats.NumHistogramSamples += n
	}
}
