package downsample

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	tsdbchunks "github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

const (
	raw2d  = "01M83WT1DCBW1RC0VTCMVGQEY0"
	fine2d = "01M83WT1EQF9P08DR04XNRK2HV"
	raw11d = "01M83WT1E1CMVZABCMT3V3KJ0V"
	fine11 = "01M83WT1F5T1W18VDKE2Z613EG"
	hour11 = "01M83WT1G8Q2V92AD73NN83B2C"
)

type series struct {
	name string
	chks []chunks.AggrChunk
}

func TestRawTo5mGivesTheChunksOfThanos(t *testing.T) {
	t.Parallel()
	dir := unpack(t)
	for _, b := range [][2]string{{raw2d, fine2d}, {raw11d, fine11}} {
		in, want := readBlock(t, dir, b[0]), readBlock(t, dir, b[1])
		require.Len(t, want, len(in))
		var d Downsampler
		for i, s := range in {
			require.Equal(t, want[i].name, s.name)
			got, err := d.Raw(NewIterator(s.chks, []chunks.Aggr{chunks.Raw}), Resolution5m)
			require.NoError(t, err)
			requireSameChunks(t, s.name, want[i].chks, got)
		}
		require.Zero(t, d.Skipped())
	}
}

func Test5mTo1hGivesTheChunksOfThanos(t *testing.T) {
	t.Parallel()
	dir := unpack(t)
	in, want := readBlock(t, dir, fine11), readBlock(t, dir, hour11)
	require.Len(t, want, len(in))
	var d Downsampler
	for i, s := range in {
		require.Equal(t, want[i].name, s.name)
		got, err := d.Aggregated(s.chks, Resolution5m, Resolution1h)
		require.NoError(t, err)
		requireSameChunks(t, s.name, want[i].chks, got)
	}
}

func TestAggregateChunksOfBlocksSurviveDecodingAndEncoding(t *testing.T) {
	t.Parallel()
	dir := unpack(t)
	for _, id := range []string{fine2d, hour11} {
		eachChunk(t, dir, id, func(_ string, m tsdbchunks.Meta, c chunkenc.Chunk) {
			ac, ok := c.(*Chunk)
			require.True(t, ok, "%T", c)
			parts, err := ac.Aggr()
			require.NoError(t, err)
			again, err := AppendAggr(nil, &parts)
			require.NoError(t, err)
			require.Equal(t, c.Bytes(), again)
			require.Positive(t, ac.NumSamples())
		})
	}
}

// recode writes a chunk of floats as the TSDB does: ours hold the same samples in fewer bytes.
func recode(t testing.TB, data []byte) []byte {
	t.Helper()
	c, again := chunkenc.NewXORChunk(), chunkenc.NewXORChunk()
	c.Reset(data)
	app, err := again.Appender()
	require.NoError(t, err)
	it := c.Iterator(nil)
	for it.Next() != chunkenc.ValNone {
		app.Append(it.At())
	}
	require.NoError(t, it.Err())
	return again.Bytes()
}

// requireSameChunks compares byte for byte, once both are written by the TSDB, and tells by
// sample where they differ.
func requireSameChunks(t *testing.T, name string, want, got []chunks.AggrChunk) {
	t.Helper()
	require.Len(t, got, len(want), name)
	for i := range want {
		require.Equal(t, want[i].MinTime, got[i].MinTime, "%s chunk %d min time", name, i)
		require.Equal(t, want[i].MaxTime, got[i].MaxTime, "%s chunk %d max time", name, i)
		for a := chunks.Count; a <= chunks.Counter; a++ {
			w, _ := want[i].Of(a)
			g, _ := got[i].Of(a)
			require.LessOrEqual(t, len(g.Data), len(w.Data)+2, "%s chunk %d %s: larger", name, i, a)
			if g.Encoding == chunkenc.EncXOR {
				g.Data = recode(t, g.Data)
			}
			if w.Equal(g) {
				continue
			}
			require.Equal(t, points(t, w), points(t, g), "%s chunk %d %s", name, i, a)
			t.Fatalf("%s chunk %d %s: same samples, other bytes", name, i, a)
		}
	}
}

func points(t testing.TB, c chunks.Chunk) [][2]float64 {
	t.Helper()
	var d decoder
	it, err := d.open(c)
	require.NoError(t, err)
	var out [][2]float64
	for it.Next() == chunkenc.ValFloat {
		ts, v := it.At()
		out = append(out, [2]float64{float64(ts), v})
	}
	require.NoError(t, it.Err())
	return out
}

func readBlock(t testing.TB, dir, id string) []series {
	t.Helper()
	var out []series
	eachChunk(t, dir, id, func(name string, m tsdbchunks.Meta, c chunkenc.Chunk) {
		if len(out) == 0 || out[len(out)-1].name != name {
			out = append(out, series{name: name})
		}
		ac := chunks.AggrChunk{MinTime: m.MinTime, MaxTime: m.MaxTime}
		if c.Encoding() == Encoding {
			parts, err := DecodeAggr(append([]byte(nil), c.Bytes()...))
			require.NoError(t, err)
			ac.Aggr = &parts
		} else {
			ac.Raw = chunks.Chunk{Encoding: c.Encoding(), Data: append([]byte(nil), c.Bytes()...)}
		}
		s := &out[len(out)-1]
		s.chks = append(s.chks, ac)
	})
	return out
}

func eachChunk(t testing.TB, dir, id string, f func(name string, m tsdbchunks.Meta, c chunkenc.Chunk)) {
	t.Helper()
	b, err := tsdb.OpenBlock(nil, filepath.Join(dir, id), NewPool(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	ir, err := b.Index()
	require.NoError(t, err)
	defer func() { require.NoError(t, ir.Close()) }()
	cr, err := b.Chunks()
	require.NoError(t, err)
	defer func() { require.NoError(t, cr.Close()) }()
	n, v := index.AllPostingsKey()
	ps, err := ir.Postings(t.Context(), n, v)
	require.NoError(t, err)
	var lb labels.ScratchBuilder
	var metas []tsdbchunks.Meta
	for ps.Next() {
		require.NoError(t, ir.Series(ps.At(), &lb, &metas))
		for _, m := range metas {
			c, it, err := cr.ChunkOrIterable(m)
			require.NoError(t, err)
			require.Nil(t, it)
			f(lb.Labels().String(), m, c)
		}
	}
	require.NoError(t, ps.Err())
}

func unpack(t testing.TB) string {
	t.Helper()
	f, err := os.Open("testdata/blocks.tgz")
	require.NoError(t, err)
	defer f.Close()
	zr, err := gzip.NewReader(f)
	require.NoError(t, err)
	dir := t.TempDir()
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		require.NoError(t, err)
		p := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(p, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		b, err := io.ReadAll(tr)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(p, b, 0o644))
	}
}
