package bucket

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// column is one of `inspect`: how it is printed and how it sorts.
type column struct {
	name    string
	cell    func(row inspected) string
	compare func(a, b inspected) int
}

// inspected is what inspect says of a block, and its JSON.
type inspected struct {
	ULID       string            `json:"ulid"`
	From       time.Time         `json:"from"`
	Until      time.Time         `json:"until"`
	Range      time.Duration     `json:"-"`
	UntilDown  time.Duration     `json:"-"`
	RangeText  string            `json:"range"`
	DownText   string            `json:"until_down"`
	Series     uint64            `json:"series"`
	Samples    uint64            `json:"samples"`
	Chunks     uint64            `json:"chunks"`
	Level      int               `json:"comp_level"`
	Failed     bool              `json:"comp_failed"`
	Labels     map[string]string `json:"labels"`
	LabelText  string            `json:"-"`
	Resolution time.Duration     `json:"-"`
	ResText    string            `json:"resolution"`
	Source     string            `json:"source"`
}

func columns() []column {
	text := func(name string, f func(inspected) string) column {
		return column{name, f, func(a, b inspected) int { return strings.Compare(f(a), f(b)) }}
	}
	number := func(name string, f func(inspected) int64) column {
		return column{name, func(r inspected) string { return strconv.FormatInt(f(r), 10) }, func(a, b inspected) int { return cmp.Compare(f(a), f(b)) }}
	}
	as := func(c column, f func(inspected) string) column {
		c.cell = f
		return c
	}
	return []column{
		text("ULID", func(r inspected) string { return r.ULID }),
		as(number("FROM", func(r inspected) int64 { return r.From.UnixMilli() }), func(r inspected) string { return r.From.Format(time.RFC3339) }),
		as(number("UNTIL", func(r inspected) int64 { return r.Until.UnixMilli() }), func(r inspected) string { return r.Until.Format(time.RFC3339) }),
		as(number("RANGE", func(r inspected) int64 { return int64(r.Range) }), func(r inspected) string { return r.RangeText }),
		as(number("UNTIL-DOWN", func(r inspected) int64 { return int64(r.UntilDown) }), func(r inspected) string { return r.DownText }),
		number("#SERIES", func(r inspected) int64 { return int64(r.Series) }),
		number("#SAMPLES", func(r inspected) int64 { return int64(r.Samples) }),
		number("#CHUNKS", func(r inspected) int64 { return int64(r.Chunks) }),
		number("COMP-LEVEL", func(r inspected) int64 { return int64(r.Level) }),
		text("COMP-FAILED", func(r inspected) string { return strconv.FormatBool(r.Failed) }),
		text("LABELS", func(r inspected) string { return r.LabelText }),
		as(number("RESOLUTION", func(r inspected) int64 { return int64(r.Resolution) }), func(r inspected) string { return r.ResText }),
		text("SOURCE", func(r inspected) string { return r.Source }),
	}
}

func columnNames() []string {
	var names []string
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return names
}

type inspectConfig struct {
	selector []flags.Label
	sortBy   []string
	timeout  time.Duration
	output   string
}

func (c *inspectConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Inspect", func(fs *pflag.FlagSet) {
		flags.Labels(fs, &c.selector, "selector", "Only blocks with this external label; repeat to ask for several at once.")
		fs.Lookup("selector").Shorthand = "l"
		flags.Enums(fs, &c.sortBy, "sort-by", "Column to sort by; repeat to sort what is equal in one by the next.", columnNames()...)
		flags.Duration(fs, &c.timeout, "timeout", "How long reading the bucket may take.")
		flags.Enum(fs, &c.output, "output", "How to print.", formatTable, formatCSV, formatTSV, formatJSON)
	})
}

func (c *inspectConfig) Validate() error { return positive("timeout", c.timeout) }

