package bucket

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

// seeds are blocks each of which is wrong in one way.
type seeds struct {
	want                                   []string // "issue block", sorted
	repeated, outside, impostor, duplicate ulid.ULID
}

// seed puts faults of every kind into a bucket.
func seed(b *testBucket) seeds {
	var s seeds
	expect := func(m *block.Meta, issues ...string) ulid.ULID {
		for _, issue := range issues {
			s.want = append(s.want, issue+" "+m.ULID.String())
		}
		return m.ULID
	}
	cut := func(n int) func([]byte) []byte { return func(c []byte) []byte { return c[:n] } }

	s.repeated = expect(b.addBroken(0, "repeated", twice, nil), issueIndex)
	s.outside = expect(b.addBroken(1, "outside", nil, func(m *block.Meta) { m.MaxTime = m.MinTime + hour }), issueIndex)
	s.impostor = expect(b.addBroken(2, "impostor", impostor, nil), issueIndex)
	expect(b.addBroken(3, "out of order", swapped, nil), issueIndex)
	expect(b.addBroken(4, "reaching", nil, func(m *block.Meta) { m.MaxTime = m.MinTime + hour/4 }), issueIndex)
	expect(b.addBroken(5, "miscounted", nil, func(m *block.Meta) { m.Stats.NumSeries = 99 }), issueIndex)

	m := b.add(6, own("cut index"))
	spoil(b.tb, b.path(m.ULID, block.IndexFilename), cut(100))
	expect(m, issueIndex, issueFiles)

	m = b.add(7, own("flipped byte"))
	spoil(b.tb, b.path(m.ULID, block.IndexFilename), func(c []byte) []byte {
		at := strings.LastIndex(string(c[:len(c)/2]), "series") // among the symbols
		c[at+1] ^= 0xff
		return c
	})
	expect(m, issueIndex)

	m = b.add(8, own("no segment"))
	require.NoError(b.tb, os.Remove(b.path(m.ULID, "chunks/000001")))
	expect(m, issueIndex, issueFiles)

	m = b.add(9, own("cut segment"))
	spoil(b.tb, b.path(m.ULID, "chunks/000001"), cut(9))
	expect(m, issueIndex, issueFiles)

	m = b.add(10, own("no index"))
	require.NoError(b.tb, os.Remove(b.path(m.ULID, block.IndexFilename)))
	expect(m, issueIndex, issueFiles)

	b.add(11, own("overlap"))
	m = b.add(11, own("overlap"), func(s *blocktest.Spec) {
		s.MinTime += hour
		s.MaxTime += hour
		s.ID = blocktest.ID(time.UnixMilli(s.MaxTime), 1100)
	})
	expect(m, issueOverlaps)

	first := b.add(12, own("copy"))
	m = b.add(12, own("copy"), func(s *blocktest.Spec) {
		s.ID, s.Sources = blocktest.ID(time.UnixMilli(s.MaxTime), 1200), []ulid.ULID{first.ULID}
	})
	s.duplicate = expect(m, issueOverlaps, issueDuplicates)

	first = b.add(13, own("same sources"))
	m = b.add(13, own("same sources"), func(s *blocktest.Spec) {
		s.ID, s.Sources, s.Floats = blocktest.ID(time.UnixMilli(s.MaxTime), 1300), []ulid.ULID{first.ULID}, 4
	})
	expect(m, issueOverlaps, issueDuplicates)

	m = b.add(14, own("no meta"))
	require.NoError(b.tb, os.Remove(b.path(m.ULID, block.MetaFilename)))
	expect(m, issueMeta)

	m = b.add(15, own("broken meta"))
	spoil(b.tb, b.path(m.ULID, block.MetaFilename), cut(20))
	expect(m, issueMeta)

	// What is to be deleted anyway is nobody's trouble.
	m = b.addBroken(16, "marked", twice, nil)
	_, err := block.MarkForDeletion(b.tb.Context(), nil, b, m.ULID, "test", time.Now())
	require.NoError(b.tb, err)

	slices.Sort(s.want)
	return s
}

func everyIssue() []string {
	args := []string{"verify", "--output=json"}
	for _, issue := range issueNames() {
		args = append(args, "--issues="+issue)
	}
	return args
}

func parseFindings(t *testing.T, out string) (fs []finding, keys []string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var f finding
		require.NoError(t, json.Unmarshal([]byte(line), &f))
		require.NotEmpty(t, f.Problem)
		fs = append(fs, f)
		keys = append(keys, f.Issue+" "+f.Block)
	}
	slices.Sort(keys)
	return fs, keys
}

func TestVerifyFindsNothingInRecordedBuckets(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"before compaction": blocktest.RecordedBefore(t), "after": blocktest.RecordedAfter(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, notes, err := bucketIn(t, dir).run(append(everyIssue(), "--exit-code")...)
			require.NoError(t, err)
			require.Empty(t, out)
			require.Contains(t, notes, ": 0 problems")
		})
	}
}

