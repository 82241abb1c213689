import type { Block } from './rows';
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

export interface Keep { raw: number; five: number; hour: number }

// removedBy returns what retention removes until a moment, next first: blocks whose end plus what their resolution is kept
// for has passed by then. 0 keeps for ever. Blocks that are marked already are not listed again.
export function removedBy(blocks: Block[], keep: Keep, until: number): { block: Block; at: number }[] {
  return blocks.flatMap((block) => {
    const kept = block.resolution === 0 ? keep.raw : block.resolution <= 300_000 ? keep.five : keep.hour;
    const at = block.max + kept;
    return kept > 0 && at < until && !(block.flags & flagDeletion) ? [{ block, at }] : [];
  }).sort((a, b) => a.at - b.at);
}
