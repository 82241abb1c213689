package remoteread

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
)

// samplesPerChunk is how many samples go into a chunk, as in a TSDB.
const samplesPerChunk = 120

// encodeSamples makes chunks of the samples of a server that does not stream. Floats
// and histograms are each in time order; the chunks of both are put together by time.
func encodeSamples(ts *prometheuscopy.TimeSeries) (storeapi.Series, error) {
	b := labels.NewScratchBuilder(len(ts.GetLabels()))
	for _, l := range ts.GetLabels() {
		b.Add(l.GetName(), l.GetValue())
	}
	b.Sort()
	out := storeapi.Series{Labels: b.Labels()}
	e := chunkEncoder{out: &out}
	floats, hists := ts.GetSamples(), ts.GetHistograms()
	for len(floats)+len(hists) > 0 {
		var err error
		if len(hists) == 0 || len(floats) > 0 && floats[0].GetTimestamp() <= hists[0].GetTimestamp() {
			err = e.float(floats[0].GetTimestamp(), floats[0].GetValue())
			floats = floats[1:]
		} else {
			err = e.histogram(hists[0])
			hists = hists[1:]
		}
		if err != nil {
			return out, fmt.Errorf("series %s: %w", out.Labels, err)
		}
	}
	e.cut()
	return out, nil
}

// chunkEncoder appends samples to the chunk in work and cuts it when it is full, or
// when the kind of sample changes.
type chunkEncoder struct {
	out *storeapi.Series
	cur chunkenc.Chunk
	app chunkenc.Appender
	// Times of the first and the last sample in cur.
	mint, maxt int64
	// Time of the sample before, of any kind.
	last    int64
	started bool
}

// begin makes sure that a chunk of the encoding with room for a sample is in work.
func (e *chunkEncoder) begin(enc chunkenc.Encoding, t int64) error {
	if e.started && t < e.last {
		return fmt.Errorf("sample at %d comes after one at %d", t, e.last)
	}
	e.started, e.last = true, t
	if e.cur != nil && (e.cur.Encoding() != enc || e.cur.NumSamples() >= samplesPerChunk) {
		e.cut()
	}
	if e.cur != nil {
		return nil
	}
	c, err := chunkenc.NewEmptyChunk(enc)
	if err != nil {
		return err
	}
	app, err := c.Appender()
	if err != nil {
		return err
	}
	e.cur, e.app, e.mint = c, app, t
	return nil
}

// cut emits the chunk in work.
func (e *chunkEncoder) cut() {
	if e.cur == nil {
		return
	}
	e.out.Chunks = append(e.out.Chunks, chunks.AggrChunk{
		MinTime: e.mint, MaxTime: e.maxt,
		Raw: chunks.Chunk{Encoding: e.cur.Encoding(), Data: e.cur.Bytes()},
	})
	e.cur, e.app = nil, nil
}

func (e *chunkEncoder) float(t int64, v float64) error {
	if err := e.begin(chunkenc.EncXOR, t); err != nil {
		return err
	}
	e.app.Append(t, v)
	e.maxt = t
	return nil
}

func (e *chunkEncoder) histogram(h *prometheuscopy.Histogram) error {
	t := h.GetTimestamp()
	if _, isFloat := h.GetCount().(*prometheuscopy.Histogram_CountFloat); isFloat {
		fh := floatHistogram(h)
		// The encoder trusts its input and would index out of range.
		if err := fh.Validate(); err != nil {
			return fmt.Errorf("histogram at %d: %w", t, err)
		}
		if err := e.begin(chunkenc.EncFloatHistogram, t); err != nil {
			return err
		}
		next, recoded, app, err := e.app.AppendFloatHistogram(nil, t, fh, false)
		return e.appended(next, recoded, app, t, err)
	}
	ih := intHistogram(h)
	if err := ih.Validate(); err != nil {
		return fmt.Errorf("histogram at %d: %w", t, err)
	}
	if err := e.begin(chunkenc.EncHistogram, t); err != nil {
		return err
	}
	next, recoded, app, err := e.app.AppendHistogram(nil, t, ih, false)
	return e.appended(next, recoded, app, t, err)
}

// appended takes over the chunk that an appender began because the histogram did not
// fit the one before, or that replaces the one before with a layout for all.
func (e *chunkEncoder) appended(next chunkenc.Chunk, recoded bool, app chunkenc.Appender, t int64, err error) error {
	if err != nil {
		return err
	}
	if next != nil {
		if !recoded {
			e.cut() // still with the time of its own last sample
			e.mint = t
		}
		e.cur = next
	}
	e.app, e.maxt = app, t
	return nil
}

func spans(in []*prometheuscopy.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, len(in))
	for i, s := range in {
		out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}

func intHistogram(h *prometheuscopy.Histogram) *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(h.GetResetHint()), Schema: h.GetSchema(),
		ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountInt(), Count: h.GetCountInt(), Sum: h.GetSum(),
		PositiveSpans: spans(h.GetPositiveSpans()), PositiveBuckets: h.GetPositiveDeltas(),
		NegativeSpans: spans(h.GetNegativeSpans()), NegativeBuckets: h.GetNegativeDeltas(),
		CustomValues: h.GetCustomValues(),
	}
}

func floatHistogram(h *prometheuscopy.Histogram) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(h.GetResetHint()), Schema: h.GetSchema(),
		ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(), Count: h.GetCountFloat(), Sum: h.GetSum(),
		PositiveSpans: spans(h.GetPositiveSpans()), PositiveBuckets: h.GetPositiveCounts(),
		NegativeSpans: spans(h.GetNegativeSpans()), NegativeBuckets: h.GetNegativeCounts(),
		CustomValues: h.GetCustomValues(),
	}
}
