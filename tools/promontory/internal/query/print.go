package query

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// Output formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatTSV   = "tsv"
)

// courseWidth is how many characters the course of a series takes at most.
const courseWidth = 60

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z07:00") }

// write prints a result.
func write(w io.Writer, format string, r promclient.Result, g grid) error {
	switch format {
	case formatJSON:
		return writeJSON(w, r)
	case formatTSV:
		return writeTSV(w, r.Value)
	}
	return writeTable(w, r.Value, g)
}

// writeJSON prints one value: the data of the answer as the HTTP API has it, with warnings and infos beside.
func writeJSON(w io.Writer, r promclient.Result) error {
	return json.NewEncoder(w).Encode(struct {
		Type     string      `json:"resultType"`
		Result   model.Value `json:"result"`
		Warnings []string    `json:"warnings,omitempty"`
		Infos    []string    `json:"infos,omitempty"`
	}{r.Value.Type().String(), r.Value, r.Warnings, r.Infos})
}

// writeTSV prints one sample a line.
func writeTSV(w io.Writer, v model.Value) error {
	tsv := csv.NewWriter(w)
	tsv.Comma = '\t'
	rows := [][]string{{"SERIES", "TIME", "VALUE"}}
	sample := func(series string, at model.Time, value string) {
		rows = append(rows, []string{series, utc(int64(at)), value})
	}
	switch v := v.(type) {
	case model.Vector:
		for _, s := range v {
			sample(s.Metric.String(), s.Timestamp, valueText(s))
		}
	case model.Matrix:
		for _, s := range v {
			for _, p := range s.Values {
				sample(s.Metric.String(), p.Timestamp, p.Value.String())
			}
			for _, p := range s.Histograms {
				sample(s.Metric.String(), p.Timestamp, p.Histogram.String())
			}
		}
	case *model.Scalar:
		sample("", v.Timestamp, v.Value.String())
	case *model.String:
		sample("", v.Timestamp, v.Value)
	}
	return tsv.WriteAll(rows)
}

func valueText(s *model.Sample) string {
	if s.Histogram != nil {
		return s.Histogram.String()
	}
	return s.Value.String()
}

// oneLine keeps label values from breaking the table.
func oneLine(m model.Metric) string { return strings.ReplaceAll(m.String(), "\t", `\t`) }

func writeTable(w io.Writer, v model.Value, g grid) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	switch v := v.(type) {
	case model.Vector:
		fmt.Fprintln(tw, "SERIES\tVALUE")
		for _, s := range v {
			fmt.Fprintf(tw, "%s\t%s\n", oneLine(s.Metric), valueText(s))
		}
	case model.Matrix:
		writeMatrix(tw, v, g)
	case *model.Scalar:
		fmt.Fprintln(tw, v.Value)
	case *model.String:
		fmt.Fprintln(tw, v.Value)
	}
	return tw.Flush()
}

func writeMatrix(w io.Writer, m model.Matrix, g grid) {
	if g.step > 0 {
		fmt.Fprintf(w, "%s to %s, a step of %s\n", utc(g.start), utc(g.end), time.Duration(g.step)*time.Millisecond)
	}
	fmt.Fprintln(w, "SERIES\tCOURSE\tMIN\tMAX\tLAST\tSAMPLES")
	for _, s := range m {
		if len(s.Values) == 0 {
			last := ""
			if n := len(s.Histograms); n > 0 {
				last = s.Histograms[n-1].Histogram.String()
			}
			fmt.Fprintf(w, "%s\t\t\t\t%s\t%d\n", oneLine(s.Metric), last, len(s.Histograms))
			continue
		}
		low, high := bounds(s.Values)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", oneLine(s.Metric), course(s.Values, g, courseWidth), short(low), short(high),
			short(float64(s.Values[len(s.Values)-1].Value)), len(s.Values)+len(s.Histograms))
	}
}

// short writes a value with the digits a glance needs; other formats have all.
func short(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// bounds returns the smallest and the largest value, NaN where all are.
func bounds(values []model.SamplePair) (low, high float64) {
	low, high = math.NaN(), math.NaN()
	for _, p := range values {
		v := float64(p.Value)
		if math.IsNaN(low) || v < low {
			low = v
		}
		if math.IsNaN(high) || v > high {
			high = v
		}
	}
	return low, high
}

// course draws values, which are ascending in time, over the times of g: each character is one step or, where there are
// more than width of them, the mean of several. Steps without a sample are blanks at both ends and between. Pure.
func course(values []model.SamplePair, g grid, width int) string {
	points := g.points()
	if points < 1 {
		return ""
	}
	cells := int(min(points, int64(width)))
	sums, counts := make([]float64, cells), make([]int, cells)
	for _, p := range values {
		i := (int64(p.Timestamp) - g.start) / g.step
		if v := float64(p.Value); i >= 0 && i < points && !math.IsNaN(v) && !math.IsInf(v, 0) {
			at := i * int64(cells) / points
			// A running mean, since a sum of large values may be none.
			counts[at]++
			sums[at] += (v - sums[at]) / float64(counts[at])
		}
	}
	var means []float64
	for i, n := range counts {
		if n > 0 {
			means = append(means, sums[i])
		}
	}
	if len(means) == 0 {
		return ""
	}
	low, high := slices.Min(means), slices.Max(means)
	marks := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for i, n := range counts {
		switch {
		case n == 0:
			b.WriteByte(' ')
		case high == low:
			b.WriteRune(marks[0])
		default:
			// Halved, since the distance itself may be beyond what a float holds.
			part := (sums[i]/2 - low/2) / (high/2 - low/2)
			b.WriteRune(marks[min(len(marks)-1, int(part*float64(len(marks))))])
		}
	}
	return b.String()
}
