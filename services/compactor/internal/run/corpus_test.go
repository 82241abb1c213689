package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	tsdbchunks "github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/services/compactor/internal/job"
)

// The corpus: a bucket in which every group but two has a broken block. Each group has
// two days of 2h blocks and the newest one behind them; the broken block is its fifth.
const (
	corpusHours = 50
	brokenAt    = 4
)

// breakage breaks one block of a group.
type breakage struct {
	name string
	// do breaks the block at brokenAt, or adds one; group are all blocks of the group. It
	// returns the broken one.
	do func(t *testing.T, bkt objstore.Bucket, group []*block.Meta) ulid.ULID
	// lost is how many samples at most cannot be read any more.
	lost int
	// end is what becomes of the broken block, reason a word of the reason that is given.
	end, reason string
	// aside says that the block's own data, not an addition, are out of the others' reach.
	aside bool
}

// What can become of a broken block.
const (
	merged      = "merged"      // into a bigger one, as it is
	garbage     = "garbage"     // for another one has all of it
	salvaged    = "salvaged"    // what could be read, into a new one
	quarantined = "quarantined" // kept, with a mark
	removed     = "removed"     // nothing of it is left
	untouched   = "untouched"   // nobody's business
)

func corpus() []breakage {
	type group = []*block.Meta
	// damage changes one object of the block.
	damage := func(rel string, f func(t *testing.T, b []byte) []byte) func(*testing.T, objstore.Bucket, group) ulid.ULID {
		return func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			change(t, bkt, g[brokenAt].ULID, rel, func(b []byte) []byte { return f(t, b) })
			return g[brokenAt].ULID
		}
	}
	remove := func(rel string) func(*testing.T, objstore.Bucket, group) ulid.ULID {
		return func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			require.NoError(t, bkt.Delete(t.Context(), block.ObjectName(g[brokenAt].ULID, rel)))
			return g[brokenAt].ULID
		}
	}
	const segment = "chunks/000001"
	return []breakage{
		{name: "healthy", end: merged, do: func(_ *testing.T, _ objstore.Bucket, g group) ulid.ULID { return g[brokenAt].ULID }},
		{name: "overlap", end: merged, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			return uploadBlock(t, bkt, "overlap", g[brokenAt].MinTime+hour, g[brokenAt].MaxTime+hour, 900).ULID
		}},
		{name: "duplicate", end: merged, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			id := blocktest.ID(time.UnixMilli(g[brokenAt].MaxTime), 901)
			copyBlock(t, bkt, g[brokenAt], id, id)
			return id
		}},
		{name: "contained", end: garbage, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			id := blocktest.ID(time.UnixMilli(g[brokenAt].MaxTime+hour), 905) // of two, the older one stays
			copyBlock(t, bkt, g[brokenAt], id, g[brokenAt].ULID)
			return id
		}},
		{name: "outoforder", lost: 24, end: merged, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			require.NoError(t, block.Delete(t.Context(), nil, bkt, g[brokenAt].ULID))
			return outOfOrderBlock(t, bkt, g[brokenAt])
		}},
		{name: "indexcrc", lost: 48, end: salvaged, reason: "checksum", do: damage(block.IndexFilename, func(t *testing.T, b []byte) []byte {
			b[seriesOffset(t, b)+3] ^= 0x40
			return b
		})},
		{name: "chunkcrc", lost: 24, end: salvaged, reason: "checksum", do: damage(segment, func(_ *testing.T, b []byte) []byte {
			b[tsdbchunks.SegmentHeaderSize+20] ^= 1
			return b
		})},
		{name: "cutindex", end: salvaged, reason: "table of contents", do: damage(block.IndexFilename, func(_ *testing.T, b []byte) []byte { return b[:len(b)-60] })},
		{name: "cutchunks", lost: 24, end: salvaged, reason: "cut off", do: damage(segment, func(_ *testing.T, b []byte) []byte { return b[:len(b)-3] })},
		{name: "undecodable", lost: 24, end: salvaged, reason: "chunk", do: damage(segment, func(_ *testing.T, b []byte) []byte { return garbleWithRightChecksum(b) })},
		{name: "badsymbols", lost: 96, end: quarantined, aside: true, reason: "symbol", do: damage(block.IndexFilename, func(_ *testing.T, b []byte) []byte {
			b[20] ^= 1
			return b
		})},
		{name: "noindex", lost: 96, end: quarantined, aside: true, reason: "index", do: remove(block.IndexFilename)},
		{name: "nosegment", lost: 96, end: quarantined, aside: true, reason: segment, do: remove(segment)},
		{name: "badmeta", lost: 96, end: quarantined, aside: true, reason: "meta", do: damage(block.MetaFilename, func(*testing.T, []byte) []byte { return []byte(`{"ulid": "??`) })},
		{name: "future", end: quarantined, reason: "future", do: func(t *testing.T, bkt objstore.Bucket, _ group) ulid.ULID {
			in := time.Now().Add(1000 * time.Hour).UnixMilli()
			return uploadBlock(t, bkt, "future", in, in+2*hour, 902).ULID
		}},
		{name: "foreign", end: untouched, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			// Of the same time, with labels that nobody else has.
			m := upload(t, bkt, blocktest.Spec{
				ID: blocktest.ID(time.UnixMilli(g[brokenAt].MaxTime), 906), ExternalLabels: labels.FromStrings("cluster", "foreign", "stranger", "yes"),
				MinTime: g[brokenAt].MinTime, MaxTime: g[brokenAt].MaxTime, Interval: 5 * time.Minute, Floats: 3,
			})
			return m.ULID
		}},
		{name: "nolabels", end: untouched, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			// As Prometheus writes it, with nothing that says whose it is.
			id := blocktest.ID(time.UnixMilli(g[brokenAt].MaxTime), 907)
			copyBlock(t, bkt, g[brokenAt], id, id)
			change(t, bkt, id, block.MetaFilename, func(b []byte) []byte {
				var m map[string]any
				require.NoError(t, json.Unmarshal(b, &m))
				delete(m, "thanos")
				b, err := json.Marshal(m)
				require.NoError(t, err)
				return b
			})
			return id
		}},
		{name: "partial", end: removed, do: func(t *testing.T, bkt objstore.Bucket, g group) ulid.ULID {
			id := blocktest.ID(time.UnixMilli(g[0].MaxTime), 903)
			require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id, segment), strings.NewReader("half")))
			return id
		}},
	}
}

