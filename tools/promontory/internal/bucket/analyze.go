package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/cardinality"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// What analyze counts.
const (
	kindMetric = "metric"
	kindLabel  = "label"
	kindPair   = "pair"
)

// keepPerBlock is of how many entries of each kind a block's figures are kept, times the limit and at least.
const (
	keepFactor = 50
	keepLeast  = 5000
)

type analyzeConfig struct {
	limit       int
	concurrency int
	resolution  string
	times       timeRange
	relabel     flags.Content
	output      string
}

func (c *analyzeConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Analyze", func(fs *pflag.FlagSet) {
		flags.Int(fs, &c.limit, "limit", "How many metrics, labels and label pairs to print.")
		flags.Int(fs, &c.concurrency, "concurrency", "How many blocks are read at once.")
		flags.Enum(fs, &c.resolution, "resolution", "Blocks of which resolution to read. A series is in the blocks of each, so that one is enough.", "raw", "5m", "1h", "all")
		c.times.bindFlags(fs)
		bindRelabel(fs, &c.relabel)
		flags.Enum(fs, &c.output, "output", "How to print.", formatTable, formatJSON, formatTSV)
	})
}

func (c *analyzeConfig) Validate() error {
	errs := []error{c.times.validate()}
	if c.limit < 1 {
		errs = append(errs, fmt.Errorf("--limit: %d is not positive", c.limit))
	}
	if c.concurrency < 1 {
		errs = append(errs, fmt.Errorf("--concurrency: %d is not positive", c.concurrency))
	}
	return errors.Join(errs...)
}

func newAnalyze() *cobra.Command {
	c := &analyzeConfig{limit: 10, concurrency: 4, resolution: "raw", times: allTime(), output: formatTable}
	return command{
		name: "analyze", short: "Show which metrics and labels make the series of the whole history",
		long: `Reads one table of the index of each block, no chunk and no series, and prints the metrics, labels and label pairs with
the most series. PEAK is the most that one block has, TOTAL the sum over blocks: what stays has a TOTAL of PEAK × BLOCKS,
what changes its labels with every roll-out a large TOTAL. VALUES is the most values of a label that one block has.

Of a block the largest few thousand of each kind are counted, so that memory is bounded: what is not among them anywhere is not
among what is printed.`,
		example: `  promontory bucket analyze --objstore.config-file=bucket.yaml
  promontory bucket analyze --limit=50 --min-time=-30d --output=tsv --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runAnalyze(ctx, e, c) },
	}.cobra()
}

// usage is one line of what analyze prints.
type usage struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Peak   uint64 `json:"peak_series"`
	Total  uint64 `json:"total_series"`
	Blocks int    `json:"blocks"`
	// Values is of labels alone.
	Values uint64 `json:"peak_values,omitempty"`
}

// history adds up blocks.
type history struct {
	mu     sync.Mutex // guards the below
	byKey  map[string]map[string]*usage
	blocks int
	read   int64
}

func (h *history) add(r *cardinality.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blocks++
	h.read += r.ReadBytes
	for _, f := range r.Metrics {
		h.count(kindMetric, f.Name, f.Value, 0)
	}
	for _, f := range r.Pairs {
		h.count(kindPair, f.Name, f.Value, 0)
	}
	for _, l := range r.Labels {
		h.count(kindLabel, l.Name, l.Series, l.Values)
	}
}

// count needs the lock.
func (h *history) count(kind, name string, series, values uint64) {
	if h.byKey[kind] == nil {
		h.byKey[kind] = map[string]*usage{}
	}
	u := h.byKey[kind][name]
	if u == nil {
		u = &usage{Kind: kind, Name: name}
		h.byKey[kind][name] = u
	}
	u.Peak, u.Values = max(u.Peak, series), max(u.Values, values)
	u.Total += series
	u.Blocks++
}

// top returns the largest of a kind: labels by values, others by series in all blocks.
func (h *history) top(kind string, limit int) []*usage {
	all := slices.SortedFunc(maps.Values(h.byKey[kind]), func(a, b *usage) int {
		return cmp.Or(cmp.Compare(b.Values, a.Values), cmp.Compare(b.Total, a.Total), cmp.Compare(b.Peak, a.Peak), strings.Compare(a.Name, b.Name))
	})
	return all[:min(limit, len(all))]
}

func runAnalyze(ctx context.Context, e *env, c *analyzeConfig) error {
	relabel, err := relabelFilter(&c.relabel)
	if err != nil {
		return err
	}
	result, fetchErr := e.fetch(ctx, 0, []fetch.Filter{c.times.filter(), relabel}...)
	if result == nil {
		return fetchErr
	}
	wanted := map[string]int64{"raw": block.ResolutionRaw, "5m": block.Resolution5m, "1h": block.Resolution1h}
	metas := slices.DeleteFunc(byTime(result.Metas), func(m *block.Meta) bool {
		resolution, one := wanted[c.resolution]
		return one && m.Thanos.Downsample.Resolution != resolution
	})
	h := &history{byKey: map[string]map[string]*usage{}}
	p := e.notes.progress("read", len(metas))
	err = each(ctx, c.concurrency, metas, func(ctx context.Context, m *block.Meta) error {
		defer p.step()
		r, err := cardinality.Read(ctx, e.bkt, m.ULID, max(keepLeast, keepFactor*c.limit))
		if err != nil {
			return fmt.Errorf("block %s: %w", m.ULID, err)
		}
		h.add(r)
		return nil
	})
	l := &list{header: []string{"KIND", "NAME", "PEAK", "TOTAL", "BLOCKS", "VALUES"}}
	for _, kind := range []string{kindMetric, kindLabel, kindPair} {
		for _, u := range h.top(kind, c.limit) {
			values := ""
			if u.Values > 0 {
				values = strconv.FormatUint(u.Values, 10)
			}
			l.add(u, kind, u.Name, strconv.FormatUint(u.Peak, 10), strconv.FormatUint(u.Total, 10), strconv.Itoa(u.Blocks), values)
		}
	}
	err = errors.Join(fetchErr, err, l.write(e.out, c.output))
	e.notes.line("%d of %s read, %d bytes of their indexes", h.blocks, plural(len(metas), "block"), h.read)
	return err
}
