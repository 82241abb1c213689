package fetch_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

func input(now time.Time, metas ...*block.Meta) fetch.Input {
	in := fetch.Input{Metas: map[ulid.ULID]*block.Meta{}, Now: now}
	for _, m := range metas {
		in.Metas[m.ULID] = m
	}
	return in
}

func excluded(ids map[int]fetch.State) map[ulid.ULID]fetch.State {
	var out map[ulid.ULID]fetch.State
	for n, s := range ids {
		if out == nil {
			out = map[ulid.ULID]fetch.State{}
		}
		out[id(n)] = s
	}
	return out
}

func TestTimePartitionTouchesBothEnds(t *testing.T) {
	t.Parallel()
	span := func(lo, hi int64) func(*block.Meta) {
		return func(m *block.Meta) { m.MinTime, m.MaxTime = lo, hi }
	}
	now := epoch
	f := fetch.TimePartition(func(n time.Time) int64 { require.Equal(t, now, n); return 100 }, at(200))
	out := f.Decide(input(now, meta(1, span(0, 99)), meta(2, span(0, 100)), meta(3, span(120, 130)),
		meta(4, span(200, 300)), meta(5, span(201, 300)), meta(6, span(0, 500))))
	require.Equal(t, excluded(map[int]fetch.State{1: fetch.StateTimeExcluded, 5: fetch.StateTimeExcluded}), out.Excluded)
}

func TestConsistencyDelayExemptsWhatWasInTheBucketBefore(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	f := fetch.ConsistencyDelay(30*time.Minute, reg)
	require.EqualValues(t, 1800, testutil.ToFloat64(counter(t, reg, "thanos_consistency_delay_seconds")))
	source := func(s block.Source) func(*block.Meta) { return func(m *block.Meta) { m.Thanos.Source = s } }
	uploaded := func(at time.Time) func(*block.Meta) { return func(m *block.Meta) { m.Thanos.UploadTime = at } }
	now := epoch.Add(29 * time.Minute)
	metas := []*block.Meta{
		meta(1), meta(2, source(block.SourceCompactor)), meta(3, source(block.SourceCompactorRepair)),
		meta(4, source(block.SourceBucketRepair)), meta(5, source(block.SourceBucketRewrite)),
		meta(6, uploaded(epoch.Add(-time.Hour))), meta(7, uploaded(epoch.Add(25*time.Minute))),
	}
	out := f.Decide(input(now, metas...))
	fresh := fetch.StateTooFresh
	require.Equal(t, excluded(map[int]fetch.State{1: fresh, 5: fresh, 7: fresh}), out.Excluded)
	out = f.Decide(input(epoch.Add(30*time.Minute), metas...))
	require.Equal(t, excluded(map[int]fetch.State{7: fresh}), out.Excluded, "the delay itself is old enough")
}

func TestIgnoreDeletionMarkWaitsForTheDelay(t *testing.T) {
	t.Parallel()
	f := fetch.IgnoreDeletionMark(24 * time.Hour)
	require.Equal(t, fetch.DeletionMarks, f.Needs)
	in := input(epoch, meta(1), meta(2), meta(3))
	in.Marks.Deletion = map[ulid.ULID]*block.DeletionMark{
		id(1): {DeletionTime: epoch.Add(-24 * time.Hour).Unix()},
		id(2): {DeletionTime: epoch.Add(-24*time.Hour + time.Second).Unix()},
	}
	require.Equal(t, excluded(map[int]fetch.State{1: fetch.StateMarkedForDeletion}), f.Decide(in).Excluded)
}

