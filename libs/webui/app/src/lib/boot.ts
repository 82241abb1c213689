// What the server said about itself in the page, and where the page was found.

export type PageName =
  | 'graph' | 'stores' | 'rules' | 'alerts' | 'targets' | 'tsdb-status' | 'queries'
  | 'blocks' | 'loaded' | 'usage' | 'work' | 'tenants' | 'gaps' | 'ruler' | 'flags' | 'status';

export interface Hints {
  service: string;
  pages: PageName[];
  nonce: string;
  facts?: Record<string, string>;
}

function read(): Hints {
  const fallback: Hints = { service: 'querier', pages: ['graph'], nonce: '' };
  const text = document.querySelector('meta[name="promontory"]')?.getAttribute('content');
  if (!text || text.startsWith('{{')) {
    return fallback;
  }
  return { ...fallback, ...(JSON.parse(text) as Partial<Hints>) };
}

export const hints = read();

// Pages are siblings: what stands before the last segment of the path is the prefix under which the user reaches us.
export const base = new URL('.', window.location.href);

export function apiURL(path: string): string {
  return new URL('api/v1/' + path, base).href;
}
