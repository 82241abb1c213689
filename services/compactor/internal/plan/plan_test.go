package plan

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

const hour = int64(time.Hour / time.Millisecond)

// epoch is a multiple of 14 days.
const epoch = 1000 * 14 * 24 * hour

var now = time.UnixMilli(epoch + 100*24*hour)

// mk makes a block from hour a to hour b behind epoch.
func mk(n int, a, b int64, change ...func(*Block)) *Block {
	m := &block.Meta{}
	m.ULID = blocktest.ID(time.UnixMilli(epoch+b*hour), uint64(n))
	m.MinTime, m.MaxTime = epoch+a*hour, epoch+b*hour
	m.Compaction.Level, m.Compaction.Sources = 1, []ulid.ULID{m.ULID}
	m.Stats.NumSamples, m.Stats.NumSeries = 100, 10
	m.Thanos.Labels = map[string]string{"cluster": "a"}
	out := &Block{Meta: m, SizeBytes: 1000, IndexBytes: 100}
	for _, c := range change {
		c(out)
	}
	return out
}

func noCompact(b *Block)    { b.NoCompact = true }
func noDownsample(b *Block) { b.NoDownsample = true }
func deleting(b *Block)     { b.Deleting = true }
func failed(b *Block)       { b.Meta.Compaction.Failed = true }
func tombstones(b *Block)   { b.Meta.Stats.NumTombstones = 1 }
func resolution(r int64) func(*Block) {
	return func(b *Block) { b.Meta.Thanos.Downsample.Resolution = r }
}
func index(n int64) func(*Block) { return func(b *Block) { b.IndexBytes = n } }
func labels(v string) func(*Block) {
	return func(b *Block) { b.Meta.Thanos.Labels = map[string]string{"cluster": v} }
}

func sources(of ...*Block) func(*Block) {
	return func(b *Block) {
		b.Meta.Compaction.Sources = nil
		for _, o := range of {
			b.Meta.Compaction.Sources = append(b.Meta.Compaction.Sources, o.Meta.Compaction.Sources...)
		}
	}
}

// two makes 2h blocks from hour a up to hour b.
func two(n int, a, b int64, change ...func(*Block)) []*Block {
	var out []*Block
	for ; a < b; a += 2 {
		out = append(out, mk(n, a, a+2, change...))
		n++
	}
	return out
}

