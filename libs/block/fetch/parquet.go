package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/promontory-io/promontory/libs/block"
)

const (
	// parquetMetaName is how objects that describe a day of converted data end.
	parquetMetaName = "meta.pb"
	// parquetBlocksField is the protobuf field that lists the converted blocks, as ULID text.
	parquetBlocksField = 6
	maxParquetMeta     = 32 << 20
	msPerDay           = 24 * 60 * 60 * 1000
)

// ConvertedDays holds, for each block, the UTC days of it that exist as parquet, as
// days since the Unix epoch.
type ConvertedDays map[ulid.ULID]map[int64]struct{}

// ParquetConverted leaves out blocks of which every UTC day they touch exists as
// parquet in bkt, where other stores serve it. A day is named by the folder
// YYYY/MM/DD its meta.pb lies in; one that lies elsewhere hides nothing.
func ParquetConverted(bkt objstore.BucketReader) Filter {
	return Filter{Name: "parquet converted", Prepare: func(ctx context.Context) (Decision, error) {
		days, err := ReadConvertedDays(ctx, bkt)
		if err != nil {
			return nil, err
		}
		return HideConverted(days), nil
	}}
}

// HideConverted is the rule of ParquetConverted over days already read.
func HideConverted(days ConvertedDays) Decision {
	return func(in Input) Output {
		var out Output
		for id, m := range in.Metas {
			if converted(m, days[id]) {
				out.exclude(id, StateParquetConverted)
			}
		}
		return out
	}
}

func converted(m *block.Meta, days map[int64]struct{}) bool {
	if len(days) == 0 || m.MaxTime <= m.MinTime {
		return false
	}
	first, last := floorDiv(m.MinTime, msPerDay), floorDiv(m.MaxTime-1, msPerDay)
	if last-first >= int64(len(days)) {
		return false
	}
	for d := first; d <= last; d++ {
		if _, ok := days[d]; !ok {
			return false
		}
	}
	return true
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// ReadConvertedDays reads all meta.pb objects of a bucket of parquet data.
func ReadConvertedDays(ctx context.Context, bkt objstore.BucketReader) (ConvertedDays, error) {
	var names []string
	err := bkt.Iter(ctx, "", func(name string) error {
		if strings.HasSuffix(name, parquetMetaName) {
			names = append(names, name)
		}
		return nil
	}, objstore.WithRecursiveIter())
	if err != nil {
		return nil, fmt.Errorf("list parquet bucket: %w", err)
	}
	dated := regexp.MustCompile(`(?:^|/)(\d{4}/\d{2}/\d{2})$`)
	days := ConvertedDays{}
	for _, name := range names {
		match := dated.FindStringSubmatch(path.Dir(name))
		if match == nil {
			continue
		}
		day, err := time.Parse("2006/01/02", match[1])
		if err != nil {
			continue
		}
		ids, err := readParquetMeta(ctx, bkt, name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		days.add(ids, floorDiv(day.UnixMilli(), msPerDay))
	}
	return days, nil
}

func (d ConvertedDays) add(ids []ulid.ULID, day int64) {
	for _, id := range ids {
		if d[id] == nil {
			d[id] = map[int64]struct{}{}
		}
		d[id][day] = struct{}{}
	}
}

func readParquetMeta(ctx context.Context, bkt objstore.BucketReader, name string) ([]ulid.ULID, error) {
	r, err := bkt.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxParquetMeta+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxParquetMeta {
		return nil, fmt.Errorf("larger than %d bytes", maxParquetMeta)
	}
	return parseParquetMeta(b)
}

// parseParquetMeta returns the block ULIDs a meta.pb lists; all other fields are skipped.
func parseParquetMeta(b []byte) ([]ulid.ULID, error) {
	var ids []ulid.ULID
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("malformed protobuf: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if num != parquetBlocksField || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return nil, fmt.Errorf("malformed protobuf: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		text, n := protowire.ConsumeString(b)
		if n < 0 {
			return nil, fmt.Errorf("malformed protobuf: %w", protowire.ParseError(n))
		}
		b = b[n:]
		id, ok := block.ParseID(text)
		if !ok {
			return nil, fmt.Errorf("%q is not a ULID", text)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
