// Durations as Prometheus writes them, and times for people. Times are Unix milliseconds.

const units: [string, number][] = [
  ['y', 365 * 86_400_000], ['w', 7 * 86_400_000], ['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1000], ['ms', 1],
];

// parseDuration returns milliseconds, or null for what is no duration.
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  const match = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(trimmed);
  if (trimmed === '0') {
    return 0;
  }
  if (!trimmed || !match) {
    return null;
  }
  return units.reduce((sum, [, ms], i) => sum + Number(match[i + 1] ?? 0) * ms, 0);
}

// formatDuration is exact for whole milliseconds and understood by parseDuration.
export function formatDuration(ms: number): string {
  let left = Math.round(ms);
  if (left <= 0) {
    return '0s';
  }
  let out = '';
  for (const [unit, size] of units) {
    // Weeks and years hide what people count in days.
    if ((unit === 'y' || unit === 'w') && left % size !== 0) {
      continue;
    }
    const n = Math.floor(left / size);
    if (n > 0) {
      out += n + unit;
      left -= n * size;
    }
  }
  return out;
}

// about is a duration in its two largest units, for reading.
export function about(ms: number): string {
  if (!Number.isFinite(ms)) {
    return '–';
  }
  if (ms < 0) {
    return '-' + about(-ms);
  }
  if (ms < 1) {
    return ms === 0 ? '0s' : `${Math.round(ms * 1000)}µs`;
  }
  if (ms < 10_000) {
    return ms < 1000 ? `${Math.round(ms)}ms` : `${(ms / 1000).toFixed(1)}s`;
  }
  const list: [string, number][] = [['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1000]];
  const first = list.findIndex(([, size]) => ms >= size);
  const [unit, size] = list[first] ?? ['s', 1000];
  const n = Math.floor(ms / size);
  const next = list[first + 1];
  const rest = next && n < 100 ? Math.floor((ms - n * size) / next[1]) : 0;
  return rest && next ? `${n}${unit} ${rest}${next[0]}` : `${n}${unit}`;
}

let utc = false;
export function setUTC(on: boolean): void {
  utc = on;
}
export function isUTC(): boolean {
  return utc;
}

const pad = (n: number): string => String(n).padStart(2, '0');

// Edges of time that blocks and stores use for "no bound".
const earliest = -62_000_000_000_000;
const latest = 250_000_000_000_000;

export function formatTime(ms: number, withSeconds = true): string {
  if (!Number.isFinite(ms) || ms <= earliest) {
    return '–∞';
  }
  if (ms >= latest) {
    return '∞';
  }
  const d = new Date(ms);
  const [y, mo, day, h, m, s] = utc
    ? [d.getUTCFullYear(), d.getUTCMonth(), d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()]
    : [d.getFullYear(), d.getMonth(), d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds()];
  return `${y}-${pad(mo + 1)}-${pad(day)} ${pad(h)}:${pad(m)}${withSeconds ? ':' + pad(s) : ''}`;
}

// ago is a moment in relation to now; a time that means never is "never".
export function ago(when: string | number | undefined, now = Date.now()): string {
  const ms = typeof when === 'number' ? when : Date.parse(when ?? '');
  if (!Number.isFinite(ms) || ms < 0) {
    return 'never';
  }
  return ms > now ? `in ${about(ms - now)}` : `${about(now - ms)} ago`;
}

// inputTime and parseInput are for <input type="datetime-local">, in the zone that is shown.
export function inputTime(ms: number): string {
  return formatTime(ms).replace(' ', 'T');
}
export function parseInput(text: string): number | null {
  const ms = Date.parse(text + (utc ? 'Z' : ''));
  return Number.isFinite(ms) ? ms : null;
}
