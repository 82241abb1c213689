package bucket

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// Output formats of lists.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatTSV   = "tsv"
	formatCSV   = "csv"
)

// list is something to print: rows of cells, and for JSON one value a row.
type list struct {
	header  []string
	rows    [][]string
	records []any
}

func (l *list) add(record any, cells ...string) {
	l.rows = append(l.rows, cells)
	l.records = append(l.records, record)
}

// write prints the list; JSON is one value a line.
func (l *list) write(w io.Writer, format string) error {
	switch format {
	case formatTable:
		return l.writeTable(w)
	case formatCSV:
		return l.writeSeparated(w, ',')
	case formatTSV:
		return l.writeSeparated(w, '\t')
	case formatJSON:
		encoder := json.NewEncoder(w)
		for _, r := range l.records {
			if err := encoder.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("unknown output format %q", format)
}

func (l *list) writeTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{l.header}, l.rows...) {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// writeSeparated quotes cells that hold the separator, as label values can.
func (l *list) writeSeparated(w io.Writer, separator rune) error {
	cw := csv.NewWriter(w)
	cw.Comma = separator
	if err := cw.Write(l.header); err != nil {
		return err
	}
	if err := cw.WriteAll(l.rows); err != nil {
		return err
	}
	return cw.Error()
}

// utc writes block times, Unix milliseconds.
func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// counter counts from several goroutines.
type counter struct{ v atomic.Int64 }

func (c *counter) add()       { c.v.Add(1) }
func (c *counter) addN(n int) { c.v.Add(int64(n)) }
func (c *counter) n() int     { return int(c.v.Load()) }

// say prints a line of result. Lines of concurrent workers stay whole.
func (e *env) say(format string, args ...any) {
	e.outMu.Lock()
	defer e.outMu.Unlock()
	// Output that cannot be written does not undo what was done.
	_, _ = fmt.Fprintf(e.out, format+"\n", args...)
}
