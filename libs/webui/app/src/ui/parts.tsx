// The small parts that all pages are made of.
import { useId, useState, type ReactNode } from 'react';
import type { Labels } from '../lib/format';
import { ago } from '../lib/time';

export type Tone = 'good' | 'warn' | 'bad' | 'info' | 'plain';

export function Badge({ tone = 'plain', title, children }: { tone?: Tone; title?: string; children: ReactNode }) {
  return <span className={`badge badge-${tone}`} title={title}>{children}</span>;
}

export function Notice({ tone, title, children }: { tone: Tone; title?: string; children?: ReactNode }) {
  return (
    <div className={`notice notice-${tone}`} role={tone === 'bad' ? 'alert' : 'status'}>
      {title && <strong>{title}</strong>}
      {children}
    </div>
  );
}

// Trouble shows that something could not be had, while what was had before stays on the page.
export function Trouble({ what, error, stale }: { what: string; error?: string; stale?: boolean }) {
  if (!error) {
    return null;
  }
  return (
    <Notice tone="bad" title={`${what} could not be loaded. `}>
      <span className="break">{error}</span>
      {stale && <span> What is shown below is the last good answer.</span>}
    </Notice>
  );
}

export function Warnings({ list, tone = 'warn' }: { list: string[] | undefined; tone?: Tone }) {
  if (!list?.length) {
    return null;
  }
  return (
    <Notice tone={tone}>
      {list.length === 1 ? <span className="break">{list[0]}</span> : <ul>{list.map((w, i) => <li key={i} className="break">{w}</li>)}</ul>}
    </Notice>
  );
}

export function LabelSet({ labels, onPick }: { labels: Labels | undefined; onPick?: (name: string, value: string) => void }) {
  const entries = Object.entries(labels ?? {});
  if (entries.length === 0) {
    return <span className="faint">no labels</span>;
  }
  return (
    <span className="labels">
      {entries.map(([k, v]) => {
        const text = <><span className="label-name">{k}</span>=<span className="label-value">"{v}"</span></>;
        return onPick
          ? <button type="button" key={k} className="label" title="Filter by this label" onClick={() => onPick(k, v)}>{text}</button>
          : <span key={k} className="label">{text}</span>;
      })}
    </span>
  );
}

export function Search({ value, onChange, label, placeholder, error }: {
  value: string; onChange: (v: string) => void; label: string; placeholder?: string; error?: string;
}) {
  const id = useId();
  return (
    <div className="search">
      <label htmlFor={id} className="hidden">{label}</label>
      <input id={id} type="search" value={value} placeholder={placeholder ?? label} spellCheck={false} autoComplete="off"
        aria-invalid={error ? true : undefined} title={error} onChange={(e) => onChange(e.target.value)} />
    </div>
  );
}

export function Choice<T extends string>({ value, onChange, options, label }: {
  value: T; onChange: (v: T) => void; options: readonly (readonly [T, ReactNode])[]; label: string;
}) {
  return (
    <div className="choice" role="group" aria-label={label}>
      {options.map(([v, text]) => (
        <button type="button" key={v} aria-pressed={v === value} onClick={() => onChange(v)}>{text}</button>
      ))}
    </div>
  );
}

export function Select<T extends string>({ value, onChange, options, label, hideLabel }: {
  value: T; onChange: (v: T) => void; options: readonly (readonly [T, string])[]; label: string; hideLabel?: boolean;
}) {
  const id = useId();
  return (
    <span className="field">
      <label htmlFor={id} className={hideLabel ? 'hidden' : undefined}>{label}</label>
      <select id={id} value={value} onChange={(e) => onChange(e.target.value as T)}>
        {options.map(([v, text]) => <option key={v} value={v}>{text}</option>)}
      </select>
    </span>
  );
}

export function Check({ checked, onChange, children, title }: { checked: boolean; onChange: (v: boolean) => void; children: ReactNode; title?: string }) {
  return (
    <label className="check" title={title}>
      <input type="checkbox" checked={checked} onChange={(e) => onChange(e.target.checked)} />
      {children}
    </label>
  );
}

export function Heading({ title, count, at, loading, onReload, children }: {
  title: string; count?: ReactNode; at?: number; loading?: boolean; onReload?: () => void; children?: ReactNode;
}) {
  return (
    <div className="heading">
      <h1>{title}</h1>
      {count !== undefined && <span className="faint">{count}</span>}
      <div className="grow" />
      {children}
      {onReload && (
        <button type="button" className="quiet" onClick={onReload} disabled={loading} title={at ? `Loaded ${ago(at)}` : undefined}>
          {loading ? 'Loading…' : 'Reload'}
        </button>
      )}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}

// Wide is for what may be wider than the screen: it scrolls by itself, also by keyboard.
export function Wide({ label, children, className = '' }: { label: string; children: ReactNode; className?: string }) {
  return <div className={`wide ${className}`} role="region" aria-label={label} tabIndex={0}>{children}</div>;
}

export interface Column<R> {
  name: string;
  cell: (row: R) => ReactNode;
  // What to sort by; without it the column cannot be sorted.
  by?: (row: R) => string | number;
  number?: boolean;
}

// Least width of a column on average, rem.
const columnWidth = 6.5;

// Table sorts by a click on a column. It shows `step` rows more each time it is asked to.
export function Table<R>({ rows, columns, rowKey, label, step = 200, onRow }: {
  rows: R[]; columns: Column<R>[]; rowKey: (row: R, i: number) => string; label: string; step?: number; onRow?: (row: R) => string | undefined;
}) {
  const [sort, setSort] = useState<{ column: number; down: boolean } | null>(null);
  const [shown, setShown] = useState(step);
  let ordered = rows;
  const by = sort && columns[sort.column]?.by;
  if (sort && by) {
    ordered = rows.slice().sort((a, b) => {
      const x = by(a), y = by(b);
      return (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1);
    });
  }
  const click = (column: number) => setSort((s) => (s?.column === column ? (s.down ? null : { column, down: true }) : { column, down: false }));
  return (
    <>
      <Wide label={label}>
        {/* Narrow screens scroll the table rather than break every word of it. */}
        <table style={{ minWidth: `${columns.length * columnWidth}rem` }}>
          <thead>
            <tr>
              {columns.map((c, i) => (
                <th key={c.name} scope="col" className={c.number ? 'number' : undefined}
                  aria-sort={sort?.column === i ? (sort.down ? 'descending' : 'ascending') : undefined}>
                  {c.by ? <button type="button" className="sort" onClick={() => click(i)}>{c.name}{sort?.column === i ? (sort.down ? ' ↓' : ' ↑') : ''}</button> : c.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {ordered.slice(0, shown).map((r, i) => (
              <tr key={rowKey(r, i)} className={onRow?.(r)}>
                {columns.map((c) => <td key={c.name} className={c.number ? 'number' : undefined}>{c.cell(r)}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </Wide>
      {ordered.length > shown && (
        <p><button type="button" onClick={() => setShown(shown + step)}>Show more ({ordered.length - shown} left)</button></p>
      )}
    </>
  );
}
