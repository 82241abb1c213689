import type { Labels } from './format';

// A filter as people type it: words that all have to be found, and label conditions such as
// cluster=eu1, cluster!=eu1, pod=~web.*, pod!~web.*, with or without quotes. What is no condition is a word.
export interface Filter {
  words: string[];
  conditions: { name: string; test: (value: string) => boolean }[];
  error?: string;
}

const condition = /^([\w.:-]+)(=~|!~|!=|=)(?:"([^"]*)"|(.*))$/;

export function parseFilter(text: string): Filter {
  const filter: Filter = { words: [], conditions: [] };
  for (const token of text.match(/[^\s",{}]*"[^"]*"|[^\s,{}]+/g) ?? []) {
    const m = condition.exec(token);
    if (!m) {
      filter.words.push(token.replaceAll('"', '').toLowerCase());
      continue;
    }
    const [, name = '', op, quoted, bare] = m;
    const value = quoted ?? bare ?? '';
    if (op === '=' || op === '!=') {
      filter.conditions.push({ name, test: (v) => (v === value) === (op === '=') });
      continue;
    }
    try {
      const re = new RegExp(`^(?:${value})$`);
      filter.conditions.push({ name, test: (v) => re.test(v) === (op === '=~') });
    } catch {
      filter.error = `${value} is not a regular expression`;
    }
  }
  return filter;
}

// matches tells whether something with these labels and this text is wanted.
export function matches(filter: Filter, labels: Labels | undefined, text = ''): boolean {
  for (const c of filter.conditions) {
    if (!c.test(labels?.[c.name] ?? '')) {
      return false;
    }
  }
  if (filter.words.length === 0) {
    return true;
  }
  let all = text;
  for (const [k, v] of Object.entries(labels ?? {})) {
    all += ` ${k}=${v}`;
  }
  all = all.toLowerCase();
  return filter.words.every((w) => all.includes(w));
}
