package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/service/flags"
)

type lsConfig struct {
	output        string
	excludeDelete bool
	times         timeRange
	relabel       flags.Content
	timeout       time.Duration
}

func (c *lsConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "List", func(fs *pflag.FlagSet) {
		flags.String(fs, &c.output, "output", "What to print of each block: nothing but its ULID if empty, json (meta.json on one line), wide, table, tsv, or a Go template over meta.json such as '{{.ULID}} {{.Thanos.Labels}}'.")
		fs.Lookup("output").Shorthand = "o"
		flags.Bool(fs, &c.excludeDelete, "exclude-delete", "Leave out blocks that are marked for deletion.")
		c.times.bindFlags(fs)
		bindRelabel(fs, &c.relabel)
		flags.Duration(fs, &c.timeout, "timeout", "How long reading the bucket may take.")
	})
}

func (c *lsConfig) Validate() error {
	_, err := blockPrinter(io.Discard, c.output)
	return errors.Join(err, c.times.validate(), positive("timeout", c.timeout))
}

func positive(name string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("--%s: %s is not positive", name, d)
	}
	return nil
}

func newLs() *cobra.Command {
	c := &lsConfig{times: allTime(), timeout: 5 * time.Minute}
	return command{
		name: "ls", short: "List the blocks of a bucket",
		long: "Lists the blocks of a bucket in the order of their ULIDs, which is that of their creation.\nBlocks without a usable meta.json cannot be listed; the summary on standard error counts and names them.",
		example: `  promontory bucket ls --objstore.config-file=bucket.yaml
  promontory bucket ls -o table --min-time=-2w --objstore.config-file=bucket.yaml
  promontory bucket ls -o '{{.ULID}} {{index .Thanos.Labels "cluster"}}' --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runLs(ctx, e, c) },
	}.cobra()
}

func runLs(ctx context.Context, e *env, c *lsConfig) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	relabel, err := relabelFilter(&c.relabel)
	if err != nil {
		return err
	}
	filters := []fetch.Filter{c.times.filter(), relabel}
	if c.excludeDelete {
		filters = append(filters, fetch.IgnoreDeletionMark(0))
	}
	result, err := e.fetch(ctx, 0, filters...)
	if result == nil {
		return err
	}
	printer, perr := blockPrinter(e.out, c.output)
	if perr != nil {
		return perr
	}
	metas := byID(result.Metas)
	for _, m := range metas {
		if perr := printer.block(m); perr != nil {
			return fmt.Errorf("print block %s: %w", m.ULID, perr)
		}
	}
	if perr := printer.end(); perr != nil {
		return perr
	}
	e.notes.line("%s listed, %d left out by filters", plural(len(metas), "block"), len(result.Excluded))
	e.notePartial(result)
	return err
}

// notePartial names the blocks that could not be looked at for want of a meta.json.
func (e *env) notePartial(result *fetch.Result) {
	if len(result.Partial) == 0 {
		return
	}
	e.notes.line("%s without a usable meta.json:", plural(len(result.Partial), "block"))
	for _, id := range sortedIDs(result.Partial) {
		e.notes.line("  %s: %v", id, result.Partial[id])
	}
}

// printer prints blocks one after the other.
type printer struct {
	block func(*block.Meta) error
	end   func() error
}

// blockPrinter returns the printer that --output asks for.
func blockPrinter(w io.Writer, output string) (printer, error) {
	line := func(text func(*block.Meta) string) printer {
		return printer{
			block: func(m *block.Meta) error { _, err := fmt.Fprintln(w, text(m)); return err },
			end:   func() error { return nil },
		}
	}
	switch output {
	case "":
		return line(func(m *block.Meta) string { return m.ULID.String() }), nil
	case "wide":
		return line(wideLine), nil
	case formatJSON:
		encoder := json.NewEncoder(w)
		return printer{block: func(m *block.Meta) error { return encoder.Encode(m) }, end: func() error { return nil }}, nil
	case formatTable, formatTSV:
		l := &list{header: []string{"ULID", "FROM", "UNTIL", "RANGE", "RESOLUTION", "LEVEL", "SERIES", "SAMPLES", "SOURCE", "LABELS"}}
		return printer{
			block: func(m *block.Meta) error { l.add(nil, lsRow(m)...); return nil },
			end:   func() error { return l.write(w, output) },
		}, nil
	}
	return templatePrinter(w, output)
}

func templatePrinter(w io.Writer, text string) (printer, error) {
	if !strings.Contains(text, "{{") {
		return printer{}, fmt.Errorf("--output: %q is none of json, wide, table and tsv, and no template", text)
	}
	t, err := template.New("output").Parse(text)
	if err != nil {
		return printer{}, fmt.Errorf("--output: %w", err)
	}
	return printer{
		block: func(m *block.Meta) error {
			if err := t.Execute(w, m); err != nil {
				return err
			}
			_, err := io.WriteString(w, "\n")
			return err
		},
		end: func() error { return nil },
	}, nil
}

func wideLine(m *block.Meta) string {
	const layout = "2006-01-02 15:04"
	from, until := time.UnixMilli(m.MinTime).UTC(), time.UnixMilli(m.MaxTime).UTC()
	return fmt.Sprintf("%s -- %s - %s Diff: %s, Compaction: %d, Downsample: %d, Source: %s",
		m.ULID, from.Format(layout), until.Format(layout), until.Sub(from), m.Compaction.Level, m.Thanos.Downsample.Resolution, m.Thanos.Source)
}

func lsRow(m *block.Meta) []string {
	return []string{
		m.ULID.String(), utc(m.MinTime), utc(m.MaxTime), millis(m.MaxTime - m.MinTime).String(), millis(m.Thanos.Downsample.Resolution).String(),
		strconv.Itoa(m.Compaction.Level), strconv.FormatUint(m.Stats.NumSeries, 10), strconv.FormatUint(m.Stats.NumSamples, 10),
		string(m.Thanos.Source), plainLabels(m),
	}
}
