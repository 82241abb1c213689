import type { Labels } from '../../lib/format';

export type Point = [number, string];
export interface Histogram { count: string; sum: string; buckets?: [number, string, string, string][] }
export type HistogramPoint = [number, Histogram];

export interface Series {
  metric: Labels;
  value?: Point;
  histogram?: HistogramPoint;
  values?: Point[];
  histograms?: HistogramPoint[];
}

export interface ManyData { resultType: 'vector' | 'matrix'; result: Series[] }
export interface OneData { resultType: 'scalar' | 'string'; result: Point }
export type QueryData = ManyData | OneData;

export function isMany(data: QueryData): data is ManyData {
  return data.resultType === 'vector' || data.resultType === 'matrix';
}

export interface Lines {
  // Unix seconds.
  times: number[];
  // One for each series; null where there is no number to draw.
  values: (number | null)[][];
}

// linesOf puts the series of a range query on one grid of times.
export function linesOf(series: Series[], start: number, end: number, step: number): Lines {
  const n = Math.floor((end - start) / step + 1e-9) + 1;
  const times = Array.from({ length: n }, (_, i) => start + i * step);
  const values = series.map((s) => {
    const line = new Array<number | null>(n).fill(null);
    for (const [t, text] of s.values ?? []) {
      const i = Math.round((t - start) / step);
      const v = Number(text);
      if (i >= 0 && i < n && Number.isFinite(v)) {
        line[i] = v;
      }
    }
    return line;
  });
  return { times, values };
}

// stack adds up the lines that are shown, from the first; hidden ones are left out of the sums.
export function stack(values: (number | null)[][], shown: boolean[]): (number | null)[][] {
  const sums = new Array<number>(values[0]?.length ?? 0).fill(0);
  return values.map((line, s) => {
    if (!shown[s]) {
      return line.map(() => null);
    }
    return line.map((v, i) => {
      sums[i] = (sums[i] ?? 0) + (v ?? 0);
      return v === null ? null : (sums[i] ?? 0);
    });
  });
}

// colour gives each series its own by its place: hues by the golden angle, so that neighbours differ.
export function colour(i: number, dark: boolean): string {
  const hue = (200 + i * 137.508) % 360;
  return `hsl(${hue.toFixed(1)} ${dark ? '62% 64%' : '68% 38%'})`;
}

export function histogramText(h: Histogram): string {
  const buckets = (h.buckets ?? []).map(([kind, lower, upper, n]) => {
    const open = kind === 0 || kind === 2 ? '(' : '[';
    const close = kind === 1 || kind === 2 ? ')' : ']';
    return `${open}${lower}, ${upper}${close}: ${n}`;
  });
  return `count ${h.count}, sum ${h.sum}` + (buckets.length > 0 ? '\n' + buckets.join('\n') : '');
}