func TestDeduplicateKeepsTheBlockWithMoreSources(t *testing.T) {
	t.Parallel()
	from := func(ns ...int) func(*block.Meta) {
		return func(m *block.Meta) {
			m.Compaction.Sources = nil
			for _, n := range ns {
				m.Compaction.Sources = append(m.Compaction.Sources, id(n))
			}
			m.Thanos.Labels = map[string]string{"a": "1"}
		}
	}
	resolution := func(m *block.Meta) { m.Thanos.Downsample.Resolution = block.Resolution5m }
	other := func(m *block.Meta) { m.Thanos.Labels = map[string]string{"a": "2"} }
	for name, tc := range map[string]struct {
		metas []*block.Meta
		gone  []int
	}{
		"sources of a compacted block":       {[]*block.Meta{meta(1, from(1)), meta(2, from(2)), meta(9, from(1, 2))}, []int{1, 2}},
		"same sources, smaller ULID stays":   {[]*block.Meta{meta(5, from(1, 2)), meta(6, from(2, 1))}, []int{6}},
		"overlapping sources, both stay":     {[]*block.Meta{meta(5, from(1, 2)), meta(6, from(2, 3))}, nil},
		"covered only by two together stays": {[]*block.Meta{meta(5, from(1, 2, 3)), meta(6, from(3, 4, 5)), meta(7, from(2, 4))}, nil},
		"another resolution":                 {[]*block.Meta{meta(1, from(1)), meta(9, from(1, 2), resolution)}, nil},
		"other labels":                       {[]*block.Meta{meta(1, from(1)), meta(9, from(1, 2), other)}, nil},
		"chain":                              {[]*block.Meta{meta(1, from(1)), meta(2, from(1, 2)), meta(3, from(1, 2, 3))}, []int{1, 2}},
		"no sources named":                   {[]*block.Meta{meta(1, from()), meta(2, from()), meta(9, from(1, 3))}, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := map[int]fetch.State{}
			for _, n := range tc.gone {
				want[n] = fetch.StateDuplicate
			}
			require.Equal(t, excluded(want), fetch.Deduplicate().Decide(input(epoch, tc.metas...)).Excluded)
		})
	}
}

// TestDeduplicateLosesNoSource checks the promise the rule stands on, on random groups:
// every source of an excluded block is in one block that stays.
func TestDeduplicateLosesNoSource(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var metas []*block.Meta
		for n := range 1 + rnd.IntN(12) {
			metas = append(metas, meta(100+n, func(m *block.Meta) {
				m.Thanos.Labels = map[string]string{"a": "1"}
				m.Compaction.Sources = nil
				for range 1 + rnd.IntN(4) {
					m.Compaction.Sources = append(m.Compaction.Sources, id(rnd.IntN(6)))
				}
			}))
		}
		in := input(epoch, metas...)
		out := fetch.Deduplicate().Decide(in)
		covers := func(a, b *block.Meta) bool {
			have := map[ulid.ULID]bool{}
			for _, s := range a.Compaction.Sources {
				have[s] = true
			}
			for _, s := range b.Compaction.Sources {
				if !have[s] {
					return false
				}
			}
			return true
		}
		for _, m := range metas {
			covered := false
			for _, k := range metas {
				if _, gone := out.Excluded[k.ULID]; !gone && k != m && covers(k, m) {
					covered = true
				}
			}
			_, gone := out.Excluded[m.ULID]
			require.Equal(t, covered, gone, "%v", m.Compaction.Sources)
		}
	}
}

func TestRemoveReplicaLabels(t *testing.T) {
	t.Parallel()
	lset := func(kv ...string) func(*block.Meta) {
		return func(m *block.Meta) {
			m.Thanos.Labels = map[string]string{}
			for i := 0; i < len(kv); i += 2 {
				m.Thanos.Labels[kv[i]] = kv[i+1]
			}
		}
	}
	in := input(epoch, meta(1, lset("c", "x", "replica", "r0")), meta(2, lset("c", "x")), meta(3, lset("replica", "r0", "rule_replica", "b")))
	out := fetch.RemoveReplicaLabels("rule_replica", "replica").Decide(in)
	require.Empty(t, out.Excluded)
	require.Equal(t, map[fetch.Modification]int{fetch.ModifiedReplicaLabelRemoved: 2}, out.Modified)
	require.Len(t, out.Replaced, 2)
	require.Equal(t, map[string]string{"c": "x"}, out.Replaced[id(1)].Thanos.Labels)
	require.Equal(t, map[string]string{"rule_replica": "deduped"}, out.Replaced[id(3)].Thanos.Labels)
	require.Len(t, in.Metas[id(1)].Thanos.Labels, 2, "the input is shared")
	require.Empty(t, fetch.RemoveReplicaLabels().Decide(in).Replaced)
}

