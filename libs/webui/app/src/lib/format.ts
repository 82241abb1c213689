export function bytes(n: number | undefined): string {
  if (n === undefined || !Number.isFinite(n)) {
    return '–';
  }
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let i = 0;
  let v = n;
  while (Math.abs(v) >= 1024 && i < units.length - 1) {
    v /= 1024;
    i++;
  }
  return `${i === 0 || v >= 100 ? Math.round(v) : v.toFixed(1)} ${units[i]}`;
}

export function count(n: number | undefined): string {
  return n === undefined || !Number.isFinite(n) ? '–' : n.toLocaleString('en-US');
}

// short is a number for axes and figures: 1.2M.
export function short(n: number): string {
  if (!Number.isFinite(n)) {
    return n > 0 ? '+Inf' : n < 0 ? '-Inf' : 'NaN';
  }
  const a = Math.abs(n);
  if (a === 0) {
    return '0';
  }
  for (const [size, unit] of [[1e15, 'P'], [1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']] as const) {
    if (a >= size) {
      return trim(n / size) + unit;
    }
  }
  if (a >= 0.001) {
    return trim(n);
  }
  return n.toExponential(2);
}

function trim(n: number): string {
  return String(Number(n.toPrecision(4)));
}

export function resolution(ms: number): string {
  return ms === 0 ? 'raw' : ms === 300_000 ? '5m' : ms === 3_600_000 ? '1h' : `${ms / 1000}s`;
}

export type Labels = Record<string, string>;

const plainName = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

export function labelText(labels: Labels | undefined): string {
  const entries = Object.entries(labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return '{' + entries.map(([k, v]) => `${plainName.test(k) ? k : JSON.stringify(k)}=${JSON.stringify(v)}`).join(', ') + '}';
}

// seriesText writes a series the way PromQL selects it.
export function seriesText(labels: Labels): string {
  const { __name__: name, ...rest } = labels;
  const body = labelText(rest);
  if (name === undefined) {
    return body;
  }
  if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name)) {
    return labelText(labels);
  }
  return body === '{}' ? name : name + body;
}
