package block_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

const idText = "01M83WSTYAPSSY2NT7K45FA41G"

func mustID(t testing.TB, s string) ulid.ULID {
	t.Helper()
	id, ok := block.ParseID(s)
	require.True(t, ok, s)
	return id
}

func TestParseIDTakesCanonicalTextOnly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		idText:                           true,
		strings.ToLower(idText):          false,
		idText[:25]:                      false,
		idText + "0":                     false,
		"01M83WSTYAPSSY2NT7K45FA41U":     false, // U is not in the alphabet
		"81M83WSTYAPSSY2NT7K45FA41G":     false, // beyond 128 bits
		"":                               false,
		"debug":                          false,
		"01M83WSTYAPSSY2NT7K45FA41G.tmp": false,
	} {
		_, ok := block.ParseID(text)
		require.Equal(t, want, ok, text)
	}
}

func TestSplitObjectTellsBlocksFromStrangers(t *testing.T) {
	t.Parallel()
	id, rel, ok := block.SplitObject(idText + "/chunks/000001")
	require.True(t, ok)
	require.Equal(t, idText, id.String())
	require.Equal(t, "chunks/000001", rel)
	_, _, ok = block.SplitObject("debug/metas/" + idText + ".json")
	require.False(t, ok)
}

// metaDirs returns the block folders of both recorded buckets.
func metaDirs(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{blocktest.RecordedBefore(t), blocktest.RecordedAfter(t)} {
		found, err := filepath.Glob(filepath.Join(dir, "*", block.MetaFilename))
		require.NoError(t, err)
		for _, f := range found {
			out = append(out, filepath.Dir(f))
		}
	}
	require.Greater(t, len(out), 300)
	return out
}

func TestRecordedMetasKeepEveryValueWhenWrittenAnew(t *testing.T) {
	t.Parallel()
	for _, dir := range metaDirs(t) {
		m, err := block.ReadMetaDir(dir)
		require.NoError(t, err)
		again, err := m.Encode()
		require.NoError(t, err)

		raw, err := os.ReadFile(filepath.Join(dir, block.MetaFilename))
		require.NoError(t, err)
		var want, got map[string]any
		require.NoError(t, json.Unmarshal(raw, &want))
		require.NoError(t, json.Unmarshal(again, &got))
		require.Empty(t, cmp.Diff(want, only(got, want)), dir)

		back, err := block.ParseMeta(again)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(m, back))
		require.Nil(t, m.Unknown)
	}
}

// only drops the members of got that want does not have: those always written.
func only(got, want map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range got {
		w, ok := want[k]
		if !ok {
			continue
		}
		gm, ok1 := v.(map[string]any)
		wm, ok2 := w.(map[string]any)
		if ok1 && ok2 {
			v = only(gm, wm)
		}
		out[k] = v
	}
	return out
}

const fullMeta = `{
	"ulid": "01M83WSTYAPSSY2NT7K45FA41G",
	"minTime": 1, "maxTime": 2,
	"stats": {"numSamples": 7, "numFloatSamples": 4, "numHistogramSamples": 3, "numSeries": 2, "numChunks": 2, "numTombstones": 1, "numExemplars": 9},
	"compaction": {"level": 2, "sources": ["01M83WSTYAPSSY2NT7K45FA41G"], "failed": true, "deletable": true, "hints": ["from-out-of-order"],
		"parents": [{"ulid": "01M83WSSPQD8WKNMAJ9NZX48FG", "minTime": 1, "maxTime": 2}], "lane": {"n": 1}},
	"version": 1,
	"vendor": [1, {"a": null}],
	"thanos": {
		"version": 1,
		"labels": {"a": "b<c>"},
		"downsample": {"resolution": 300000, "kind": "new"},
		"source": "bucket.rewrite",
		"segment_files": ["000001"],
		"files": [{"rel_path": "index", "size_bytes": 10, "hash": {"hashFunc": "SHA256", "value": "aa"}}, {"rel_path": "meta.json"}],
		"rewrites": [{"sources": ["01M83WSSPQD8WKNMAJ9NZX48FG"],
			"deletions_applied": [{"matchers": [{"Type": 0, "Name": "x", "Value": "y"}], "intervals": [{"Mint": 1, "Maxt": 2}], "request_id": "r"}],
			"relabels_applied": [{"action": "drop", "regex": "x", "unheard_of": 1}]}],
		"index_stats": {"series_max_size": 48, "chunk_max_size": 100, "postings_max_size": 5},
		"extensions": {"parquet_migrated": false, "x": [1, 2]},
		"upload_time": "2026-11-23T09:46:46.627379522Z",
		"encrypted": true
	}
}`