func newInspect() *cobra.Command {
	c := &inspectConfig{sortBy: []string{"FROM", "UNTIL"}, timeout: 5 * time.Minute, output: formatTable}
	return command{
		name: "inspect", short: "Show the blocks of a bucket with their sizes, labels and levels",
		long: "Shows one row a block: its time range, what is in it, and how long it still takes until it can be downsampled.",
		example: `  promontory bucket inspect --objstore.config-file=bucket.yaml
  promontory bucket inspect -l 'cluster="eu1"' --sort-by='#SERIES' --output=csv --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runInspect(ctx, e, c) },
	}.cobra()
}

func runInspect(ctx context.Context, e *env, c *inspectConfig) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	result, err := e.fetch(ctx, 0)
	if result == nil {
		return err
	}
	rows := inspect(byID(result.Metas), c.selector, c.sortBy)
	l := &list{}
	cols := columns()
	for _, col := range cols {
		l.header = append(l.header, col.name)
	}
	var series, samples, chunks uint64
	for _, r := range rows {
		cells := make([]string, len(cols))
		for i, col := range cols {
			cells[i] = col.cell(r)
		}
		l.add(r, cells...)
		series, samples, chunks = series+r.Series, samples+r.Samples, chunks+r.Chunks
	}
	if werr := l.write(e.out, c.output); werr != nil {
		return werr
	}
	e.notes.line("%s: %d series, %d samples, %d chunks", plural(len(rows), "block"), series, samples, chunks)
	e.notePartial(result)
	return err
}

// inspect selects, describes and sorts.
func inspect(metas []*block.Meta, selector []flags.Label, sortBy []string) []inspected {
	var rows []inspected
	for _, m := range metas {
		if !slices.ContainsFunc(selector, func(l flags.Label) bool { return m.Thanos.Labels[l.Name] != l.Value }) {
			rows = append(rows, describe(m))
		}
	}
	var order []func(a, b inspected) int
	for _, name := range sortBy {
		i := slices.IndexFunc(columns(), func(c column) bool { return c.name == name })
		order = append(order, columns()[i].compare)
	}
	slices.SortStableFunc(rows, func(a, b inspected) int {
		for _, compare := range order {
			if d := compare(a, b); d != 0 {
				return d
			}
		}
		return 0
	})
	return rows
}

func describe(m *block.Meta) inspected {
	r := inspected{
		ULID: m.ULID.String(), From: time.UnixMilli(m.MinTime).UTC(), Until: time.UnixMilli(m.MaxTime).UTC(),
		Range: millis(m.MaxTime - m.MinTime), UntilDown: untilDownsampled(m),
		Series: m.Stats.NumSeries, Samples: m.Stats.NumSamples, Chunks: m.Stats.NumChunks,
		Level: m.Compaction.Level, Failed: m.Compaction.Failed, Labels: m.Thanos.Labels, LabelText: plainLabels(m),
		Resolution: millis(m.Thanos.Downsample.Resolution), Source: string(m.Thanos.Source), DownText: "-",
	}
	r.RangeText, r.ResText = r.Range.String(), r.Resolution.String()
	if r.UntilDown > 0 {
		r.DownText = r.UntilDown.String()
	}
	return r
}

// untilDownsampled returns how much longer a block has to span before it is downsampled, 0 if that is never or at once.
func untilDownsampled(m *block.Meta) time.Duration {
	span := m.MaxTime - m.MinTime
	switch m.Thanos.Downsample.Resolution {
	case block.ResolutionRaw:
		return max(0, millis(downsample.MinSpan5m-span))
	case block.Resolution5m:
		return max(0, millis(downsample.MinSpan1h-span))
	}
	return 0
}

// plainLabels writes name=value pairs; what would tear a table is written as in JSON.
func plainLabels(m *block.Meta) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(m.Thanos.Labels)) {
		value := m.Thanos.Labels[name]
		if strings.ContainsAny(value, ",\t\n\"") {
			if quoted, err := json.Marshal(value); err == nil {
				value = string(quoted)
			}
		}
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, ",")
}