func uploadBlock(t *testing.T, bkt objstore.Bucket, group string, mint, maxt int64, n uint64) *block.Meta {
	t.Helper()
	return upload(t, bkt, blocktest.Spec{
		ID: blocktest.ID(time.UnixMilli(maxt), n), ExternalLabels: labels.FromStrings("cluster", group),
		MinTime: mint, MaxTime: maxt, Interval: 5 * time.Minute, Floats: 3, Histograms: 1,
	})
}

// copyBlock uploads a block a second time under another ULID, as one made of source.
func copyBlock(t *testing.T, bkt objstore.Bucket, m *block.Meta, id, source ulid.ULID) {
	t.Helper()
	for _, rel := range []string{"chunks/000001", block.IndexFilename} {
		b := object(t, bkt, block.ObjectName(m.ULID, rel))
		require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id, rel), bytes.NewReader(b)))
	}
	c := m.Clone()
	c.ULID, c.Compaction.Sources = id, []ulid.ULID{source}
	b, err := c.Encode()
	require.NoError(t, err)
	require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id, block.MetaFilename), bytes.NewReader(b)))
}

// seriesOffset finds the first series of an index.
func seriesOffset(t *testing.T, b []byte) int {
	t.Helper()
	toc, err := index.NewTOCFromByteSlice(bytesSlice(b))
	require.NoError(t, err)
	at := int(toc.Series)
	return (at + 15) / 16 * 16
}

