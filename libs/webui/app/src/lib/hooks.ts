import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { call, messageOf, type Answer, type Params } from './api';

export interface Loaded<T> {
  // The last good answer: it stays while a newer one is asked for, and when that fails.
  answer?: Answer<T>;
  data?: T;
  error?: string;
  loading: boolean;
  // When the answer came.
  at?: number;
  reload: () => void;
}

// useAPI asks for a path now and then again every `every` milliseconds while the page is seen.
export function useAPI<T>(path: string | null, params: Params = {}, every = 0): Loaded<T> {
  const [state, setState] = useState<{ answer?: Answer<T>; error?: string; loading: boolean; at?: number }>({ loading: path !== null });
  const [turn, setTurn] = useState(0);
  const key = path + '?' + JSON.stringify(params);
  const lastKey = useRef(key);
  useEffect(() => {
    if (path === null) {
      setState({ loading: false });
      return undefined;
    }
    const abort = new AbortController();
    const fresh = lastKey.current !== key;
    lastKey.current = key;
    setState((s) => (fresh ? { loading: true } : { ...s, loading: true }));
    call<T>(path, params, { signal: abort.signal }).then(
      (answer) => setState({ answer, loading: false, at: Date.now() }),
      (err: unknown) => {
        if (!abort.signal.aborted) {
          setState((s) => ({ ...s, error: messageOf(err), loading: false }));
        }
      },
    );
    return () => abort.abort();
    // params are in key
    // eslint-disable-next-line
  }, [key, turn]);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (!every || path === null) {
      return undefined;
    }
    const timer = window.setInterval(() => {
      if (document.visibilityState === 'visible') {
        reload();
      }
    }, every);
    return () => window.clearInterval(timer);
  }, [every, path, reload]);
  return { ...state, data: state.answer?.data, reload };
}

// A value that is kept in the browser; other tabs' changes are seen at the next load.
export function useStored<T extends string | boolean | number>(name: string, initial: T): [T, (v: T) => void] {
  const key = 'promontory.' + name;
  const [value, setValue] = useState<T>(() => {
    try {
      const text = window.localStorage.getItem(key);
      return text === null ? initial : (JSON.parse(text) as T);
    } catch {
      return initial;
    }
  });
  const set = useCallback((v: T) => {
    setValue(v);
    try {
      window.localStorage.setItem(key, JSON.stringify(v));
    } catch {
      // Without storage the value lives as long as the page.
    }
  }, [key]);
  return [value, set];
}

const darkQuery = window.matchMedia('(prefers-color-scheme: dark)');
const themeListeners = new Set<() => void>();

export type Theme = 'system' | 'light' | 'dark';

export function setTheme(theme: Theme): void {
  if (theme === 'system') {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
  themeListeners.forEach((l) => l());
}

function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : darkQuery.matches;
}

function onTheme(listener: () => void): () => void {
  themeListeners.add(listener);
  darkQuery.addEventListener('change', listener);
  return () => {
    themeListeners.delete(listener);
    darkQuery.removeEventListener('change', listener);
  };
}

// useDark tells what is drawn on canvas, which style sheets do not reach, whether it is dark.
export function useDark(): boolean {
  return useSyncExternalStore(onTheme, isDark);
}

// useWidth measures the element that its ref is given to.
export function useWidth<E extends HTMLElement>(): [React.RefObject<E | null>, number] {
  const ref = useRef<E>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = ref.current;
    if (!element) {
      return undefined;
    }
    const observer = new ResizeObserver(() => setWidth(Math.floor(element.clientWidth)));
    observer.observe(element);
    setWidth(Math.floor(element.clientWidth));
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