func cat(parts ...[]*Block) []*Block {
	var out []*Block
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// short writes a job as "kind from-to/count>targets", in hours behind epoch.
func short(j *Job) string {
	return fmt.Sprintf("%s %d-%d/%d%v", j.Kind, (j.MinTime-epoch)/hour, (j.MaxTime-epoch)/hour, len(j.Sources), j.Targets)
}

func TestPlans(t *testing.T) {
	t.Parallel()
	aged := mk(1, 0, 336)
	for name, tc := range map[string]struct {
		in       []*Block
		o        Options
		want     []string
		marks    int
		problems []ProblemKind
	}{
		"nothing":                  {},
		"one block":                {in: two(1, 0, 2)},
		"window without successor": {in: two(1, 0, 8)},
		"window with successor":    {in: two(1, 0, 10), want: []string{"compact 0-8/4[0]"}},
		"window with a gap":        {in: cat(two(1, 0, 2), two(5, 6, 10)), want: []string{"compact 0-8/2[0]"}},
		"two windows":              {in: two(1, 0, 18), want: []string{"compact 0-8/4[0]", "compact 8-16/4[0]"}},
		"backlog of two days":      {in: two(1, 0, 50), want: []string{"compact 0-48/24[0]"}},
		"backlog of two weeks":     {in: two(1, 0, 338), want: []string{"compact 0-336/168[0]"}},
		"two weeks and a bit":      {in: two(1, 0, 340), want: []string{"compact 0-336/168[0]"}},
		"two weeks and ten hours":  {in: two(1, 0, 346), want: []string{"compact 0-336/168[0]", "compact 336-344/4[0]"}},
		"mixed levels":             {in: cat([]*Block{mk(1, 0, 8)}, []*Block{mk(2, 8, 16)}, two(3, 16, 50)), want: []string{"compact 0-48/18[0]"}},
		"limited ranges":           {in: two(1, 0, 50), o: Options{Ranges: Ranges()[:3]}, want: []string{"compact 0-8/4[0]", "compact 8-16/4[0]", "compact 16-24/4[0]", "compact 24-32/4[0]", "compact 32-40/4[0]", "compact 40-48/4[0]"}},
		"groups apart":             {in: cat(two(1, 0, 10), two(20, 0, 10, labels("b"))), want: []string{"compact 0-8/4[0]", "compact 0-8/4[0]"}},
		"resolutions apart":        {in: cat(two(1, 0, 2), two(20, 2, 10, resolution(block.Resolution5m))), want: []string{"compact 2-8/3[300000]"}},
		"deleting blocks are gone": {in: cat(two(1, 0, 2), two(2, 2, 8, deleting), two(9, 8, 10))},
		"marked block splits":      {in: cat(two(1, 0, 4), two(5, 4, 6, noCompact), two(7, 6, 10)), want: []string{"compact 0-4/2[0]"}},
		"marked block in between":  {in: cat(two(1, 0, 2), two(5, 2, 4, noCompact), two(7, 4, 10)), want: []string{"compact 4-8/2[0]"}},
		"failed block splits":      {in: cat(two(1, 0, 4), two(5, 4, 6, failed), two(7, 6, 10)), want: []string{"compact 0-4/2[0]"}},
		"marked newest counts":     {in: cat(two(1, 0, 8), two(9, 8, 10, noCompact)), want: []string{"compact 0-8/4[0]"}},
		"overlap refused":          {in: cat(two(1, 0, 2), two(20, 0, 2), two(3, 2, 10)), want: []string{"compact 2-8/3[0]"}, problems: []ProblemKind{ProblemOverlap}},
		"overlap merged":           {in: cat(two(1, 0, 2), two(20, 0, 2)), o: Options{Vertical: true}, want: []string{"vertical 0-2/2[0]"}},
		"replicas in a window":     {in: cat(two(1, 0, 10), two(20, 0, 10)), o: Options{Vertical: true}, want: []string{"compact 0-8/8[0]", "vertical 8-10/2[0]"}},
		"late block":               {in: []*Block{aged, mk(900, 4, 6), mk(2, 336, 338)}, o: Options{Vertical: true}, want: []string{"compact 0-336/2[0]"}},
		"late block, not vertical": {in: []*Block{aged, mk(900, 4, 6), mk(2, 336, 338)}, problems: []ProblemKind{ProblemOverlap}},
		"overlap across windows":   {in: []*Block{mk(1, 0, 4), mk(2, 2, 10), mk(3, 20, 22)}, o: Options{Vertical: true}, want: []string{"vertical 0-10/2[0]"}},
		"downsampled blocks overlap": {
			in: []*Block{mk(1, 0, 48, resolution(block.Resolution5m)), mk(2, 0, 48, resolution(block.Resolution5m)), mk(3, 400, 448, resolution(block.Resolution5m))},
			o:  Options{Vertical: true}, marks: 2,
		},
		"index too large":           {in: cat(two(1, 0, 6), two(5, 6, 8, index(60)), two(9, 8, 10)), o: Options{MaxIndexBytes: 200}, want: []string{"compact 4-8/2[0]"}, marks: 2},
		"index just fits":           {in: cat(two(1, 0, 8, index(10)), two(9, 8, 10)), o: Options{MaxIndexBytes: 50}, want: []string{"compact 0-8/4[0]"}},
		"tombstones":                {in: []*Block{mk(1, 0, 8, tombstones), mk(2, 400, 402)}, want: []string{"rewrite 0-8/1[0]"}},
		"tombstones in a short":     {in: []*Block{mk(1, 0, 2, tombstones), mk(2, 400, 402)}},
		"tombstones in newest":      {in: []*Block{mk(1, 0, 8, tombstones)}},
		"a block from tomorrow":     {in: cat(two(1, 0, 8), []*Block{mk(9, 100*24+48, 100*24+50)}), problems: []ProblemKind{ProblemFuture}},
		"downsampling in passing":   {in: two(1, 0, 50), o: Options{Downsampling: true}, want: []string{"compact 0-48/24[0 300000]"}},
		"both resolutions":          {in: two(1, 0, 338), o: Options{Downsampling: true}, want: []string{"compact 0-336/168[0 300000 3600000]"}},
		"downsample alone":          {in: []*Block{mk(1, 0, 48)}, o: Options{Downsampling: true}, want: []string{"downsample 0-48/1[300000]"}},
		"downsample alone, both":    {in: []*Block{aged}, o: Options{Downsampling: true}, want: []string{"downsample 0-336/1[300000 3600000]"}},
		"39 hours are too short":    {in: []*Block{mk(1, 0, 39)}, o: Options{Downsampling: true}},
		"marked no-downsample":      {in: []*Block{mk(1, 0, 48, noDownsample)}, o: Options{Downsampling: true}},
		"no-compact is downsampled": {in: []*Block{mk(1, 0, 48, noCompact)}, o: Options{Downsampling: true}, want: []string{"downsample 0-48/1[300000]"}},
		"covered by 5m":             {in: []*Block{aged, mk(7, 0, 336, resolution(block.Resolution5m), sources(aged))}, o: Options{Downsampling: true}, want: []string{"downsample 0-336/1[3600000]"}},
		"covered by both":           {in: []*Block{aged, mk(7, 0, 336, resolution(block.Resolution5m), sources(aged)), mk(8, 0, 336, resolution(block.Resolution1h), sources(aged))}, o: Options{Downsampling: true}},
		"to be merged first":        {in: []*Block{mk(1, 0, 48), mk(2, 48, 96), mk(3, 336, 338)}, o: Options{Downsampling: true}, want: []string{"compact 0-96/2[0 300000]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.o.Now = now
			p := Make(tc.in, tc.o)
			var got []string
			for i := range p.Jobs {
				got = append(got, short(&p.Jobs[i]))
			}
			require.Equal(t, tc.want, got)
			require.Len(t, p.Marks, tc.marks)
			var problems []ProblemKind
			for _, pr := range p.Problems {
				problems = append(problems, pr.Kind)
				require.NotEmpty(t, pr.Reason)
			}
			require.Equal(t, tc.problems, problems)
		})
	}
}

func TestSkippedJobsKeepTheirBlocksForThemselves(t *testing.T) {
	t.Parallel()
	in := cat([]*Block{mk(1, 0, 44), mk(2, 44, 48)}, two(50, 48, 50))
	o := Options{Downsampling: true, Now: now}
	p := Make(in, o)
	require.Len(t, p.Jobs, 1)
	key := p.Jobs[0].Key()
	o.Skip = func(k string) bool { return k == key }
	require.Empty(t, Make(in, o).Jobs, "neither merged nor downsampled")
}

func TestKeysTellJobsApart(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, in := range [][]*Block{two(1, 0, 10), two(100, 0, 10), two(1, 0, 50), two(1, 0, 10, labels("b"))} {
		for range 2 { // the same plan twice has the same keys
			p := Make(in, Options{Now: now})
			require.Len(t, p.Jobs, 1)
			seen[p.Jobs[0].Key()] = true
		}
	}
	require.Len(t, seen, 4)
}

func TestRewrittenBlockOutlivesItsSource(t *testing.T) {
	t.Parallel()
	old := mk(1, 0, 8, tombstones)
	left := Apply([]*Block{old, mk(2, 400, 402)}, Make([]*Block{old, mk(2, 400, 402)}, Options{Now: now}))
	require.Len(t, left, 2)
	id := blocktest.ID(now, 77)
	m := ResultMeta(&Job{Kind: Rewrite, Sources: []*Block{old}}, id)
	require.Equal(t, []ulid.ULID{old.ID(), id}, m.Compaction.Sources)
}

func TestDownsampledBlockHasTheCompactionSectionOfItsSource(t *testing.T) {
	t.Parallel()
	src := mk(1, 0, 48)
	src.Meta.Compaction.Level = 4
	m := ResultMeta(&Job{Kind: Downsample, Sources: []*Block{src}}, blocktest.ID(now, 1))
	require.Equal(t, src.Meta.Compaction, m.Compaction)
	require.Equal(t, src.Meta.MinTime, m.MinTime)
	require.Equal(t, src.Meta.MaxTime, m.MaxTime)
}

func TestPlanIsPrintedWithOrderSizeAndTimeLeft(t *testing.T) {
	t.Parallel()
	rounds, _ := Simulate(cat(two(1, 0, 338), two(500, 0, 2, labels("b")), two(501, 0, 2, labels("b"))), Options{Downsampling: true, Now: now})
	var b bytes.Buffer
	require.NoError(t, Print(&b, rounds, 1000, 2))
	text := b.String()
	for _, want := range []string{"1 compactions of 168 blocks, 2 downsampled blocks, 164.1 KiB to read", "estimated time left: 1m24s", `1. compact {cluster="a"} at raw: 168 blocks`, "-> raw, 5m, 1h", "set aside (overlap)"} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 4, strings.Count(text, "\n"), text)
	require.NotContains(t, text, strconv.Itoa(int(epoch)), "times are for people")
}