func TestVerifyFindsExactlyWhatIsSeeded(t *testing.T) {
	t.Parallel()
	b := bucketIn(t, blocktest.RecordedAfter(t))
	s := seed(b)
	before := b.files()

	out, notes, err := b.run(everyIssue()...)
	require.NoError(t, err)
	_, keys := parseFindings(t, out)
	require.Empty(t, cmp.Diff(s.want, keys))
	require.Contains(t, notes, "1 blocks marked for deletion passed over")
	require.Empty(t, cmp.Diff(before, b.files()), "looking changed the bucket")

	_, _, err = b.run(append(everyIssue(), "--exit-code")...)
	require.ErrorContains(t, err, "problems found and not repaired")

	out, _, err = b.run("verify", "--output=json")
	require.NoError(t, err)
	_, keys = parseFindings(t, out)
	byDefault := slices.DeleteFunc(slices.Clone(s.want), func(k string) bool {
		return !strings.HasPrefix(k, issueIndex) && !strings.HasPrefix(k, issueOverlaps)
	})
	require.Empty(t, cmp.Diff(byDefault, keys))

	out, _, err = b.run("verify", "--output=json", "--id="+s.repeated.String())
	require.NoError(t, err)
	fs, _ := parseFindings(t, out)
	require.Equal(t, []finding{{Issue: issueIndex, Block: s.repeated.String(), Problem: "3 repeated chunks"}}, fs)
}

func TestVerifyRepairsExactlyWhatCanBe(t *testing.T) {
	t.Parallel()
	b, backup := bucketIn(t, blocktest.RecordedAfter(t)), newTestBucket(t)
	s := seed(b)
	before, samples := b.files(), b.samplesOf(s.outside)
	repair := append(everyIssue(), "--repair", "--objstore-backup.config-file="+backup.config)

	out, _, err := b.run(append(repair, "--dry-run")...)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(out, `"repair":"would be written`)) // the impostor shows only when its data is read
	require.Empty(t, cmp.Diff(before, b.files()), "a dry run changed the bucket")
	require.NoDirExists(t, backup.dir)

	out, notes, err := b.run(repair...)
	require.ErrorContains(t, err, s.impostor.String())
	require.ErrorContains(t, err, "hold different samples")
	fs, _ := parseFindings(t, out)
	var repaired []string
	for _, f := range fs {
		require.NotEmpty(t, f.Repair, f)
		if strings.HasPrefix(f.Repair, "repaired") {
			repaired = append(repaired, f.Block)
		}
	}
	require.ElementsMatch(t, []string{s.repeated.String(), s.outside.String(), s.duplicate.String()}, repaired)
	require.Contains(t, notes, "3 of them repaired")

	after, saved := b.files(), backup.files()
	for name, content := range before {
		id, rel, _ := block.SplitObject(name)
		if slices.Contains(repaired, id.String()) {
			require.NotContains(t, after, name)
			require.Equal(t, content, saved[name], "%s of %s is not in the backup", rel, id)
			continue
		}
		require.Equal(t, content, after[name], "%s was touched", name)
	}

	out, _, err = b.run(everyIssue()...)
	require.NoError(t, err)
	_, keys := parseFindings(t, out)
	left := slices.DeleteFunc(s.want, func(k string) bool {
		return slices.ContainsFunc(repaired, func(id string) bool { return strings.HasSuffix(k, id) })
	})
	require.Empty(t, cmp.Diff(left, keys))

	replacement := findReplacement(t, b, s.outside)
	require.Equal(t, block.SourceBucketRepair, replacement.Thanos.Source)
	require.Equal(t, uint64(3*2*120), replacement.Stats.NumSamples)
	for series, all := range b.samplesOf(replacement.ULID) {
		require.Equal(t, samples[series][:240], all, series)
	}
}

func findReplacement(t *testing.T, b *testBucket, of ulid.ULID) *block.Meta {
	t.Helper()
	var found []*block.Meta
	require.NoError(t, b.Iter(t.Context(), "", func(name string) error {
		id, ok := block.ParseID(strings.TrimSuffix(name, "/"))
		if !ok {
			return nil
		}
		m, err := block.FetchMeta(t.Context(), b, id)
		if err == nil && len(m.Compaction.Parents) == 1 && m.Compaction.Parents[0].ULID == of {
			found = append(found, m)
		}
		return nil
	}))
	require.Len(t, found, 1)
	return found[0]
}

func TestRepairGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	b, backup := newTestBucket(t), newTestBucket(t)
	ill := b.addBroken(0, "repeated", twice, nil)
	args := []string{"verify", "--repair", "--objstore-backup.config-file=" + backup.config}
	faulty := b.config + ".faulty"
	text, err := os.ReadFile(b.config)
	require.NoError(t, err)
	faults := "faults:\n  rules:\n    - operations: [delete]\n      error: error\n"
	require.NoError(t, os.WriteFile(faulty, append(text, faults...), 0o600))

	_, _, err = runArgs(t.Context(), append(args, "--objstore.config-file="+faulty)...)
	require.ErrorContains(t, err, ill.ULID.String())
	first := findReplacement(t, b, ill.ULID)

	_, _, err = b.run(args...)
	require.NoError(t, err)
	require.Equal(t, first.ULID, findReplacement(t, b, ill.ULID).ULID)
	exists, err := block.Exists(t.Context(), b, ill.ULID)
	require.NoError(t, err)
	require.False(t, exists)
}

