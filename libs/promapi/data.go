package promapi

import (
	"encoding/json"
	"fmt"
	"iter"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// Data is the content of an answer. EncodeJSON appends exactly one JSON value; errors go to [Encoder.Fail].
type Data interface {
	EncodeJSON(e *Encoder)
}

// QueryData is the answer of an instant or range query.
type QueryData struct {
	// Result is the value: a promql.Vector, Matrix, Scalar or String.
	Result parser.Value
	// Stats are the engine's figures; nil leaves the key out.
	Stats stats.QueryStats
	// Analysis is the tree of operators with their costs. The key is always written; without a tree it is {}.
	Analysis promtypes.Analysis
}

// EncodeJSON implements [Data].
func (d *QueryData) EncodeJSON(e *Encoder) {
	// The small parts are encoded first: if one of them cannot be, nothing has been sent yet.
	var statsJSON []byte
	if d.Stats != nil {
		var err error
		if statsJSON, err = json.Marshal(d.Stats); err != nil {
			e.Fail(fmt.Errorf("encode query statistics: %w", err))
			return
		}
	}
	analysisJSON, err := json.Marshal(d.Analysis)
	if err != nil {
		e.Fail(fmt.Errorf("encode query analysis: %w", err))
		return
	}
	if d.Result == nil {
		e.Fail(fmt.Errorf("encode query result: no value"))
		return
	}

	e.Raw(`{"resultType":"`)
	e.Raw(string(d.Result.Type()))
	e.Raw(`","result":`)
	encodeValue(e, d.Result)
	if statsJSON != nil {
		e.Raw(`,"stats":`)
		e.Raw(string(statsJSON))
	}
	e.Raw(`,"analysis":`)
	e.Raw(string(analysisJSON))
	e.Raw(`}`)
}

func encodeValue(e *Encoder, v parser.Value) {
	switch v := v.(type) {
	case promql.Matrix:
		encodeMatrix(e, v)
	case promql.Vector:
		encodeVector(e, v)
	case promql.Scalar:
		e.done(appendScalar(e.buf, v.T, v.V))
	case promql.String:
		b, err := appendStringValue(e.buf, v.T, v.V)
		if err != nil {
			e.Fail(fmt.Errorf("encode string result: %w", err))
			return
		}
		e.done(b)
	default:
		e.Fail(fmt.Errorf("encode query result: unknown type %T", v))
	}
}

func encodeVector(e *Encoder, v promql.Vector) {
	e.Raw("[")
	for i := range v {
		if e.err != nil {
			return
		}
		s, b := &v[i], e.buf
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"metric":`...)
		b = AppendLabels(b, s.Metric)
		if s.H == nil {
			b = append(b, `,"value":`...)
			b = appendPoint(b, s.T, s.F)
		} else {
			b = append(b, `,"histogram":`...)
			b = appendHistogramPoint(b, s.T, s.H)
		}
		e.done(append(b, '}'))
	}
	e.Raw("]")
}

func encodeMatrix(e *Encoder, m promql.Matrix) {
	e.Raw("[")
	for i := range m {
		if i > 0 {
			e.Raw(",")
		}
		encodeSeries(e, &m[i])
		if e.err != nil {
			return
		}
	}
	e.Raw("]")
}

func encodeSeries(e *Encoder, s *promql.Series) {
	e.Raw(`{"metric":`)
	e.Labels(s.Metric)
	for i, p := range s.Floats {
		b := e.buf
		if i == 0 {
			b = append(b, `,"values":[`...)
		} else {
			b = append(b, ',')
		}
		e.done(appendPoint(b, p.T, p.F))
	}
	if len(s.Floats) > 0 {
		e.Raw("]")
	}
	for i, p := range s.Histograms {
		b := e.buf
		if i == 0 {
			b = append(b, `,"histograms":[`...)
		} else {
			b = append(b, ',')
		}
		e.done(appendHistogramPoint(b, p.T, p.H))
	}
	if len(s.Histograms) > 0 {
		e.Raw("]")
	}
	e.Raw("}")
}

// Strings is a list of names or values; nil is written as [].
type Strings []string

// EncodeJSON implements [Data].
func (s Strings) EncodeJSON(e *Encoder) {
	e.Raw("[")
	for i, v := range s {
		if i > 0 {
			e.Raw(",")
		}
		e.String(v)
	}
	e.Raw("]")
}

// LabelSets is a list of series, as /series answers it; nil is written as [].
type LabelSets []labels.Labels

// EncodeJSON implements [Data].
func (s LabelSets) EncodeJSON(e *Encoder) {
	LabelSetSeq(func(yield func(labels.Labels) bool) {
		for _, ls := range s {
			if !yield(ls) {
				return
			}
		}
	}).EncodeJSON(e)
}

// LabelSetSeq is a list of series that is produced while it is written.
type LabelSetSeq iter.Seq[labels.Labels]

// EncodeJSON implements [Data].
func (s LabelSetSeq) EncodeJSON(e *Encoder) {
	e.Raw("[")
	first := true
	for ls := range s {
		if !first {
			e.Raw(",")
		}
		first = false
		e.Labels(ls)
		if e.err != nil {
			return
		}
	}
	e.Raw("]")
}

// JSON is any value that encoding/json can write, such as the structs of promtypes.
type JSON struct{ Value any }

// EncodeJSON implements [Data].
func (j JSON) EncodeJSON(e *Encoder) { e.Value(j.Value) }

var (
	_ Data = (*QueryData)(nil)
	_ Data = Strings(nil)
	_ Data = LabelSets(nil)
	_ Data = LabelSetSeq(nil)
	_ Data = JSON{}
)