func TestMembersOfOtherVersionsSurviveRewriting(t *testing.T) {
	t.Parallel()
	m, err := block.ParseMeta([]byte(fullMeta))
	require.NoError(t, err)
	require.Equal(t, "9", string(m.Unknown["stats"]["numExemplars"]))
	require.Equal(t, time.Date(2026, 11, 23, 9, 46, 46, 627379522, time.UTC), m.Thanos.UploadTime)
	require.Equal(t, block.Resolution5m, m.Thanos.Downsample.Resolution)

	b, err := m.Clone().Encode()
	require.NoError(t, err)
	require.JSONEq(t, fullMeta, string(b))
}

func TestOddMemberNamesAreKeptToo(t *testing.T) {
	t.Parallel()
	odd := `{"ulid":"` + idText + `","version":1,"":{"":1},"thanos.downsample":7,"stats":{"":{},"a.b":[]},"thanos":{"":{"":2}}}`
	m, err := block.ParseMeta([]byte(odd))
	require.NoError(t, err)
	b, err := m.Encode()
	require.NoError(t, err)
	again, err := block.ParseMeta(b)
	require.NoError(t, err)
	got, err := json.Marshal(again.Unknown)
	require.NoError(t, err)
	require.JSONEq(t, `{"":{"":{"":1},"thanos.downsample":7},"stats":{"":{},"a.b":[]},"thanos":{"":{"":2}}}`, string(got))
}

func TestEncodeWritesWhatReadersExpect(t *testing.T) {
	t.Parallel()
	m := &block.Meta{}
	m.ULID, m.Version = mustID(t, idText), block.MetaVersion
	b, err := m.Encode()
	require.NoError(t, err)
	require.Equal(t, `{
	"ulid": "01M83WSTYAPSSY2NT7K45FA41G",
	"minTime": 0,
	"maxTime": 0,
	"stats": {},
	"compaction": {
		"level": 0
	},
	"version": 1,
	"thanos": {
		"labels": {},
		"downsample": {
			"resolution": 0
		},
		"source": "",
		"index_stats": {},
		"upload_time": "0001-01-01T00:00:00Z"
	}
}
`, string(b))
}

