// Blocks as pages work with them, and what can be said of many of them together.
import { labelText, resolution as resolutionText, type Labels } from '../../lib/format';
import type { Filter } from '../../lib/match';

export const flagDeletion = 1, flagNoCompact = 2, flagNoDownsample = 4, flagFailed = 8, flagTombstones = 16;

export interface Group { labels: Labels; text: string }

export interface Block {
  id: string;
  group: Group;
  // Unix milliseconds; max is exclusive.
  min: number;
  max: number;
  resolution: number;
  level: number;
  bytes: number;
  series: number;
  samples: number;
  chunks: number;
  source: string;
  flags: number;
  uploaded: number;
  // Found by analyse().
  overlaps: boolean;
  // Lower case, for filters.
  search: string;
}

export interface Mark { details?: string; reason?: string; deletion_time?: number; no_compact_time?: number; no_downsample_time?: number }
export interface Marks { deletion?: Mark; noCompact?: Mark; noDownsample?: Mark }

export interface Overview {
  label: string;
  refreshedAt: string;
  triedAt: string;
  err: string | null;
  admin: boolean;
  compactor: boolean;
  groups: { labels: Labels | null }[];
  sources: string[];
  blocks: [string, number, number, number, number, number, number, number, number, number, number, number, number][];
  marked: ({ ulid: string } & Marks)[];
  unusable: { ulid: string; reason: string }[];
}

function groupOf(labels: Labels | null | undefined): Group {
  return { labels: labels ?? {}, text: labelText(labels ?? {}) };
}

export function fromOverview(o: Overview): Block[] {
  const groups = o.groups.map((g) => groupOf(g.labels));
  const none = groupOf({});
  return o.blocks.map(([id, g, min, max, resolution, level, bytes, series, samples, chunks, s, flags, uploaded]) => {
    const source = o.sources[s] ?? '';
    return { id, group: groups[g] ?? none, min, max, resolution, level, bytes, series, samples, chunks, source, flags, uploaded, overlaps: false, search: `${id} ${source}`.toLowerCase() };
  });
}

export interface Meta {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats: { numSamples?: number; numSeries?: number; numChunks?: number; numTombstones?: number };
  compaction: { level: number; sources?: string[]; parents?: { ulid: string }[]; failed?: boolean };
  thanos: { labels: Labels | null; downsample: { resolution: number }; source: string; files?: { rel_path: string; size_bytes?: number }[]; upload_time?: string };
}

export function fromMetas(metas: Meta[], marked: Record<string, Marks> = {}): Block[] {
  const groups = new Map<string, Group>();
  return metas.map((m) => {
    const made = groupOf(m.thanos.labels);
    const group = groups.get(made.text) ?? made;
    groups.set(group.text, group);
    const marks = marked[m.ulid];
    const flags = (m.compaction.failed ? flagFailed : 0) | (m.stats.numTombstones ? flagTombstones : 0) | (marks?.deletion ? flagDeletion : 0)
      | (marks?.noCompact ? flagNoCompact : 0) | (marks?.noDownsample ? flagNoDownsample : 0);
    return {
      id: m.ulid, group, min: m.minTime, max: m.maxTime, resolution: m.thanos.downsample.resolution, level: m.compaction.level,
      bytes: (m.thanos.files ?? []).reduce((n, f) => n + (f.size_bytes ?? 0), 0),
      series: m.stats.numSeries ?? 0, samples: m.stats.numSamples ?? 0, chunks: m.stats.numChunks ?? 0, source: m.thanos.source, flags,
      uploaded: Date.parse(m.thanos.upload_time ?? '') || 0, overlaps: false, search: `${m.ulid} ${m.thanos.source}`.toLowerCase(),
    };
  });
}

export interface Band {
  key: string;
  group: Group;
  resolution: number;
  level: number;
  // Sorted by their beginning; those of one lane do not overlap.
  lanes: Block[][];
}

export interface Span { min: number; max: number }

export interface Section {
  group: Group;
  bands: Band[];
  // By resolution, where data are missing between two blocks.
  gaps: Map<number, Span[]>;
}

