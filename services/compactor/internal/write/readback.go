package write

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// ReadSum reads a whole block from the bucket, checks every checksum in it and adds up
// its content. entryMax is the size of the largest series entry of the index.
func ReadSum(ctx context.Context, bkt objstore.BucketReader, meta *block.Meta, opts read.Options) (sum Sum, entryMax int64, err error) {
	src, err := read.Open(ctx, bkt, meta, opts)
	if err != nil {
		return Sum{}, 0, err
	}
	defer src.Close()
	var symbols []string
	offsets := map[uint32]string{}
	err = src.Symbols(ctx, func(ref uint32, symbol string) error {
		if int(ref) == len(symbols) {
			symbols = append(symbols, symbol)
		} else {
			offsets[ref] = symbol
		}
		return nil
	})
	if err != nil {
		return Sum{}, 0, err
	}
	look := func(ref uint32) (string, bool) {
		if len(offsets) > 0 {
			s, ok := offsets[ref]
			return s, ok
		}
		if int(ref) >= len(symbols) {
			return "", false
		}
		return symbols[ref], true
	}
	total := newSummer()
	var series read.Series
	for {
		if err := ctx.Err(); err != nil {
			return Sum{}, 0, err
		}
		err := src.Next(ctx, &series)
		if errors.Is(err, io.EOF) {
			return total.sum(), src.MaxEntry(), nil
		}
		if err != nil {
			return Sum{}, 0, err
		}
		known := true
		total.series(func(yield func(string)) {
			for _, ref := range series.Labels {
				s, ok := look(ref)
				known = known && ok
				yield(s)
			}
		})
		if !known {
			return Sum{}, 0, &read.CorruptError{Block: meta.ULID, Object: block.IndexFilename, Offset: -1, Err: fmt.Errorf("series %d has a symbol that does not exist", series.Ref)}
		}
		for _, c := range series.Chunks {
			data, err := src.Chunk(ctx, c.Ref)
			if err != nil {
				return Sum{}, 0, err
			}
			total.chunk(c.MinTime, c.MaxTime, data.Encoding, samples(data), data.CRC)
		}
	}
}

// samples reads how many samples, or windows, a chunk says it has.
func samples(d read.Data) int {
	if d.Encoding == downsample.Encoding {
		var c downsample.Chunk
		c.Reset(d.Bytes)
		return c.NumSamples()
	}
	if len(d.Bytes) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(d.Bytes))
}