type bytesSlice []byte

func (b bytesSlice) Len() int                    { return len(b) }
func (b bytesSlice) Range(start, end int) []byte { return b[start:end] }

// garbleWithRightChecksum makes nonsense of the first chunk that passes for sound: it
// claims more samples than it has.
func garbleWithRightChecksum(b []byte) []byte {
	at := tsdbchunks.SegmentHeaderSize
	n, k := binary.Uvarint(b[at:])
	content := b[at+k : at+k+1+int(n)]
	binary.BigEndian.PutUint16(content[1:], 60000)
	binary.BigEndian.PutUint32(b[at+k+1+int(n):], crcOf(content))
	return b
}

// outOfOrderBlock uploads a block like m whose float series have their chunks in the wrong
// order, and two that overlap. No writer of today makes such an index, so it is written by hand.
func outOfOrderBlock(t *testing.T, bkt objstore.Bucket, like *block.Meta) ulid.ULID {
	t.Helper()
	dir := t.TempDir()
	id := blocktest.ID(time.UnixMilli(like.MaxTime), 904)
	cw, err := tsdbchunks.NewWriter(dir)
	require.NoError(t, err)
	symbols := []string{"0", "1", "2", "__name__", "series", blocktest.FloatMetric}
	var entries [][]byte
	span := 2 * hour
	for n := range 3 {
		var metas []tsdbchunks.Meta
		for _, r := range [][2]int64{{span / 2, span}, {0, span / 2}, {span / 4, span * 3 / 4}} {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			require.NoError(t, err)
			m := tsdbchunks.Meta{Chunk: c, MinTime: like.MinTime + r[0]}
			for at := r[0]; at < r[1]; at += 5 * time.Minute.Milliseconds() {
				app.Append(like.MinTime+at, blocktest.FloatValue(n, like.MinTime+at))
				m.MaxTime = like.MinTime + at
			}
			metas = append(metas, m)
		}
		for i := range metas {
			require.NoError(t, cw.WriteChunks(metas[i:i+1]...))
		}
		entries = append(entries, seriesEntry(uint32(n), metas))
	}
	require.NoError(t, cw.Close())
	segment, err := os.ReadFile(filepath.Join(dir, "000001"))
	require.NoError(t, err)

	m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: id, MinTime: like.MinTime, MaxTime: like.MaxTime, Version: 1}}
	m.Stats = tsdb.BlockStats{NumSeries: 3, NumChunks: 9, NumSamples: 108}
	m.Compaction.Level, m.Compaction.Sources = 1, []ulid.ULID{id}
	m.Thanos.Labels, m.Thanos.SegmentFiles = like.Thanos.Labels, []string{"000001"}
	meta, err := m.Encode()
	require.NoError(t, err)
	for rel, content := range map[string][]byte{"chunks/000001": segment, block.IndexFilename: indexOf(symbols, entries), block.MetaFilename: meta} {
		require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id, rel), bytes.NewReader(content)))
	}
	return id
}

// seriesEntry encodes the series {__name__="test_float", series="<n>"}: symbols 3, 5, 4 and n.
func seriesEntry(n uint32, metas []tsdbchunks.Meta) []byte {
	b := []byte{2, 3, 5, 4, byte(n), byte(len(metas))}
	var last tsdbchunks.Meta
	for i, m := range metas {
		if i == 0 {
			b = binary.AppendVarint(b, m.MinTime)
			b = binary.AppendUvarint(b, uint64(m.MaxTime-m.MinTime))
			b = binary.AppendUvarint(b, uint64(m.Ref))
		} else {
			b = binary.AppendUvarint(b, uint64(m.MinTime-last.MaxTime))
			b = binary.AppendUvarint(b, uint64(m.MaxTime-m.MinTime))
			b = binary.AppendVarint(b, int64(m.Ref)-int64(last.Ref))
		}
		last = m
	}
	out := binary.AppendUvarint(nil, uint64(len(b)))
	out = append(out, b...)
	return binary.BigEndian.AppendUint32(out, crcOf(b))
}