func TestRepairMarksWithADeleteDelay(t *testing.T) {
	t.Parallel()
	b, backup := newTestBucket(t), newTestBucket(t)
	ill := b.addBroken(0, "repeated", twice, nil)
	_, _, err := b.run("verify", "--repair", "--delete-delay=48h", "--objstore-backup.config-file="+backup.config)
	require.NoError(t, err)
	mark, err := block.ReadDeletionMark(t.Context(), b, ill.ULID)
	require.NoError(t, err)
	require.Equal(t, "repaired as "+findReplacement(t, b, ill.ULID).ULID.String(), mark.Details)
}

func TestRepairRefusesTheBucketItselfAsBackup(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	b.addBroken(0, "repeated", twice, nil)
	before := b.files()
	other := b.config + ".same"
	require.NoError(t, os.WriteFile(other, []byte("type: filesystem\nconfig: {directory: "+b.dir+"/.}\n"), 0o600))
	_, _, err := b.run("verify", "--repair", "--objstore-backup.config-file="+other)
	require.ErrorContains(t, err, "--objstore-backup.config")
	require.Empty(t, cmp.Diff(before, b.files()))
	_, _, err = b.run("verify", "--repair")
	require.ErrorContains(t, err, "--objstore-backup.config")
}

func TestOverlapsNameBothBlocksAndTheTime(t *testing.T) {
	t.Parallel()
	meta := func(n uint64, from, until, resolution int64, cluster string) *block.Meta {
		m := &block.Meta{}
		m.ULID, m.MinTime, m.MaxTime = blocktest.ID(time.Unix(1000, 0), n), from*hour, until*hour
		m.Thanos.Labels, m.Thanos.Downsample.Resolution = map[string]string{"cluster": cluster}, resolution
		return m
	}
	long, inside, after := meta(1, 0, 8, 0, "a"), meta(2, 2, 4, 0, "a"), meta(3, 8, 10, 0, "a")
	metas := map[ulid.ULID]*block.Meta{}
	for _, m := range []*block.Meta{long, inside, after, meta(4, 0, 8, block.Resolution5m, "a"), meta(5, 0, 8, 0, "b")} {
		metas[m.ULID] = m
	}
	require.Equal(t, []finding{{
		Issue: issueOverlaps, Block: inside.ULID.String(),
		Problem: "overlaps " + long.ULID.String() + " from 1970-01-01T02:00:00Z to 1970-01-01T04:00:00Z in the group cluster=a at resolution 0s",
	}}, findOverlaps(metas))
}

func FuzzCheckIndexSurvivesAnyBytes(f *testing.F) {
	dir := f.TempDir()
	m := blocktest.Create(f, dir, blocktest.Spec{Floats: 2})
	good, err := os.ReadFile(dir + "/" + m.ULID.String() + "/" + block.IndexFilename)
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		path := t.TempDir() + "/index"
		require.NoError(t, os.WriteFile(path, content, 0o600))
		h := checkIndex(t.Context(), path, m, map[string]int64{"chunks/000001": 1 << 20})
		if string(content) != string(good) && h.problem() == "" && h.series != m.Stats.NumSeries {
			t.Fatal("another number of series is no problem")
		}
	})
}

func TestJudgeKnowsEveryKindOfWrongChunk(t *testing.T) {
	t.Parallel()
	m := &block.Meta{}
	m.MinTime, m.MaxTime = 100, 200
	for name, test := range map[string]struct {
		prev *chunks.Meta
		c    chunks.Meta
		want verdict
	}{
		"the first":                    {nil, chunks.Meta{MinTime: 100, MaxTime: 150}, keep},
		"the next":                     {&chunks.Meta{MinTime: 100, MaxTime: 150}, chunks.Meta{MinTime: 151, MaxTime: 199}, keep},
		"after the block":              {nil, chunks.Meta{MinTime: 200, MaxTime: 200}, outside},
		"before the block":             {nil, chunks.Meta{MinTime: 10, MaxTime: 99}, outside},
		"over the end":                 {nil, chunks.Meta{MinTime: 150, MaxTime: 250}, other},
		"over the begin":               {nil, chunks.Meta{MinTime: 99, MaxTime: 150}, other},
		"reversed":                     {nil, chunks.Meta{MinTime: 150, MaxTime: 140}, other},
		"repeated":                     {&chunks.Meta{MinTime: 100, MaxTime: 150}, chunks.Meta{MinTime: 100, MaxTime: 150}, repeated},
		"overlapping by one timestamp": {&chunks.Meta{MinTime: 100, MaxTime: 150}, chunks.Meta{MinTime: 150, MaxTime: 199}, other},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h health
			require.Equal(t, test.want, h.judge(m, test.prev, test.c))
		})
	}
}
