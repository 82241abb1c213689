import { bytes, count, labelText, type Labels } from '../../lib/format';
import { about, formatTime } from '../../lib/time';
import { Badge, LabelSet, Notice, Wide, type Tone } from '../../ui/parts';

export interface StoreCost {
  address: string;
  component?: string;
  labelSets?: Labels[];
  state: string;
  requests?: number;
  queuedSeconds?: number; firstFrameSeconds?: number; tookSeconds?: number;
  series?: number; chunks?: number; samples?: number; bytes?: number; frames?: number;
  resolutions?: Record<string, number>;
  blocks?: string[]; cacheHits?: number; cacheMisses?: number; bytesFetched?: number; hedged?: number;
  error?: string; warnings?: string[];
}

export interface Missing {
  address: string; component?: string; labels?: Labels; minTime: number; maxTime: number; reason: string; covered: boolean; coveredBy?: string[];
}

export interface Receipt {
  version: number;
  coverage: 'complete' | 'covered' | 'incomplete';
  queuedSeconds: number;
  tookSeconds: number;
  total: { series: number; chunks: number; samples: number; bytes: number; frames: number };
  stores?: StoreCost[];
  missing?: Missing[];
}

const tones: Record<string, Tone> = { complete: 'good', covered: 'info', incomplete: 'bad', answered: 'good', warned: 'warn', failed: 'bad', lost: 'bad' };

const meanings: Record<string, string> = {
  complete: 'Every store that could have had a part of this answer gave all of it.',
  covered: 'Some stores did not answer, but replicas of all they may hold did.',
  incomplete: 'Something may be missing from this answer, and no replica covers it.',
};

export function Coverage({ receipt }: { receipt: Receipt }) {
  return <Badge tone={tones[receipt.coverage] ?? 'plain'} title={meanings[receipt.coverage]}>{receipt.coverage}</Badge>;
}

// ReceiptView shows where the time of a query went, store by store, and what is missing.
export function ReceiptView({ receipt }: { receipt: Receipt }) {
  const stores = receipt.stores ?? [];
  const missing = receipt.missing ?? [];
  const span = Math.max(receipt.tookSeconds, ...stores.map((s) => (s.queuedSeconds ?? 0) + (s.tookSeconds ?? 0)), 0.000001);
  return (
    <section aria-label="Receipt" className="receipt">
      <div className="row">
        <h2>Receipt</h2>
        <Coverage receipt={receipt} />
        <span className="faint">
          {about(receipt.tookSeconds * 1000)}{receipt.queuedSeconds >= 0.001 && `, and ${about(receipt.queuedSeconds * 1000)} waiting for a turn`}
          {' · '}{count(receipt.total.series)} series, {count(receipt.total.samples)} samples, {bytes(receipt.total.bytes)} from {stores.length} stores
        </span>
      </div>
      <Gone list={missing} />
      {stores.length > 0 && (
        <Wide label="Stores of this query">
          <div className="waterfall">
            {stores.map((s) => <Lane key={s.address} store={s} span={span} />)}
          </div>
        </Wide>
      )}
      <p className="keys">
        <span><span className="key part-queued" />waited for other selectors</span>
        <span><span className="key part-wait" />until the first frame</span>
        <span><span className="key part-stream" />streaming</span>
        <span>the full width is {about(span * 1000)}</span>
      </p>
    </section>
  );
}

// together puts what is missing of one store for one reason into one line: a store names each of its blocks.
export function together(list: Missing[]): (Missing & { pieces: number })[] {
  const lines = new Map<string, Missing & { pieces: number }>();
  for (const m of list) {
    const key = JSON.stringify([m.address, m.component, m.reason, m.covered, m.coveredBy, labelText(m.labels)]);
    const line = lines.get(key);
    if (line) {
      line.minTime = Math.min(line.minTime, m.minTime);
      line.maxTime = Math.max(line.maxTime, m.maxTime);
      line.pieces++;
    } else {
      lines.set(key, { ...m, pieces: 1 });
    }
  }
  return [...lines.values()];
}

function Gone({ list }: { list: Missing[] }) {
  if (list.length === 0) {
    return null;
  }
  return (
    <Notice tone={list.some((m) => !m.covered) ? 'bad' : 'info'} title="Missing">
      <ul>
        {together(list).map((m, i) => (
          <li key={i} className="break">
            <strong>{m.address}</strong>{m.component && ` (${m.component})`} <LabelSet labels={m.labels} /> {formatTime(m.minTime)} – {formatTime(m.maxTime)}
            {m.pieces > 1 && ` in ${m.pieces} pieces`}: {m.reason}
            {m.covered && <> <Badge tone="good">covered by {(m.coveredBy ?? []).join(', ') || 'a replica'}</Badge></>}
          </li>
        ))}
      </ul>
    </Notice>
  );
}

function Lane({ store: s, span }: { store: StoreCost; span: number }) {
  const percent = (seconds: number) => `${Math.min(100, (seconds / span) * 100)}%`;
  const queued = s.queuedSeconds ?? 0, first = Math.min(s.firstFrameSeconds ?? 0, s.tookSeconds ?? 0), took = s.tookSeconds ?? 0;
  const broken = s.state === 'failed' || s.state === 'lost';
  const details = [
    `${count(s.series ?? 0)} series`, `${count(s.samples ?? 0)} samples`, bytes(s.bytes ?? 0),
    ...(s.resolutions ? [Object.keys(s.resolutions).join('+')] : []),
    ...(s.blocks?.length ? [`${s.blocks.length} blocks`] : []),
    ...(s.cacheHits !== undefined ? [`cache ${s.cacheHits}/${s.cacheHits + (s.cacheMisses ?? 0)}`] : []),
    ...(s.bytesFetched ? [`${bytes(s.bytesFetched)} fetched`] : []),
    ...(s.hedged ? [`hedged ${s.hedged}×`] : []),
  ];
  return (
    <>
      <div className="break">
        <strong>{s.address}</strong> <span className="faint">{s.component}</span>{' '}
        {s.state !== 'answered' && <Badge tone={tones[s.state] ?? 'plain'}>{s.state}</Badge>}
      </div>
      <div className="lane" title={`queued ${about(queued * 1000)}, first frame after ${about(first * 1000)}, took ${about(took * 1000)}`}>
        <span className="part part-queued" style={{ left: 0, width: percent(queued) }} />
        <span className={`part ${broken ? 'part-failed' : 'part-wait'}`} style={{ left: percent(queued), width: percent(first) }} />
        <span className={`part ${broken ? 'part-failed' : 'part-stream'}`} style={{ left: percent(queued + first), width: percent(took - first) }} />
      </div>
      <div className="faint">
        <span>{about(took * 1000)} · {details.join(' · ')}</span>
        {(s.error || s.warnings?.length) && <div className="break">{[s.error, ...(s.warnings ?? [])].filter(Boolean).join('; ')}</div>}
      </div>
    </>
  );
}
