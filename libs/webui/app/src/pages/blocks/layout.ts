// Where everything of a timeline lies. Heights are CSS pixels from the top of the whole, times Unix milliseconds.
import type { Band, Block, Section, Span } from './rows';

export const laneHeight = 13, bandGap = 5, sectionHead = 25, axisHeight = 26;

export interface Placed { section: Section; band: Band | null; top: number; height: number }

export interface Layout { rows: Placed[]; height: number; span: Span }

export function layOut(sections: Section[]): Layout {
  const rows: Placed[] = [];
  let top = 4;
  const span: Span = { min: Infinity, max: -Infinity };
  for (const section of sections) {
    rows.push({ section, band: null, top, height: sectionHead });
    top += sectionHead;
    for (const band of section.bands) {
      const height = band.lanes.length * laneHeight + bandGap;
      rows.push({ section, band, top, height });
      top += height;
      for (const lane of band.lanes) {
        span.min = Math.min(span.min, lane[0]?.min ?? Infinity);
        span.max = Math.max(span.max, lane[lane.length - 1]?.max ?? -Infinity);
      }
    }
    top += 6;
  }
  if (span.min > span.max) {
    const now = Date.now();
    return { rows, height: top, span: { min: now - 86_400_000, max: now } };
  }
  return { rows, height: top, span };
}

// firstAt returns the first index whose block ends after a time.
export function firstAt(lane: Block[], time: number): number {
  let low = 0, high = lane.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if ((lane[mid]?.max ?? 0) > time) {
      high = mid;
    } else {
      low = mid + 1;
    }
  }
  return low;
}

// rowAt returns the first row that reaches below a height.
export function rowAt(rows: Placed[], y: number): number {
  let low = 0, high = rows.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    const r = rows[mid];
    if (r && r.top + r.height > y) {
      high = mid;
    } else {
      low = mid + 1;
    }
  }
  return low;
}

const steps = [
  60_000, 300_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 2 * 86_400_000, 7 * 86_400_000, 14 * 86_400_000,
  30 * 86_400_000, 90 * 86_400_000, 180 * 86_400_000, 365 * 86_400_000,
];

// ticks returns about one time for each `apart` pixels.
export function ticks(span: Span, width: number, apart = 130): number[] {
  const wanted = ((span.max - span.min) / width) * apart;
  const step = steps.find((s) => s >= wanted) ?? steps[steps.length - 1] ?? 1;
  const out: number[] = [];
  for (let t = Math.ceil(span.min / step) * step; t <= span.max && out.length < 200; t += step) {
    out.push(t);
  }
  return out;
}