// indexOf writes an index with symbols and series, and nothing else but its table of contents.
func indexOf(symbols []string, entries [][]byte) []byte {
	b := append(binary.BigEndian.AppendUint32(nil, index.MagicIndex), index.FormatV2)
	table := binary.BigEndian.AppendUint32(nil, uint32(len(symbols)))
	for _, s := range symbols {
		table = append(binary.AppendUvarint(table, uint64(len(s))), s...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(table)))
	b = binary.BigEndian.AppendUint32(append(b, table...), crcOf(table))
	pad := func() {
		for len(b)%16 != 0 {
			b = append(b, 0)
		}
	}
	pad()
	series := len(b)
	for _, e := range entries {
		pad()
		b = append(b, e...)
	}
	end := len(b)
	var toc []byte
	for _, at := range []int{index.HeaderLen, series, 0, 0, end, end} {
		toc = binary.BigEndian.AppendUint64(toc, uint64(at))
	}
	return append(b, binary.BigEndian.AppendUint32(toc, crcOf(toc))...)
}

func TestBrokenBlocksDoNotKeepAnybodyFromBeingCompacted(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	groups := map[string][]*block.Meta{}
	for i, b := range corpus() {
		for h := int64(0); h < corpusHours; h += 2 {
			groups[b.name] = append(groups[b.name], uploadBlock(t, bkt, b.name, start+h*hour, start+(h+2)*hour, uint64(i*1000)+uint64(h)))
		}
	}
	before := samples(t, bkt)
	broken := map[string]ulid.ULID{}
	for _, b := range corpus() {
		broken[b.name] = b.do(t, bkt, groups[b.name])
	}
	// Young blocks with missing pieces are waited for; these are not young any more.
	r := newRun(t, bkt, setup{now: time.Now().Add(72 * time.Hour)})
	require.NoError(t, r.Once(t.Context()), "broken blocks are no failure of the run")
	nothingLeft(t, r)

	events := map[string]string{}
	for _, e := range r.Snapshot().Events {
		events[e.Block] += e.Kind + ": " + e.Text + "\n"
	}
	after := samples(t, bkt)
	left := visible(t, bkt)
	for _, b := range corpus() {
		t.Run(b.name, func(t *testing.T) {
			checkGroup(t, b, left)
			end, reason := becameOf(t, bkt, broken[b.name])
			require.Equal(t, b.end, end, "%s; events: %s", reason, events[broken[b.name].String()])
			if b.end == quarantined {
				require.Contains(t, reason, b.reason)
			}
			if b.end == salvaged || b.end == quarantined {
				require.Contains(t, events[broken[b.name].String()], b.end+": ")
				require.Contains(t, events[broken[b.name].String()], b.reason)
			}
			lost := 0
			for key, want := range before {
				if !strings.HasPrefix(key, `{cluster="`+b.name+`"}`) {
					continue
				}
				for at, v := range want {
					got, ok := after[key][at]
					if !ok {
						lost++
						continue
					}
					require.Equal(t, v, got, "%s at %d", key, at)
				}
			}
			require.LessOrEqual(t, lost, b.lost, "samples that could be read are gone")
			if b.lost > 0 {
				require.Positive(t, lost, "the breakage breaks nothing: the test is worth nothing")
			}
		})
	}
	require.Zero(t, metric(t, r.reg, "thanos_compact_halted"))
	require.InDelta(t, 4, metric(t, r.reg, "promontory_compactor_salvaged_blocks_total"), 2)
}

