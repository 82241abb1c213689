package bucket

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func (b *testBucket) replicate(to *testBucket, args ...string) (out, notes string, err error) {
	b.tb.Helper()
	return b.run(append([]string{"replicate", "--single-run", "--http-address=127.0.0.1:0", "--objstore-to.config-file=" + to.config}, args...)...)
}

func TestReplicateCopiesWholeBlocksWithoutMarkers(t *testing.T) {
	t.Parallel()
	from, to := bucketIn(t, blocktest.RecordedAfter(t)), newTestBucket(t)
	first := from.add(0)
	_, err := block.MarkForDeletion(t.Context(), nil, from, first.ULID, "test", time.Now())
	require.NoError(t, err)
	args := []string{"--compaction-max=5", "--concurrency=3"}

	_, notes, err := from.replicate(to, append(args, "--dry-run")...)
	require.NoError(t, err)
	require.Contains(t, notes, "dry run")
	require.NoDirExists(t, to.dir)

	out, notes, err := from.replicate(to, args...)
	require.NoError(t, err)
	require.Equal(t, 12, strings.Count(out, ": copied"))
	require.Contains(t, notes, "12 blocks (")
	want := from.files()
	maps.DeleteFunc(want, func(name, _ string) bool { return path.Base(name) == block.DeletionMarkFilename })
	require.Empty(t, cmp.Diff(want, to.files()))

	out, notes, err = from.replicate(to, args...)
	require.NoError(t, err)
	require.Empty(t, out)
	require.Contains(t, notes, "0 blocks (0 objects) copied, 12 there already")
}

func TestReplicateGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	from, to := newTestBucket(t), newTestBucket(t)
	m := from.add(0)
	faulty := to.config + ".faulty"
	text, err := os.ReadFile(to.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(faulty, append(text, "faults:\n  rules:\n    - {operations: [upload], name: index, error: error}\n"...), 0o600))
	_, _, err = from.run("replicate", "--single-run", "--http-address=127.0.0.1:0", "--objstore-to.config-file="+faulty)
	require.ErrorContains(t, err, "copy block "+m.ULID.String())
	require.Equal(t, []string{m.ULID.String() + "/chunks/000001"}, slices.Collect(maps.Keys(to.files())), "more than chunks before the index")

	out, _, err := from.replicate(to)
	require.NoError(t, err)
	require.Contains(t, out, "copied, 2 objects")
	require.Empty(t, cmp.Diff(from.files(), to.files()))
}

func TestReplicateKeepsFromTheOthersWhatFails(t *testing.T) {
	t.Parallel()
	from, to := newTestBucket(t), newTestBucket(t)
	good := from.add(1)
	bare := from.addBroken(2, "bare", nil, nil)
	spoil(t, from.path(bare.ULID, block.MetaFilename), func(c []byte) []byte {
		return []byte(strings.Replace(string(c), `"seeded": "bare"`, "", 1))
	})
	missing := blocktest.ID(time.Unix(1000, 0), 1)

	_, notes, err := from.replicate(to)
	require.NoError(t, err)
	require.Contains(t, notes, bare.ULID.String()+": has no external labels")
	require.Contains(t, notes, "1 block (3 objects) copied, 0 there already, 1 refused")

	_, _, err = from.replicate(to, "--id="+missing.String(), "--id="+bare.ULID.String(), "--id="+good.ULID.String())
	require.ErrorContains(t, err, missing.String())
	require.ErrorIs(t, err, block.ErrNoLabels)
}

func TestReplicateSelection(t *testing.T) {
	t.Parallel()
	metas := map[ulid.ULID]*block.Meta{}
	add := func(n uint64, level int, resolution int64, cluster string) {
		m := &block.Meta{}
		m.ULID, m.Compaction.Level, m.Thanos.Downsample.Resolution = blocktest.ID(time.Unix(1000, 0), n), level, resolution
		m.MinTime = 100 - int64(n)
		m.Thanos.Labels = map[string]string{"cluster": cluster}
		metas[m.ULID] = m
	}
	add(1, 1, 0, "a")
	add(2, 4, 0, "b")
	add(3, 5, block.Resolution5m, "b")
	add(4, 4, block.Resolution1h, "a")
	for name, test := range map[string]struct {
		change func(*replicateConfig)
		want   []uint64
	}{
		"levels 1 to 4 by default, oldest first": {func(*replicateConfig) {}, []uint64{4, 2, 1}},
		"levels up to another":                   {func(c *replicateConfig) { c.compactionMax = 5 }, []uint64{4, 3, 2, 1}},
		"listed levels override the range":       {func(c *replicateConfig) { c.compactions = []string{"5", "1"} }, []uint64{3, 1}},
		"one resolution":                         {func(c *replicateConfig) { c.resolutions = []string{"0s"} }, []uint64{2, 1}},
		"a matcher":                              {func(c *replicateConfig) { c.matchers = []string{`cluster!="a"`} }, []uint64{2}},
		"several matchers": {func(c *replicateConfig) {
			c.matchers = []string{`{cluster=~"a|b", cluster!="b"}`}
		}, []uint64{4, 1}},
		"ids override all": {func(c *replicateConfig) {
			c.ids = []string{blocktest.ID(time.Unix(1000, 0), 3).String()}
		}, []uint64{3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &replicateConfig{resolutions: []string{"0s", "5m", "1h"}, compactionMin: 1, compactionMax: 4}
			test.change(c)
			s, err := c.selection()
			require.NoError(t, err)
			var got []uint64
			chosen, refused := s.choose(metas)
			require.Empty(t, refused)
			for _, m := range chosen {
				got = append(got, uint64(100-m.MinTime))
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestMatchersAreReadAsAlertmanagerDoes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`a=b`:                   {`a="b"`},
		`a="b"`:                 {`a="b"`},
		`{a="b",c!~"d.*",}`:     {`a="b"`, `c!~"d.*"`},
		` a = "x, \"y" , b!=z `: {`a="x, \"y"`, `b!="z"`},
		`a=`:                    {`a=""`},
	} {
		ms, err := parseMatchers(text)
		require.NoError(t, err, text)
		var got []string
		for _, m := range ms {
			got = append(got, m.String())
		}
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{``, `{}`, `a`, `{a="b"`, `a="b`, `1a="b"`, `a=~"("`, `a="b"c`} {
		_, err := parseMatchers(text)
		require.Error(t, err, text)
	}
}

func FuzzParseMatchers(f *testing.F) {
	f.Add(`{a="b",c!~"d.*"}`)
	f.Add(`a=b`)
	f.Fuzz(func(t *testing.T, text string) {
		ms, err := parseMatchers(text)
		if err != nil {
			return
		}
		var parts []string
		for _, m := range ms {
			parts = append(parts, m.String())
		}
		again, err := parseMatchers(strings.Join(parts, ","))
		require.NoError(t, err, "%q", parts)
		require.Len(t, again, len(ms))
		for i := range ms {
			require.Equal(t, ms[i].String(), again[i].String())
		}
	})
}
