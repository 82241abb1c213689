package answer

import (
	"bufio"
	"fmt"
	"io"

	"github.com/promontory-io/promontory/libs/promapi"
)

// writeBytes is how much is gathered before it is written; larger pieces are written as they are.
const writeBytes = 32 << 10

// Write writes the answer as the API does.
func (a *Answer) Write(w io.Writer) error {
	out := bufio.NewWriterSize(w, writeBytes)
	put := func(parts ...string) {
		for _, p := range parts {
			_, _ = out.WriteString(p) // the error stays and is returned by Flush
		}
	}
	put(`{"status":"success","data":`)
	switch a.Type {
	case TypeList:
		put(`[`)
		for i, item := range a.Items {
			if i > 0 {
				put(`,`)
			}
			_, _ = out.Write(item)
		}
		put(`]`)
	default:
		put(`{"resultType":"`, a.Type, `","result":`)
		if a.Type == TypeMatrix || a.Type == TypeVector {
			a.writeSeries(out)
		} else {
			_, _ = out.Write(a.Value)
		}
		if a.Stats != nil {
			put(`,"stats":`)
			_, _ = out.Write(a.Stats)
		}
		if a.Analysis != nil {
			put(`,"analysis":`)
			_, _ = out.Write(a.Analysis)
		}
		put(`}`)
	}
	writeNotes(out, "warnings", a.Warnings)
	writeNotes(out, "infos", a.Infos)
	put(`}`)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

func (a *Answer) writeSeries(out *bufio.Writer) {
	floats, histograms, end := `,"values":[`, `,"histograms":[`, `]`
	if a.Type == TypeVector {
		floats, histograms, end = `,"value":`, `,"histogram":`, ``
	}
	_ = out.WriteByte('[')
	for i := range a.Series {
		s := &a.Series[i]
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.WriteString(`{"metric":`)
		_, _ = out.Write(s.Metric)
		writePoints(out, s.Floats, floats, end)
		writePoints(out, s.Histograms, histograms, end)
		_ = out.WriteByte('}')
	}
	_ = out.WriteByte(']')
}

func writePoints(out *bufio.Writer, p Points, open, end string) {
	if len(p) == 0 {
		return
	}
	_, _ = out.WriteString(open)
	for i, piece := range p {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.Write(piece)
	}
	_, _ = out.WriteString(end)
}

func writeNotes(out *bufio.Writer, key string, notes []string) {
	if len(notes) == 0 {
		return
	}
	b := append([]byte(`,"`), key...)
	b = append(b, `":[`...)
	for i, n := range notes {
		if i > 0 {
			b = append(b, ',')
		}
		b = promapi.AppendString(b, n)
	}
	_, _ = out.Write(append(b, ']'))
}