func TestRelabelShard(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rules string
		gone  []int
	}{
		"none":           {"[]", nil},
		"keep by label":  {"- {action: keep, source_labels: [replica], regex: r1}", []int{0, 2}},
		"drop by label":  {"- {action: drop, source_labels: [replica], regex: r1}", []int{1, 3}},
		"by block":       {"- {action: keep, source_labels: [__block_id], regex: " + id(2).String() + "}", []int{0, 1, 3}},
		"hashmod shards": {"- {action: hashmod, source_labels: [replica], target_label: shard, modulus: 1}\n- {action: keep, source_labels: [shard], regex: 0}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, err := fetch.ParseRelabelShard([]byte(tc.rules))
			require.NoError(t, err)
			want := map[int]fetch.State{}
			for _, n := range tc.gone {
				want[n] = fetch.StateLabelExcluded
			}
			out := fetch.RelabelShard(rules).Decide(input(epoch, meta(0), meta(1), meta(2), meta(3)))
			require.Equal(t, excluded(want), out.Excluded)
		})
	}
}

func TestRelabelRulesThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{
		"- {action: replace, target_label: x}":       `rule 1: action "replace" is not supported`,
		"- {action: keep}\n- {source_labels: [a]}":   `rule 2: action "replace" is not supported`,
		"- {action: hashmod, source_labels: [a]}":    "requires non-zero modulus",
		"- {action: keep, regex: '('}":               "missing closing )",
		"- {action: keep, source_label: [a]}":        "field source_label not found",
		"action: keep":                               "line 1",
		"- {action: keep, source_labels: [a]}\n- [x": "line 1",
		"- {action: keep, source_labels: [a]}\n-\n":  "rule 2 is empty",
	} {
		_, err := fetch.ParseRelabelShard([]byte(rules))
		require.ErrorContains(t, err, want, rules)
	}
}

func TestParquetMigratedLooksAtOneMember(t *testing.T) {
	t.Parallel()
	ext := func(s string) func(*block.Meta) {
		return func(m *block.Meta) { m.Thanos.Extensions = []byte(s) }
	}
	out := fetch.ParquetMigrated().Decide(input(epoch, meta(1, ext(`{"parquet_migrated":true}`)), meta(2, ext(`{"parquet_migrated":false}`)),
		meta(3), meta(4, ext(`[1]`)), meta(5, ext(`{"parquet_migrated":"yes"}`))))
	require.Equal(t, excluded(map[int]fetch.State{1: fetch.StateParquetMigrated}), out.Excluded)
}

func parquetMeta(ids ...ulid.ULID) string {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, 1)
	for _, i := range ids {
		b = protowire.AppendTag(b, 6, protowire.BytesType)
		b = protowire.AppendString(b, i.String())
	}
	return string(b)
}

func TestParquetConvertedHidesOnlyWholeBlocks(t *testing.T) {
	t.Parallel()
	day := func(from, to int64) func(*block.Meta) {
		return func(m *block.Meta) { m.MinTime, m.MaxTime = from, to }
	}
	d0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	const d = 24 * 3600 * 1000
	pq := objstore.NewInMemBucket()
	putRaw(t, pq, "2026/01/01/meta.pb", parquetMeta(id(1), id(2), id(3)))
	putRaw(t, pq, "2026/01/02/meta.pb", parquetMeta(id(2)))
	putRaw(t, pq, "2026/01/01/0.labels.parquet", "x")
	putRaw(t, pq, "elsewhere/meta.pb", parquetMeta(id(4)))

	bkt := objstore.NewInMemBucket()
	put(t, bkt, meta(1, day(d0, d0+d)))
	put(t, bkt, meta(2, day(d0+d/2, d0+2*d)))
	put(t, bkt, meta(3, day(d0, d0+d+1)))
	put(t, bkt, meta(4, day(d0, d0+d)))
	hooked := &blocktest.Hooked{Bucket: pq}
	f := newBase(t, bkt, fetch.Config{}, nil).NewFetcher(nil, fetch.ParquetConverted(hooked))
	want := excluded(map[int]fetch.State{1: fetch.StateParquetConverted, 2: fetch.StateParquetConverted})
	res, err := f.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, res.Excluded)

	// While the other bucket is away, what it said holds; the failure is told.
	hooked.Hook = blocktest.KillAt(1)
	res, err = f.Fetch(t.Context())
	var partial *fetch.PartialError
	require.ErrorAs(t, err, &partial)
	require.ErrorContains(t, err, "parquet converted")
	require.Equal(t, want, res.Excluded)

	hooked.Hook = nil
	putRaw(t, pq, "2026/01/03/meta.pb", "\xff")
	_, err = f.Fetch(t.Context())
	require.ErrorContains(t, err, "2026/01/03/meta.pb")
}