// analyse finds overlaps and gaps, and lays the blocks out: a section for each set of external labels, in it a band
// for each resolution and level.
export function analyse(blocks: Block[]): { sections: Section[]; overlaps: number; gaps: number } {
  const byGroup = new Map<Group, Block[]>();
  for (const b of blocks) {
    const list = byGroup.get(b.group);
    if (list) {
      list.push(b);
    } else {
      byGroup.set(b.group, [b]);
    }
  }
  let overlaps = 0, gapCount = 0;
  const sections = [...byGroup].sort(([a], [b]) => (a.text < b.text ? -1 : 1)).map(([group, list]) => {
    list.sort((a, b) => a.min - b.min || a.max - b.max || (a.id < b.id ? -1 : 1));
    const gaps = new Map<number, Span[]>();
    for (const resolution of new Set(list.map((b) => b.resolution))) {
      const found = cover(list.filter((b) => b.resolution === resolution));
      overlaps += found.overlaps;
      gapCount += found.gaps.length;
      gaps.set(resolution, found.gaps);
    }
    return { group, bands: bandsOf(group, list), gaps };
  });
  return { sections, overlaps, gaps: gapCount };
}

// Blocks may end at their last sample. What is shorter than this no query sees: it is how far back PromQL looks.
const shortestGap = 300_000;

// cover goes through the blocks of one group and resolution in the order of time. What is marked for deletion has a
// replacement: it neither covers nor overlaps.
function cover(list: Block[]): { overlaps: number; gaps: Span[] } {
  let overlaps = 0, reached = -Infinity;
  let last: Block | null = null;
  const gaps: Span[] = [];
  for (const b of list) {
    if (b.flags & flagDeletion) {
      continue;
    }
    if (last && b.min < reached) {
      for (const one of [last, b]) {
        if (!one.overlaps) {
          one.overlaps = true;
          overlaps++;
        }
      }
    } else if (last && b.min - reached > Math.max(shortestGap, b.resolution)) {
      gaps.push({ min: reached, max: b.min });
    }
    if (b.max > reached) {
      reached = b.max;
      last = b;
    }
  }
  return { overlaps, gaps };
}

function bandsOf(group: Group, list: Block[]): Band[] {
  const bands = new Map<string, Band>();
  for (const b of list) {
    const key = `${b.resolution}/${b.level}`;
    let band = bands.get(key);
    if (!band) {
      band = { key: group.text + key, group, resolution: b.resolution, level: b.level, lanes: [] };
      bands.set(key, band);
    }
    const lane = band.lanes.find((l) => (l[l.length - 1]?.max ?? -Infinity) <= b.min);
    if (lane) {
      lane.push(b);
    } else {
      band.lanes.push([b]);
    }
  }
  return [...bands.values()].sort((a, b) => a.resolution - b.resolution || a.level - b.level);
}

export type StateFilter = 'any' | 'overlapping' | 'marked' | 'deletion' | 'work' | 'aside';

export interface BlockFilter {
  text: Filter;
  resolution: number | null;
  level: number | null;
  state: StateFilter;
  minBytes: number;
  from: number | null;
  until: number | null;
}

// What a compactor says of blocks, by ULID.
export interface Work { running: Set<string>; planned: Set<string>; aside: Map<string, string> }

export const noWork: Work = { running: new Set(), planned: new Set(), aside: new Map() };

// select returns the blocks that a filter lets through. What depends on labels only is decided once for each group.
export function select(blocks: Block[], f: BlockFilter, work: Work): Block[] {
  const verdicts = new Map<Group, string[] | null>();
  const verdict = (g: Group): string[] | null => {
    let v = verdicts.get(g);
    if (v === undefined) {
      const text = g.text.toLowerCase();
      v = f.text.conditions.every((c) => c.test(g.labels[c.name] ?? '')) ? f.text.words.filter((w) => !text.includes(w)) : null;
      verdicts.set(g, v);
    }
    return v;
  };
  return blocks.filter((b) => {
    const words = verdict(b.group);
    return words !== null && words.every((w) => b.search.includes(w))
      && (f.resolution === null || b.resolution === f.resolution) && (f.level === null || b.level === f.level)
      && b.bytes >= f.minBytes && (f.from === null || b.max > f.from) && (f.until === null || b.min < f.until)
      && inState(b, f.state, work);
  });
}

function inState(b: Block, state: StateFilter, work: Work): boolean {
  switch (state) {
    case 'overlapping': return b.overlaps;
    case 'marked': return (b.flags & (flagDeletion | flagNoCompact | flagNoDownsample)) !== 0;
    case 'deletion': return (b.flags & flagDeletion) !== 0;
    case 'work': return work.running.has(b.id) || work.planned.has(b.id);
    case 'aside': return work.aside.has(b.id);
    default: return true;
  }
}

export function bandName(b: { resolution: number; level: number }): string {
  return `${resolutionText(b.resolution)} · level ${b.level}`;
}
