package bucket

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func TestLsPrintsEveryFormat(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	first, second := b.add(0), b.add(1)
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"nothing but ULIDs by default": {nil, []string{first.ULID.String(), second.ULID.String()}},
		"wide": {[]string{"-o", "wide"}, []string{
			first.ULID.String() + " -- 2025-11-20 00:00 - 2025-11-20 01:59 Diff: 1h59m0.001s, Compaction: 1, Downsample: 0, Source: test",
			second.ULID.String() + " -- 2025-11-20 02:00 - 2025-11-20 03:59 Diff: 1h59m0.001s, Compaction: 1, Downsample: 0, Source: test",
		}},
		"a template": {[]string{"--output={{.MinTime}} {{.Thanos.Labels.cluster}}"}, []string{"1763596800000 eu1", "1763604000000 eu1"}},
		"tsv": {[]string{"--output=tsv"}, []string{
			"ULID\tFROM\tUNTIL\tRANGE\tRESOLUTION\tLEVEL\tSERIES\tSAMPLES\tSOURCE\tLABELS",
			first.ULID.String() + "\t2025-11-20T00:00:00Z\t2025-11-20T01:59:00Z\t1h59m0.001s\t0s\t1\t3\t360\ttest\tcluster=eu1,replica=r0",
			second.ULID.String() + "\t2025-11-20T02:00:00Z\t2025-11-20T03:59:00Z\t1h59m0.001s\t0s\t1\t3\t360\ttest\tcluster=eu1,replica=r0",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, notes, err := b.run(append([]string{"ls"}, test.args...)...)
			require.NoError(t, err)
			require.Equal(t, strings.Join(test.want, "\n")+"\n", out)
			require.Contains(t, notes, "2 blocks listed, 0 left out by filters")
		})
	}
	t.Run("json is meta.json on a line", func(t *testing.T) {
		t.Parallel()
		out, _, err := b.run("ls", "--output=json")
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		require.Len(t, lines, 2)
		got, err := block.ParseMeta([]byte(lines[1]))
		require.NoError(t, err)
		require.Equal(t, second, got)
	})
}

func TestLsFilters(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	first, second := b.add(0), b.add(1, func(s *blocktest.Spec) { s.ExternalLabels = labels.FromStrings("cluster", "us1") })
	_, err := block.MarkForDeletion(t.Context(), nil, b, first.ULID, "test", time.Now())
	require.NoError(t, err)
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"marked blocks are listed":     {nil, []string{first.ULID.String(), second.ULID.String()}},
		"unless left out":              {[]string{"--exclude-delete"}, []string{second.ULID.String()}},
		"by time":                      {[]string{"--max-time=2025-11-20T01:00:00Z"}, []string{first.ULID.String()}},
		"by a time relative to now":    {[]string{"--min-time=-1h"}, nil},
		"by labels":                    {[]string{"--selector.relabel-config=[{source_labels: [cluster], regex: us1, action: keep}]"}, []string{second.ULID.String()}},
		"the negation of a flag holds": {[]string{"--exclude-delete", "--no-exclude-delete"}, []string{first.ULID.String(), second.ULID.String()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := b.run(append([]string{"ls"}, test.args...)...)
			require.NoError(t, err)
			require.ElementsMatch(t, test.want, strings.Fields(out))
		})
	}
}

func TestLsNamesBlocksItCannotList(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	good, broken, partial := b.add(0), b.add(1), b.add(2)
	spoil(t, b.path(broken.ULID, block.MetaFilename), func([]byte) []byte { return []byte("{") })
	require.NoError(t, os.Remove(b.path(partial.ULID, block.MetaFilename)))

	out, notes, err := b.run("ls")
	require.NoError(t, err)
	require.Equal(t, good.ULID.String()+"\n", out)
	require.Contains(t, notes, "2 blocks without a usable meta.json")
	require.Contains(t, notes, broken.ULID.String()+": ")
	require.Contains(t, notes, partial.ULID.String()+": ")
}

func TestBadFlagsAreNamed(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"ls: format":           {[]string{"ls", "-o", "yaml"}, []string{"--output", `"yaml"`}},
		"ls: template":         {[]string{"ls", "-o", "{{.ULID"}, []string{"--output"}},
		"ls: times":            {[]string{"ls", "--min-time=1h", "--max-time=-1h"}, []string{"--min-time", "--max-time"}},
		"ls: timeout":          {[]string{"ls", "--timeout=0s"}, []string{"--timeout"}},
		"ls: relabel":          {[]string{"ls", "--selector.relabel-config={"}, []string{"selector.relabel-config"}},
		"ls: argument":         {[]string{"ls", "01KA"}, []string{"01KA"}},
		"inspect: column":      {[]string{"inspect", "--sort-by=SIZE"}, []string{"--sort-by", "SIZE"}},
		"inspect: selector":    {[]string{"inspect", "-l", "a=b"}, []string{"--selector"}},
		"mark: all at once":    {[]string{"mark"}, []string{"--id", "--marker", "--details"}},
		"mark: ULID":           {[]string{"mark", "--id=nope", "--marker=deletion-mark.json", "--details=x"}, []string{"--id", `"nope"`}},
		"mark: unknown marker": {[]string{"mark", "--id=01KA0000000000000000000000", "--marker=x.json", "--details=x"}, []string{"--marker", "x.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := b.run(test.args...)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, _, err := runArgs(t.Context(), "ls")
	require.ErrorContains(t, err, "--objstore.config")
}

func TestInspectSelectsSortsAndSums(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	small := b.add(0)
	large := b.add(1, func(s *blocktest.Spec) { s.Floats = 7 })
	b.add(2, func(s *blocktest.Spec) { s.ExternalLabels = labels.FromStrings("cluster", "us1") })

	out, notes, err := b.run("inspect", "-l", `cluster="eu1"`, "--sort-by=#SERIES", "--output=csv")
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		"ULID,FROM,UNTIL,RANGE,UNTIL-DOWN,#SERIES,#SAMPLES,#CHUNKS,COMP-LEVEL,COMP-FAILED,LABELS,RESOLUTION,SOURCE",
		small.ULID.String() + `,2025-11-20T00:00:00Z,2025-11-20T01:59:00Z,1h59m0.001s,38h0m59.999s,3,360,3,1,false,"cluster=eu1,replica=r0",0s,test`,
		large.ULID.String() + `,2025-11-20T02:00:00Z,2025-11-20T03:59:00Z,1h59m0.001s,38h0m59.999s,7,840,7,1,false,"cluster=eu1,replica=r0",0s,test`,
	}, "\n")+"\n", out)
	require.Contains(t, notes, "2 blocks: 10 series, 1200 samples, 10 chunks")

	out, _, err = b.run("inspect", "--output=json")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 3)
	var first map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &first))
	require.Equal(t, small.ULID.String(), first["ulid"])
	require.InDelta(t, 360, first["samples"], 0)
}

func TestInspectTellsWhenABlockCanBeDownsampled(t *testing.T) {
	t.Parallel()
	meta := func(hours, resolution int64) *block.Meta {
		m := &block.Meta{}
		m.MaxTime, m.Thanos.Downsample.Resolution = hours*hour, resolution
		return m
	}
	require.Equal(t, 32*time.Hour, untilDownsampled(meta(8, block.ResolutionRaw)))
	require.Zero(t, untilDownsampled(meta(48, block.ResolutionRaw)))
	require.Equal(t, 192*time.Hour, untilDownsampled(meta(48, block.Resolution5m)))
	require.Zero(t, untilDownsampled(meta(2, block.Resolution1h)))
}
