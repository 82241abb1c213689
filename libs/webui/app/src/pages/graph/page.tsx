import { useEffect, useRef, useState } from 'react';
import type { Labels } from '../../lib/format';
import { useAPI, useStored } from '../../lib/hooks';
import { note } from '../../lib/router';
import { decode, defaults, encodeOptions, type Options } from './options';
import { Panel } from './panel';

interface Slot { id: number; options: Options }

const maxHistory = 50;

function readHistory(text: string): string[] {
  try {
    const list = JSON.parse(text) as unknown;
    return Array.isArray(list) ? list.filter((e): e is string => typeof e === 'string') : [];
  } catch {
    return [];
  }
}

export default function GraphPage({ search }: { search: string }) {
  const nextID = useRef(0);
  const slot = (options: Options): Slot => ({ id: nextID.current++, options });
  const [slots, setSlots] = useState<Slot[]>(() => decode(search).map(slot));
  const stores = useAPI<Record<string, { name: string; labelSets?: Labels[] }[]>>('stores');
  const [stored, setStored] = useStored<string>('history', '[]');
  const history = readHistory(stored);
  const seen = useRef(search);

  // Back and forward bring other queries.
  useEffect(() => {
    if (seen.current !== search) {
      seen.current = search;
      setSlots(decode(search).map(slot));
    }
    // eslint-disable-next-line
  }, [search]);

  const remember = (expr: string) => {
    const trimmed = expr.trim();
    if (trimmed) {
      setStored(JSON.stringify([trimmed, ...history.filter((e) => e !== trimmed)].slice(0, maxHistory)));
    }
  };
  const update = (next: Slot[], keep: boolean) => {
    setSlots(next);
    if (keep) {
      note(encodeOptions(next.map((s) => s.options)));
    }
  };
  const change = (id: number) => (options: Options, ran: boolean) => {
    update(slots.map((s) => (s.id === id ? { id, options } : s)), ran);
    if (ran) {
      remember(options.expr);
    }
  };
  const names = Object.values(stores.data ?? {}).flat().map((s) => s.name);
  return (
    <>
      <h1 className="hidden">Query</h1>
      {slots.map((s, i) => (
        <Panel key={s.id} number={i + 1} options={s.options} storeNames={names} onChange={change(s.id)}
          onRemove={slots.length > 1 ? () => update(slots.filter((o) => o.id !== s.id), true) : undefined} />
      ))}
      <div className="row">
        <button type="button" onClick={() => update([...slots, slot({ ...defaults })], true)}>Add a query</button>
        <button type="button" className="quiet" onClick={() => void navigator.clipboard?.writeText(window.location.href)}>Copy the link to this page</button>
      </div>
      {history.length > 0 && (
        <details className="panel">
          <summary>Earlier queries ({history.length})</summary>
          <ul className="history">
            {history.map((expr) => (
              <li key={expr}>
                <button type="button" onClick={() => {
                  const last = slots[slots.length - 1];
                  const options = { ...(last?.options ?? defaults), expr };
                  const fresh = slot(options);
                  update(last && last.options.expr.trim() === '' ? [...slots.slice(0, -1), fresh] : [...slots, fresh], true);
                }}>{expr}</button>
              </li>
            ))}
          </ul>
          <button type="button" className="quiet" onClick={() => setStored('[]')}>Forget them</button>
        </details>
      )}
    </>
  );
}
