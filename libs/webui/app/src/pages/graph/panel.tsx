import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { call, messageOf } from '../../lib/api';
import { useWidth } from '../../lib/hooks';
import { about } from '../../lib/time';
import { Badge, Choice, Empty, Notice, Warnings } from '../../ui/parts';
import { Chart } from './chart';
import { Controls } from './controls';
import { Editor } from './editor';
import { stepOf, type Options, type Tab } from './options';
import { Coverage, ReceiptView, type Receipt } from './receipt';
import { isMany, linesOf, type QueryData } from './result';
import { ValueTable } from './table';

interface Outcome {
  tab: Tab;
  data: QueryData;
  start: number; end: number; step: number;
  warnings: string[]; infos: string[];
  receipt?: Receipt;
  took: number;
}

interface Props {
  options: Options;
  number: number;
  storeNames: string[];
  onChange: (o: Options, ran: boolean) => void;
  onRemove?: () => void;
}

const tabs = [['graph', 'Graph'], ['table', 'Table']] as const;

async function ask(o: Options, signal: AbortSignal): Promise<Outcome> {
  const end = (o.end ?? Date.now()) / 1000;
  const step = stepOf(o) / 1000;
  const start = end - Math.floor(o.range / 1000 / step) * step;
  const common = {
    query: o.expr, dedup: o.dedup, partial_response: o.partial ?? undefined, max_source_resolution: o.resolution, engine: o.engine, receipt: true,
    'storeMatch[]': o.stores.map((s) => `{__address__=${JSON.stringify(s)}}`),
  };
  const began = performance.now();
  const answer = o.tab === 'graph'
    ? await call<QueryData>('query_range', { ...common, start: start.toFixed(3), end: end.toFixed(3), step }, { method: 'POST', signal })
    : await call<QueryData>('query', { ...common, time: end.toFixed(3) }, { method: 'POST', signal });
  return {
    tab: o.tab, data: answer.data, start: Number(start.toFixed(3)), end: Number(end.toFixed(3)), step, warnings: answer.warnings, infos: answer.infos,
    receipt: answer.extra.receipt as Receipt | undefined, took: performance.now() - began,
  };
}

export function Panel({ options, number, storeNames, onChange, onRemove }: Props) {
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [running, setRunning] = useState(false);
  const [receiptOpen, setReceiptOpen] = useState(false);
  const abort = useRef<AbortController | null>(null);

  const run = useCallback((o: Options) => {
    abort.current?.abort();
    if (o.expr.trim() === '') {
      return;
    }
    const mine = new AbortController();
    abort.current = mine;
    setRunning(true);
    ask(o, mine.signal).then(
      (out) => {
        setOutcome(out);
        setError(null);
      },
      (err: unknown) => {
        if (!mine.signal.aborted) {
          setError(messageOf(err));
          setOutcome(null);
        }
      },
    ).finally(() => {
      if (abort.current === mine) {
        setRunning(false);
      }
    });
  }, []);

  // A panel that comes with an expression shows its answer.
  const first = useRef(options);
  useEffect(() => {
    run(first.current);
    return () => abort.current?.abort();
  }, [run]);

  const change = (part: Partial<Options>) => {
    const next = { ...options, ...part };
    onChange(next, true);
    run(next);
  };
  const submit = () => {
    onChange(options, true);
    run(options);
  };
  return (
    <section className="panel" aria-label={`Query ${number}`} data-running={running}>
      <div className="editor-row">
        <Editor value={options.expr} number={number} onChange={(expr) => onChange({ ...options, expr }, false)} onRun={submit} />
        <span className="row">
          <button type="button" className="primary" onClick={submit}>Run</button>
          {running && <button type="button" onClick={() => { abort.current?.abort(); setRunning(false); }}>Cancel</button>}
          {onRemove && <button type="button" className="quiet" onClick={onRemove} aria-label={`Remove query ${number}`}>Remove</button>}
        </span>
      </div>
      <div className="options">
        <Choice label="View" value={options.tab} options={tabs} onChange={(tab) => change({ tab })} />
        <Controls options={options} storeNames={storeNames} onChange={change} />
      </div>
      <Facts outcome={outcome} running={running} open={receiptOpen} onOpen={() => setReceiptOpen(!receiptOpen)} />
      {error !== null && <Notice tone="bad" title="The query failed. "><span className="break">{error}</span></Notice>}
      <Warnings list={outcome?.warnings} />
      <Warnings list={outcome?.infos} tone="info" />
      {receiptOpen && outcome?.receipt && <ReceiptView receipt={outcome.receipt} />}
      {outcome && <Result outcome={outcome} stacked={options.stacked} onZoom={(from, to) => change({ range: Math.max(to - from, 1000), end: to, step: null })} />}
    </section>
  );
}

function Facts({ outcome, running, open, onOpen }: { outcome: Outcome | null; running: boolean; open: boolean; onOpen: () => void }) {
  if (!outcome) {
    return running ? <p className="faint">Running…</p> : null;
  }
  const { data, receipt } = outcome;
  const list = isMany(data) ? data.result : null;
  return (
    <div className="row facts">
      {list && <span data-testid="series-count"><strong>{list.length}</strong> series</span>}
      <span className="faint">{about(outcome.took)}{outcome.tab === 'graph' && `, a point every ${about(outcome.step * 1000)}`}{running && ', running again…'}</span>
      {receipt && <Coverage receipt={receipt} />}
      {!receipt && outcome.warnings.length > 0 && <Badge tone="warn">with warnings</Badge>}
      {receipt && <button type="button" className="quiet" aria-expanded={open} onClick={onOpen}>{open ? 'Hide receipt' : 'Receipt'}</button>}
    </div>
  );
}

function Result({ outcome, stacked, onZoom }: { outcome: Outcome; stacked: boolean; onZoom: (from: number, to: number) => void }) {
  const [box, width] = useWidth<HTMLDivElement>();
  const { data, start, end, step, tab } = outcome;
  const series = useMemo(() => (isMany(data) ? data.result : []), [data]);
  const lines = useMemo(() => linesOf(series, start, end, step), [series, start, end, step]);
  const histograms = series.filter((s) => !s.values?.length && s.histograms?.length).length;
  return (
    <div ref={box}>
      {tab === 'table' && <ValueTable data={data} />}
      {tab === 'graph' && series.length === 0 && <Empty>Nothing matches in this range.</Empty>}
      {tab === 'graph' && histograms > 0 && <Notice tone="info">{histograms} series are native histograms, which a line cannot show: use histogram_quantile() or the table.</Notice>}
      {tab === 'graph' && series.length > 0 && width > 0 && <Chart series={series} lines={lines} stacked={stacked} onZoom={onZoom} />}
    </div>
  );
}
