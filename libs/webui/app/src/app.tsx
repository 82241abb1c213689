import { Component, lazy, Suspense, useEffect, useState, type ComponentType, type ErrorInfo, type ReactNode } from 'react';
import { hints, type PageName } from './lib/boot';
import { setTheme, useStored, type Theme } from './lib/hooks';
import { useRoute } from './lib/router';
import { setUTC } from './lib/time';
import { Link } from './ui/link';
import { Empty, Notice } from './ui/parts';

type PageComponent = ComponentType<{ search: string }>;

const pages: Record<PageName, { title: string; page: PageComponent }> = {
  graph: { title: 'Query', page: lazy(() => import('./pages/graph/page')) },
  stores: { title: 'Stores', page: lazy(() => import('./pages/stores')) },
  rules: { title: 'Rules', page: lazy(() => import('./pages/rules')) },
  alerts: { title: 'Alerts', page: lazy(() => import('./pages/alerts')) },
  targets: { title: 'Targets', page: lazy(() => import('./pages/targets')) },
  'tsdb-status': { title: 'TSDB', page: lazy(() => import('./pages/tsdb')) },
  queries: { title: 'Running', page: lazy(() => import('./pages/queries')) },
  blocks: { title: 'Blocks', page: lazy(() => import('./pages/blocks/global')) },
  loaded: { title: 'Loaded', page: lazy(() => import('./pages/blocks/loaded')) },
  usage: { title: 'Usage', page: lazy(() => import('./pages/blocks/usagepage')) },
  work: { title: 'Work', page: lazy(() => import('./pages/work')) },
  tenants: { title: 'Tenants', page: lazy(() => import('./pages/tenants')) },
  gaps: { title: 'Left out', page: lazy(() => import('./pages/gaps')) },
  ruler: { title: 'Ruler', page: lazy(() => import('./pages/ruler')) },
  flags: { title: 'Flags', page: lazy(() => import('./pages/flags')) },
  status: { title: 'Status', page: lazy(() => import('./pages/status')) },
};

const themes: readonly (readonly [Theme, string])[] = [['system', 'Auto'], ['light', 'Light'], ['dark', 'Dark']];

export function App() {
  const { page, search } = useRoute();
  const [theme, storeTheme] = useStored<Theme>('theme', 'system');
  const [utc, storeUTC] = useStored<boolean>('utc', false);
  setUTC(utc);
  useEffect(() => setTheme(theme), [theme]);
  const known = hints.pages.includes(page);
  const title = known ? pages[page].title : 'Not found';
  useEffect(() => {
    document.title = `${title} · ${hints.service}`;
  }, [title]);
  // Where the navigation is wider than the screen, the page one is on stays in sight.
  useEffect(() => {
    document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }, [page]);
  const Page = known ? pages[page].page : null;
  return (
    <>
      <a className="skip" href="#main">Skip to the content</a>
      <header className="top">
        <span className="brand">
          <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
            <path d="M2 24 10 6h9l4 8 7 10z" fill="currentColor" />
            <path className="wave" d="M2 24c4-2.6 7-2.6 10 0s7 2.6 10 0 5-2 8 0v4H2z" />
          </svg>
          <span>Promontory</span>
          <span className="service">{hints.service}</span>
        </span>
        <nav aria-label="Pages">
          {hints.pages.map((p) => <Link key={p} page={p} current={p === page}>{pages[p].title}</Link>)}
        </nav>
        <div className="settings">
          <button type="button" className="quiet" aria-pressed={utc} title="Show times in UTC instead of the local zone" onClick={() => storeUTC(!utc)}>UTC</button>
          <label className="hidden" htmlFor="theme">Colours</label>
          <select id="theme" value={theme} title="Colours: auto is as the system has it" onChange={(e) => storeTheme(e.target.value as Theme)}>
            {themes.map(([v, text]) => <option key={v} value={v}>{text}</option>)}
          </select>
        </div>
      </header>
      <main id="main" tabIndex={-1} key={utc ? 'utc' : 'local'}>
        <Guard key={page}>
          <Suspense fallback={<Empty>Loading…</Empty>}>
            {Page ? <Page search={search} /> : <Empty>This service has no page of that name.</Empty>}
          </Suspense>
        </Guard>
      </main>
    </>
  );
}

// Guard keeps a page that fails from taking the navigation along.
class Guard extends Component<{ children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override componentDidCatch(error: Error, info: ErrorInfo): void {
    console.error(error, info.componentStack);
  }

  override render(): ReactNode {
    if (!this.state.error) {
      return this.props.children;
    }
    return (
      <Notice tone="bad" title="This page has failed. ">
        <span className="break">{this.state.error.message}</span>{' '}
        <Retry onClick={() => this.setState({ error: undefined })} />
      </Notice>
    );
  }
}

function Retry({ onClick }: { onClick: () => void }) {
  const [used, setUsed] = useState(false);
  return <button type="button" disabled={used} onClick={() => { setUsed(true); onClick(); }}>Try again</button>;
}