// checkGroup asserts that the healthy blocks of a group are fully compacted and downsampled.
func checkGroup(t *testing.T, b breakage, left []*block.Meta) {
	t.Helper()
	byRes := map[int64]int{}
	for _, m := range left {
		if m.Thanos.Labels["cluster"] != b.name {
			continue
		}
		if m.MaxTime-m.MinTime > 2*hour || m.Thanos.Downsample.Resolution > 0 {
			byRes[m.Thanos.Downsample.Resolution]++
		}
	}
	if !b.aside {
		require.Equal(t, map[int64]int{0: 1, block.Resolution5m: 1}, byRes, "two days in one block, raw and in 5m")
	}
}

// becameOf tells from the bucket alone what became of a block, and the reason that the markers give.
func becameOf(t *testing.T, bkt objstore.Bucket, id ulid.ULID) (end, reason string) {
	t.Helper()
	var objects []string
	require.NoError(t, bkt.Iter(t.Context(), id.String()+"/", func(name string) error {
		objects = append(objects, name)
		return nil
	}))
	if len(objects) == 0 {
		return removed, ""
	}
	noCompact, err := block.ReadNoCompactMark(t.Context(), bkt, id)
	if err == nil {
		require.True(t, strings.HasPrefix(noCompact.Details, "quarantine: "), noCompact.Details)
		return quarantined, noCompact.Details
	}
	require.ErrorIs(t, err, block.ErrMarkNotFound)
	deletion, err := block.ReadDeletionMark(t.Context(), bkt, id)
	switch {
	case errors.Is(err, block.ErrMarkNotFound):
		return untouched, ""
	case deletion.Details == job.SourceDetails:
		return merged, ""
	case deletion.Details == OutdatedDetails:
		return garbage, ""
	case strings.Contains(deletion.Details, "saved into another block"):
		return salvaged, deletion.Details
	}
	return "marked: " + deletion.Details, ""
}

func TestOverlapWithoutPermissionIsShownAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	for h := int64(0); h < 10; h += 2 {
		uploadBlock(t, bkt, "a", start+h*hour, start+(h+2)*hour, uint64(h))
	}
	uploadBlock(t, bkt, "a", start+hour, start+2*hour, 77)
	r := newRun(t, bkt, setup{noVertical: true})
	require.NoError(t, r.Once(t.Context()))
	require.Len(t, r.Snapshot().Aside, 2)
	require.Contains(t, r.Snapshot().Aside[0].Reason, "overlap")
	require.Len(t, visible(t, bkt), 4, "three of the window are one block now")
}

func TestIdenticalBlockIsDroppedAlsoWithoutPermissionToMerge(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	var all []*block.Meta
	for h := int64(0); h < 10; h += 2 {
		all = append(all, uploadBlock(t, bkt, "a", start+h*hour, start+(h+2)*hour, uint64(h)))
	}
	id := blocktest.ID(time.UnixMilli(all[1].MaxTime), 901)
	copyBlock(t, bkt, all[1], id, id)
	r := newRun(t, bkt, setup{noVertical: true})
	require.NoError(t, r.Once(t.Context()))
	require.Contains(t, eventKinds(r), "duplicate dropped")
	require.Len(t, visible(t, bkt), 2)
}

func TestYoungBlockWithMissingPiecesIsWaitedFor(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	var all []*block.Meta
	for h := int64(0); h < 10; h += 2 {
		all = append(all, uploadBlock(t, bkt, "a", start+h*hour, start+(h+2)*hour, uint64(h)))
	}
	young := all[1]
	name := block.ObjectName(young.ULID, "chunks/000001")
	piece := object(t, bkt, name)
	require.NoError(t, bkt.Delete(t.Context(), name))
	r := newRun(t, bkt, setup{})
	// The upload time in meta.json is now, so the block is young.
	require.NoError(t, r.Once(t.Context()))
	require.Contains(t, eventKinds(r), "waiting")
	require.Len(t, r.Snapshot().Aside, 1)
	require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(piece)))
	*r.now = r.now.Add(time.Hour)
	require.NoError(t, r.Once(t.Context()))
	require.Len(t, visible(t, bkt), 2, "all four of the window are one block now")
}
