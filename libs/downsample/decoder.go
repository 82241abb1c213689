package downsample

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// decoder opens chunks one after the other and allocates once per encoding, not once
// per chunk. What open returns is valid until the next call.
type decoder struct {
	xor    chunkenc.XORChunk
	hist   chunkenc.HistogramChunk
	fhist  chunkenc.FloatHistogramChunk
	xorIt  chunkenc.Iterator
	histIt chunkenc.Iterator
	fhIt   chunkenc.Iterator
}

func (d *decoder) open(c chunks.Chunk) (chunkenc.Iterator, error) {
	header := 3
	if c.Encoding == chunkenc.EncXOR {
		header = 2
	}
	// The TSDB takes the header for granted.
	if len(c.Data) < header {
		return nil, fmt.Errorf("chunk of encoding %s has %d bytes, its header alone %d", c.Encoding, len(c.Data), header)
	}
	switch c.Encoding {
	case chunkenc.EncXOR:
		d.xor.Reset(c.Data)
		d.xorIt = d.xor.Iterator(d.xorIt)
		return d.xorIt, nil
	case chunkenc.EncHistogram:
		d.hist.Reset(c.Data)
		d.histIt = d.hist.Iterator(d.histIt)
		return d.histIt, nil
	case chunkenc.EncFloatHistogram:
		d.fhist.Reset(c.Data)
		d.fhIt = d.fhist.Iterator(d.fhIt)
		return d.fhIt, nil
	}
	return nil, fmt.Errorf("chunk encoding %d is not known", c.Encoding)
}

// failed is an iterator without samples and with an error.
type failed struct{ err error }

func (failed) Next() chunkenc.ValueType      { return chunkenc.ValNone }
func (failed) Seek(int64) chunkenc.ValueType { return chunkenc.ValNone }
func (failed) At() (int64, float64)          { return math.MinInt64, 0 }
func (failed) AtT() int64                    { return math.MinInt64 }
func (f failed) Err() error                  { return f.err }

func (failed) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return math.MinInt64, nil
}

func (failed) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return math.MinInt64, nil
}
