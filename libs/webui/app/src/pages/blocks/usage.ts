import { labelText, type Labels } from '../../lib/format';
import type { Block, Group } from './rows';
import { flagDeletion } from './rows';

export interface Total { name: string; blocks: number; bytes: number; series: number; samples: number; min: number; max: number }

// totalsBy adds blocks up by the value of a label, or by resolution where the name is empty.
export function totalsBy(blocks: Block[], name: (b: Block) => string): Total[] {
  const totals = new Map<string, Total>();
  for (const b of blocks) {
    const key = name(b);
    let t = totals.get(key);
    if (!t) {
      t = { name: key, blocks: 0, bytes: 0, series: 0, samples: 0, min: Infinity, max: -Infinity };
      totals.set(key, t);
    }
    t.blocks++;
    t.bytes += b.bytes;
    t.series += b.series;
    t.samples += b.samples;
    t.min = Math.min(t.min, b.min);
    t.max = Math.max(t.max, b.max);
  }
  return [...totals.values()].sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1));
}

export interface Month { start: number; bytes: [number, number, number] }

// growth tells how many bytes cover each month, by resolution. A block is shared out among the months that it spans.
export function growth(blocks: Block[]): Month[] {
  const months = new Map<number, Month>();
  for (const b of blocks) {
    const kind = b.resolution === 0 ? 0 : b.resolution <= 300_000 ? 1 : 2;
    let t = monthOf(b.min);
    while (t < b.max) {
      const next = nextMonth(t);
      const part = (Math.min(next, b.max) - Math.max(t, b.min)) / Math.max(b.max - b.min, 1);
      const m = months.get(t) ?? { start: t, bytes: [0, 0, 0] };
      m.bytes[kind] += b.bytes * part;
      months.set(t, m);
      t = next;
    }
  }
  return [...months.values()].sort((a, b) => a.start - b.start);
}

function monthOf(t: number): number {
  const d = new Date(t);
  return Date.UTC(d.getUTCFullYear(), d.getUTCMonth());
}

function nextMonth(t: number): number {
  const d = new Date(t);
  return Date.UTC(d.getUTCFullYear(), d.getUTCMonth() + 1);
}

// Milliseconds by resolution; 0 keeps for ever.
export interface Keep { raw: number; five: number; hour: number }

export interface Removal { block: Block; at: number; policy: string }

// removedBy returns what retention removes until a moment, next first: blocks whose end plus what their resolution is kept
// for has passed by then. Blocks that are marked already are not listed again, and those without a rule are not touched.
export function removedBy(blocks: Block[], rule: (b: Block) => { keep: Keep; name: string } | undefined, until: number): Removal[] {
  return blocks.flatMap((block) => {
    const r = rule(block);
    const kept = !r ? 0 : block.resolution === 0 ? r.keep.raw : block.resolution <= 300_000 ? r.keep.five : r.keep.hour;
    const at = block.max + kept;
    return r && kept > 0 && at < until && !(block.flags & flagDeletion) ? [{ block, at, policy: r.name }] : [];
  }).sort((a, b) => a.at - b.at);
}

// What a compactor says about its retention. The policies are in the order in which they are tried, the last is the default.
export interface Policies {
  policies: { name: string; selector?: string; rawSeconds: number; fiveMinutesSeconds: number; oneHourSeconds: number }[];
  groups: { labels: Labels | null; policy: number }[];
  replicaLabels: string[];
  deleteDelaySeconds: number;
}

export function keepOf(p: Policies['policies'][number]): Keep {
  return { raw: p.rawSeconds * 1000, five: p.fiveMinutesSeconds * 1000, hour: p.oneHourSeconds * 1000 };
}

// ruleOf returns which policy counts for a block. A compactor names the groups that it works with, without replica labels: a
// block of another group is none of its own, and has no rule.
export function ruleOf(p: Policies): (b: Block) => { keep: Keep; name: string } | undefined {
  const rules = p.policies.map((policy) => ({ keep: keepOf(policy), name: policy.name }));
  const byText = new Map(p.groups.map((g) => [labelText(g.labels ?? {}), rules[g.policy]]));
  const found = new Map<Group, { keep: Keep; name: string } | undefined>();
  return (b) => {
    if (!found.has(b.group)) {
      const rest = Object.entries(b.group.labels).filter(([name]) => !p.replicaLabels.includes(name));
      found.set(b.group, byText.get(labelText(Object.fromEntries(rest))));
    }
    return found.get(b.group);
  };
}
