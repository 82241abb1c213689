package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/tools/bench/internal/hapair"
)

// compactorConfig sizes the history and says how it is compacted.
type compactorConfig struct {
	*Config
	targets, days, runs int
	dedup               string
	args                []string
}

func newCompactorCommand(common *Config) *cobra.Command {
	cfg := &compactorConfig{Config: common}
	cmd := &cobra.Command{
		Use:   "compactor",
		Short: "History of an HA pair deduplicated, compacted and downsampled, beside reading and writing the bytes once",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.IntVar(&cfg.targets, "targets", 45, fmt.Sprintf("targets of %d series each", hapair.SeriesPerTarget))
	fs.IntVar(&cfg.days, "days", 14, "days of history")
	fs.IntVar(&cfg.runs, "runs", 1, "measured runs")
	fs.StringVar(&cfg.dedup, "dedup", "penalty", "deduplication function")
	fs.StringArrayVar(&cfg.args, "arg", nil, "argument for the compactor")
	return cmd
}

func (c *compactorConfig) run(ctx context.Context, out io.Writer) error {
	root, err := filepath.Abs(filepath.Join(c.Dir, fmt.Sprintf("hapair-%d-%d", c.targets, c.days)))
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	source := filepath.Join(root, "bucket")
	if _, err := os.Stat(source); err != nil {
		fmt.Fprintf(out, "making %d days of %d series of two replicas in %s\n", c.days, c.targets*hapair.SeriesPerTarget, source)
		if err := hapair.Generate(source, hapair.Spec{Targets: c.targets, Days: c.days}); err != nil {
			return err
		}
	}
	before, err := sizes(source)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "compactor, before:       %s\n", before)
	work := filepath.Join(root, "work")
	defer os.RemoveAll(work) //nolint:errcheck // scratch
	for range c.runs {
		// Links: no object is changed in place.
		if err := linkTree(source, work); err != nil {
			return err
		}
		u, report, err := c.once(ctx, root, work)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "compactor, %-8s      %s\n", c.dedup+":", u)
		fmt.Fprintf(out, "compactor, cost:         %.0f MB written locally, %.0f bucket requests (%s)\n", report.ScratchBytes/1e6, report.Requests, report.operations())
		left, err := sizes(work)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "compactor, left:         %s\n", left)
		u, err = copyFloor(source, work, root)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "bytes read, written once: %s\n", u)
	}
	return nil
}

// report is the last line of a one-shot compactor's log.
type report struct {
	Message      string  `json:"msg"`
	ScratchBytes float64 `json:"scratch_bytes"`
	Requests     float64 `json:"bucket_requests"`

	by map[string]float64
}

func (r report) operations() string {
	var out []string
	for name, n := range r.by {
		out = append(out, fmt.Sprintf("%s %.0f", name, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// once runs the compactor on the bucket until nothing is left to do.
func (c *compactorConfig) once(ctx context.Context, root, bucket string) (u usage, r report, err error) {
	data, err := os.MkdirTemp(root, "data-")
	if err != nil {
		return u, r, fmt.Errorf("data folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin, "compactor"), append([]string{
		"--objstore.config={type: FILESYSTEM, config: {directory: " + bucket + "}}", "--data-dir=" + data, "--log.format=json",
		"--deduplication.func=" + c.dedup, "--deduplication.replica-label=replica", "--consistency-delay=0s", "--http-address=127.0.0.1:0",
	}, c.args...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	begin := time.Now()
	err = cmd.Run()
	u.wall = time.Since(begin)
	if err != nil {
		return u, r, fmt.Errorf("compactor: %w\n%s", err, tail(log.Bytes(), 20))
	}
	st := cmd.ProcessState
	u.cpu = st.UserTime() + st.SystemTime()
	if ru, ok := st.SysUsage().(*syscall.Rusage); ok {
		u.peak = ru.Maxrss << 10
	}
	for lines := bufio.NewScanner(&log); lines.Scan(); {
		var line report
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Message != "run done" {
			continue
		}
		r, r.by = line, map[string]float64{}
		var all map[string]any
		if err := json.Unmarshal(lines.Bytes(), &all); err != nil {
			return u, r, fmt.Errorf("read the compactor's log: %w", err)
		}
		for name, v := range all {
			if op, ok := strings.CutPrefix(name, "bucket_"); ok && op != "requests" {
				r.by[op], _ = v.(float64)
			}
		}
	}
	if r.by == nil {
		return u, r, errors.New("the compactor's log does not say that it is done")
	}
	return u, r, nil
}

func tail(b []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

// bucketSizes are bytes of index and chunks of the blocks that are not marked for deletion.
type bucketSizes struct {
	blocks        int
	index, chunks map[int64]int64 // by resolution
}

func (s bucketSizes) String() string {
	var sum int64
	var parts []string
	for _, r := range []struct {
		res  int64
		name string
	}{{block.ResolutionRaw, "raw"}, {block.Resolution5m, "5m"}, {block.Resolution1h, "1h"}} {
		n := s.index[r.res] + s.chunks[r.res]
		if n == 0 {
			continue
		}
		sum += n
		parts = append(parts, fmt.Sprintf("%s %.0f (index %.0f)", r.name, float64(n)/1e6, float64(s.index[r.res])/1e6))
	}
	return fmt.Sprintf("%.0f MB in %d blocks: %s", float64(sum)/1e6, s.blocks, strings.Join(parts, ", "))
}

func sizes(bucket string) (bucketSizes, error) {
	s := bucketSizes{index: map[int64]int64{}, chunks: map[int64]int64{}}
	metas, err := filepath.Glob(filepath.Join(bucket, "*", block.MetaFilename))
	if err != nil {
		return s, fmt.Errorf("look into %s: %w", bucket, err)
	}
	for _, path := range metas {
		dir := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(dir, block.DeletionMarkFilename)); err == nil {
			continue
		}
		m, err := block.ReadMetaDir(dir)
		if err != nil {
			return s, err
		}
		s.blocks++
		for _, f := range m.Thanos.Files {
			if f.RelPath == block.IndexFilename {
				s.index[m.Thanos.Downsample.Resolution] += f.SizeBytes
			} else {
				s.chunks[m.Thanos.Downsample.Resolution] += f.SizeBytes
			}
		}
	}
	return s, nil
}

// linkTree makes to a copy of from, of hard links.
func linkTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// copyFloor is the least there is to do: it reads all blocks of source, and writes what is
// left in result into a file below scratch.
func copyFloor(source, result, scratch string) (u usage, err error) {
	f, err := os.CreateTemp(scratch, "floor-")
	if err != nil {
		return u, fmt.Errorf("floor: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	before, begin := ownCPU(), time.Now()
	left, err := sizes(result)
	if err != nil {
		return u, err
	}
	var room int64
	for _, m := range []map[int64]int64{left.index, left.chunks} {
		for _, n := range m {
			room += n
		}
	}
	err = filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		n, err := io.Copy(struct{ io.Writer }{f}, io.LimitReader(in, room))
		room -= n
		if err == nil {
			_, err = io.Copy(io.Discard, struct{ io.Reader }{in})
		}
		return errors.Join(err, in.Close())
	})
	if err = errors.Join(err, f.Sync()); err != nil {
		return u, fmt.Errorf("floor: %w", err)
	}
	u.cpu, u.wall = ownCPU()-before, time.Since(begin)
	return u, nil
}

// ownCPU is what this process has used so far.
func ownCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
