// What a panel asks for, and how that is written into addresses: in the parameters that Prometheus' and Thanos' own
// graph pages use, so that links made there open here and the other way round.
import { formatDuration, parseDuration } from '../../lib/time';

export type Tab = 'graph' | 'table';
export type Resolution = 'auto' | '0s' | '5m' | '1h';
export type EngineName = '' | 'prometheus' | 'thanos';

export interface Options {
  expr: string;
  tab: Tab;
  // Milliseconds.
  range: number;
  // Unix milliseconds; null is now.
  end: number | null;
  // Milliseconds; null is chosen by range.
  step: number | null;
  stacked: boolean;
  dedup: boolean;
  // null leaves it to the server's flag.
  partial: boolean | null;
  resolution: Resolution;
  engine: EngineName;
  // Addresses; none is all.
  stores: string[];
}

export const defaults: Options = {
  expr: '', tab: 'graph', range: 3_600_000, end: null, step: null, stacked: false, dedup: true, partial: null, resolution: 'auto', engine: '', stores: [],
};

export function autoStep(range: number): number {
  return Math.max(1000, Math.floor(range / 250_000) * 1000);
}

export function stepOf(o: Options): number {
  return o.step ?? autoStep(o.range);
}

function parseUTC(text: string): number | null {
  if (/^\d+(\.\d+)?$/.test(text)) {
    return Number(text) * 1000;
  }
  const ms = Date.parse(text.trim().replace(' ', 'T') + (/(Z|[+-]\d\d:?\d\d)$/.test(text) ? '' : 'Z'));
  return Number.isFinite(ms) ? ms : null;
}

function flag(text: string | null): boolean | null {
  return text === '1' || text === 'true' ? true : text === '0' || text === 'false' ? false : null;
}

function storeNames(text: string): string[] {
  try {
    const list = JSON.parse(text) as unknown;
    if (!Array.isArray(list)) {
      return [];
    }
    return list.flatMap((s: unknown) => {
      if (typeof s === 'string') {
        return [s];
      }
      const name = (s as { name?: unknown } | null)?.name;
      return typeof name === 'string' ? [name] : [];
    });
  } catch {
    return [];
  }
}

function decodeOne(get: (key: string) => string | null): Options {
  const o: Options = { ...defaults, expr: get('expr') ?? '' };
  const tab = get('tab');
  o.tab = tab === '1' || tab === 'table' ? 'table' : 'graph';
  o.range = parseDuration(get('range_input') ?? '') || defaults.range;
  const end = get('end_input') ?? get('moment_input');
  o.end = end ? parseUTC(end) : null;
  // Newer pages of Prometheus write res_step, and only where res_type says that the user has chosen it.
  const step = Number(get('step_input') ?? (get('res_type') === 'auto' ? null : get('res_step')));
  o.step = step > 0 ? step * 1000 : null;
  o.stacked = flag(get('stacked')) ?? get('display_mode') === 'stacked';
  o.dedup = flag(get('deduplicate')) ?? true;
  o.partial = flag(get('partial_response'));
  const resolution = get('max_source_resolution');
  o.resolution = resolution === '0s' || resolution === '5m' || resolution === '1h' ? resolution : 'auto';
  const engine = get('engine');
  o.engine = engine === 'prometheus' || engine === 'thanos' ? engine : '';
  o.stores = storeNames(get('store_matches') ?? '[]');
  return o;
}

// decode reads all panels of an address; there is always one.
export function decode(search: string): Options[] {
  const params = new URLSearchParams(search);
  const numbers = new Set<number>();
  for (const key of params.keys()) {
    const m = /^g(\d+)\./.exec(key);
    if (m) {
      numbers.add(Number(m[1]));
    }
  }
  const list = [...numbers].sort((a, b) => a - b).map((n) => decodeOne((key) => params.get(`g${n}.${key}`)));
  return list.length > 0 ? list : [{ ...defaults }];
}

export function encodeOptions(panels: Options[]): string {
  const out = new URLSearchParams();
  panels.forEach((o, n) => {
    const set = (key: string, value: string) => out.set(`g${n}.${key}`, value);
    set('expr', o.expr);
    set('tab', o.tab === 'graph' ? '0' : '1');
    set('stacked', o.stacked ? '1' : '0');
    set('range_input', formatDuration(o.range));
    set('max_source_resolution', o.resolution);
    set('deduplicate', o.dedup ? '1' : '0');
    if (o.partial !== null) {
      set('partial_response', o.partial ? '1' : '0');
    }
    if (o.end !== null) {
      set(o.tab === 'graph' ? 'end_input' : 'moment_input', new Date(o.end).toISOString().slice(0, 19).replace('T', ' '));
    }
    if (o.step !== null) {
      set('step_input', String(o.step / 1000));
    }
    if (o.engine) {
      set('engine', o.engine);
    }
    if (o.stores.length > 0) {
      set('store_matches', JSON.stringify(o.stores.map((name) => ({ name }))));
    }
  });
  return '?' + out.toString();
}
