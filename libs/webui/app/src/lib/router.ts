import { useSyncExternalStore } from 'react';
import { base, hints, type PageName } from './boot';

const listeners = new Set<() => void>();
const notify = (): void => listeners.forEach((l) => l());
window.addEventListener('popstate', notify);

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const aliases: Record<string, PageName> = { query: 'graph', global: 'blocks' };

function current(): string {
  return window.location.pathname.slice(base.pathname.length) + window.location.search;
}

// useRoute returns the page and the query of the address.
export function useRoute(): { page: PageName; search: string } {
  const at = useSyncExternalStore(subscribe, current);
  const cut = at.indexOf('?');
  const name = (cut < 0 ? at : at.slice(0, cut)) || hints.pages[0] || 'status';
  return { page: aliases[name] ?? (name as PageName), search: cut < 0 ? '' : at.slice(cut) };
}

export function href(page: PageName, search = ''): string {
  return base.pathname + page + search;
}

export function go(page: PageName, search = ''): void {
  window.history.pushState(null, '', href(page, search));
  notify();
}

// note changes the query of the address without leaving the page.
export function note(search: string, replace = true): void {
  const url = window.location.pathname + search;
  if (url === window.location.pathname + window.location.search) {
    return;
  }
  window.history[replace ? 'replaceState' : 'pushState'](null, '', url);
}