func TestUnusableMetasGiveTheReason(t *testing.T) {
	t.Parallel()
	with := func(old, new string) string { return strings.Replace(fullMeta, old, new, 1) }
	for name, tc := range map[string]struct{ content, want string }{
		"empty":                      {"", "empty"},
		"truncated":                  {fullMeta[:200], "truncated JSON after 200 bytes"},
		"not an object":              {"[]", "cannot unmarshal array"},
		"garbage after the end":      {fullMeta + "}", "invalid character"},
		"version from the future":    {with(`"version": 1`, `"version": 2`), "version 2 is from the future"},
		"no version":                 {with(`"version": 1`, `"v": 1`), "version is 0, want 1"},
		"thanos from the future":     {with("\"version\": 1,\n\t\t\"labels\"", "\"version\": 7,\n\t\t\"labels\""), "thanos.version 7 is from the future"},
		"no ulid":                    {with(`"ulid": "01M83WSTYAPSSY2NT7K45FA41G",`, ``), `ulid "" is not a ULID`},
		"a letter no ulid has":       {with(`41G"`, `41U"`), `ulid "01M83WSTYAPSSY2NT7K45FA41U" is not a ULID`},
		"number where text belongs":  {with(`"source": "bucket.rewrite"`, `"source": 3`), "thanos.source"},
		"unknown and wrong together": {with(`"minTime": 1`, `"minTime": "x"`), "minTime"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := block.ParseMeta([]byte(tc.content))
			require.ErrorIs(t, err, block.ErrMetaCorrupt)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestMetaMustSpeakOfItsFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "01M83WSSPQD8WKNMAJ9NZX48FG")
	require.NoError(t, os.Mkdir(dir, 0o755))
	_, err := block.ReadMetaDir(dir)
	require.ErrorIs(t, err, block.ErrMetaNotFound)

	require.NoError(t, os.WriteFile(filepath.Join(dir, block.MetaFilename), []byte(fullMeta), 0o644))
	_, err = block.ReadMetaDir(dir)
	require.ErrorIs(t, err, block.ErrMetaCorrupt)
	require.ErrorContains(t, err, "01M83WSSPQD8WKNMAJ9NZX48FG")
	require.ErrorContains(t, err, "names block 01M83WSTYAPSSY2NT7K45FA41G")

	bkt := objstore.NewInMemBucket()
	other := mustID(t, "01M83WSSPQD8WKNMAJ9NZX48FG")
	_, err = block.FetchMeta(t.Context(), bkt, other)
	require.ErrorIs(t, err, block.ErrMetaNotFound)
	require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(other, block.MetaFilename), strings.NewReader(fullMeta)))
	_, err = block.FetchMeta(t.Context(), bkt, other)
	require.ErrorIs(t, err, block.ErrMetaCorrupt)
	require.ErrorContains(t, err, other.String())
}

func TestReadMetaIsBounded(t *testing.T) {
	t.Parallel()
	_, err := block.ReadMeta(zeroes{})
	require.ErrorIs(t, err, block.ErrMetaCorrupt)
	require.ErrorContains(t, err, "larger than")
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLabelsHashIsTheSharedOne(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 708190779274861024, block.LabelsHash(map[string]string{"replica": "a", "cluster": "eu1"}))
	require.EqualValues(t, uint64(17241709254077376921), block.LabelsHash(nil))
	m := &block.Meta{Thanos: block.Thanos{Labels: map[string]string{"replica": "a", "cluster": "eu1"}}}
	require.Equal(t, "0@708190779274861024", m.GroupKey())
}

func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	m, err := block.ParseMeta([]byte(fullMeta))
	require.NoError(t, err)
	before, err := m.Encode()
	require.NoError(t, err)
	c := m.Clone()
	c.Thanos.Labels["a"] = "changed"
	c.Thanos.Files[0].Hash.Value = "changed"
	c.Thanos.Files[1].SizeBytes = 5
	c.Thanos.SegmentFiles[0] = "changed"
	c.Compaction.Sources[0] = ulid.ULID{}
	c.Compaction.Parents[0].MinTime = 99
	c.Unknown[""]["vendor"] = json.RawMessage("1")
	after, err := m.Encode()
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
}

func FuzzParseMeta(f *testing.F) {
	f.Add([]byte(fullMeta))
	f.Add([]byte(`{"ulid":"01M83WSTYAPSSY2NT7K45FA41G","version":1}`))
	f.Add([]byte(`{"ulid":"01M83WSTYAPSSY2NT7K45FA41G","version":1,"thanos":null,"x":{}}`))
	f.Add([]byte(`{"ULID":"01M83WSTYAPSSY2NT7K45FA41G","Version":1,"stats":null,"compaction":{"level":1,"y":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := block.ParseMeta(b)
		if err != nil {
			require.ErrorIs(t, err, block.ErrMetaCorrupt)
			return
		}
		out, err := m.Encode()
		require.NoError(t, err)
		again, err := block.ParseMeta(out)
		require.NoError(t, err, string(out))
		out2, err := again.Encode()
		require.NoError(t, err)
		require.JSONEq(t, string(out), string(out2))
	})
}
