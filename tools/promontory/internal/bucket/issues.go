package bucket

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
)

// Issues that verify looks for.
const (
	issueIndex      = "index_known_issues"
	issueOverlaps   = "overlapped_blocks"
	issueDuplicates = "duplicated_compaction"
	// The following are not Thanos': objects that are not what meta.json records, and blocks without a usable meta.json.
	issueFiles = "block_files"
	issueMeta  = "block_meta"
)

func issueNames() []string {
	return []string{issueIndex, issueOverlaps, issueDuplicates, issueFiles, issueMeta}
}

// maxNamed bounds how many blocks one finding names: hundreds of overlaps are one mistake.
const maxNamed = 5

// finding is one thing that is wrong with one block.
type finding struct {
	Issue   string `json:"issue"`
	Block   string `json:"block"`
	Problem string `json:"problem"`
	// Repair is what was done about it, or why nothing was.
	Repair string `json:"repair,omitempty"`
}

// groups returns the blocks that must not overlap: of one resolution and one set of external labels, in order of time.
func groups(metas map[ulid.ULID]*block.Meta) [][]*block.Meta {
	byKey := map[string][]*block.Meta{}
	for _, m := range byTime(metas) {
		byKey[m.GroupKey()] = append(byKey[m.GroupKey()], m)
	}
	var out [][]*block.Meta
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[key])
	}
	return out
}

// findOverlaps returns one finding for each block that shares time with blocks of its group that come before it. Pure.
func findOverlaps(metas map[ulid.ULID]*block.Meta) []finding {
	var out []finding
	for _, group := range groups(metas) {
		var open []*block.Meta // those that may reach into what comes
		for _, m := range group {
			open = slices.DeleteFunc(open, func(o *block.Meta) bool { return o.MaxTime <= m.MinTime })
			if len(open) > 0 {
				out = append(out, finding{Issue: issueOverlaps, Block: m.ULID.String(), Problem: overlapText(m, open)})
			}
			open = append(open, m)
		}
	}
	return out
}

func overlapText(m *block.Meta, others []*block.Meta) string {
	var parts []string
	for i, o := range others {
		if i == maxNamed {
			parts = append(parts, fmt.Sprintf("%d more", len(others)-maxNamed))
			break
		}
		parts = append(parts, fmt.Sprintf("%s from %s to %s", o.ULID, utc(m.MinTime), utc(min(m.MaxTime, o.MaxTime))))
	}
	return fmt.Sprintf("overlaps %s in the group %s at resolution %s", strings.Join(parts, ", "), plainLabels(m), millis(m.Thanos.Downsample.Resolution))
}

// duplicate is a block made of the same sources as another one.
type duplicate struct {
	block, of *block.Meta
	// same tells that the two hold as many series, samples and chunks, over the same time, with the same rewrites:
	// without that they are no copies, and which one is right is for a person to say.
	same bool
}

func (d duplicate) finding() finding {
	problem := fmt.Sprintf("was made of the same %s as %s", plural(len(d.block.Compaction.Sources), "source"), d.of.ULID)
	if !d.same {
		problem += ", with other content"
	}
	return finding{Issue: issueDuplicates, Block: d.block.ULID.String(), Problem: problem}
}

// findDuplicates returns the blocks whose compaction sources are those of another block of their group. Of each set the
// smallest ULID is not among them: it is the one that readers choose. Pure.
func findDuplicates(metas map[ulid.ULID]*block.Meta) []duplicate {
	var out []duplicate
	for _, group := range groups(metas) {
		first := map[string]*block.Meta{}
		slices.SortFunc(group, func(a, b *block.Meta) int { return a.ULID.Compare(b.ULID) })
		for _, m := range group {
			if len(m.Compaction.Sources) == 0 {
				continue
			}
			key := sourcesKey(m.Compaction.Sources)
			if of, ok := first[key]; ok {
				out = append(out, duplicate{block: m, of: of, same: sameContent(m, of)})
				continue
			}
			first[key] = m
		}
	}
	slices.SortFunc(out, func(a, b duplicate) int { return a.block.ULID.Compare(b.block.ULID) })
	return out
}

func sourcesKey(sources []ulid.ULID) string {
	sources = slices.Clone(sources)
	slices.SortFunc(sources, ulid.ULID.Compare)
	var b strings.Builder
	for _, id := range slices.Compact(sources) {
		b.Write(id[:])
	}
	return b.String()
}

func sameContent(a, b *block.Meta) bool {
	return a.MinTime == b.MinTime && a.MaxTime == b.MaxTime && len(a.Thanos.Rewrites) == len(b.Thanos.Rewrites) &&
		a.Stats.NumSeries == b.Stats.NumSeries && a.Stats.NumSamples == b.Stats.NumSamples && a.Stats.NumChunks == b.Stats.NumChunks
}

// findFiles compares the objects of a block, by path and with sizes, with what its meta.json records. Pure.
func findFiles(m *block.Meta, objects map[string]int64) []finding {
	var out []finding
	add := func(format string, args ...any) {
		out = append(out, finding{Issue: issueFiles, Block: m.ULID.String(), Problem: fmt.Sprintf(format, args...)})
	}
	wanted := map[string]int64{block.IndexFilename: 0}
	for _, name := range m.Thanos.SegmentFiles {
		wanted[block.ChunksDirname+"/"+name] = 0
	}
	for _, f := range m.Thanos.Files {
		wanted[f.RelPath] = f.SizeBytes
	}
	for _, rel := range slices.Sorted(maps.Keys(wanted)) {
		size, there := objects[rel]
		switch {
		case !there:
			add("%s is missing", rel)
		case wanted[rel] > 0 && size != wanted[rel]:
			add("%s has %d bytes, meta.json records %d", rel, size, wanted[rel])
		}
	}
	return out
}

// metaFindings turns blocks without a usable meta.json into findings.
func metaFindings(partial map[ulid.ULID]error) []finding {
	var out []finding
	for _, id := range sortedIDs(partial) {
		out = append(out, finding{Issue: issueMeta, Block: id.String(), Problem: partial[id].Error()})
	}
	return out
}

func sortFindings(fs []finding) {
	slices.SortStableFunc(fs, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.Issue, b.Issue), cmp.Compare(a.Block, b.Block))
	})
}
