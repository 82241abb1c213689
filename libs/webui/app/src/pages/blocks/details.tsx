import { useEffect, useRef, useState } from 'react';
import { call, messageOf } from '../../lib/api';
import { bytes, count, resolution as resolutionText } from '../../lib/format';
import { useAPI } from '../../lib/hooks';
import { about, ago, formatTime } from '../../lib/time';
import { Badge, Choice, Empty, LabelSet, Notice, Trouble, Wide } from '../../ui/parts';
import { Top, type Statistic } from '../figures';
import { flagFailed, flagTombstones, type Block, type Marks, type Meta } from './rows';

interface Found {
  meta: Meta | null;
  metaError?: string;
  marks: Marks;
  objects: { name: string; bytes: number; modified?: string; error?: string }[];
}

type Tab = 'summary' | 'files' | 'cardinality' | 'meta';
const tabs = [['summary', 'Summary'], ['files', 'Files'], ['cardinality', 'Cardinality'], ['meta', 'meta.json']] as const;

interface Props {
  block: Block;
  admin: boolean;
  aside?: string;
  onClose: () => void;
  onChanged: () => void;
}

// Details shows one block of a bucket: what meta.json says, what really lies there, and its marks.
export function Details({ block: b, admin, aside, onClose, onChanged }: Props) {
  const [tab, setTab] = useState<Tab>('summary');
  const found = useAPI<Found>(`bucket/blocks/${b.id}`);
  const marks = found.data?.marks;
  return (
    <section className="panel" aria-label={`Block ${b.id}`}>
      <div className="row"><h2 className="mono break">{b.id}</h2><span className="grow" /><button type="button" className="quiet" onClick={onClose}>Close</button></div>
      <div className="toolbar"><Choice label="About this block" value={tab} options={tabs} onChange={setTab} /></div>
      <Trouble what="The block" error={found.error} stale={!!found.data} />
      {found.data?.metaError && <Notice tone="bad" title="meta.json: ">{found.data.metaError}</Notice>}
      {aside && <Notice tone="bad" title="Set aside by the compactor: "><span className="break">{aside}</span></Notice>}
      {tab === 'summary' && <Summary block={b} meta={found.data?.meta ?? null} />}
      {tab === 'summary' && <MarkList block={b} marks={marks} admin={admin} onChanged={() => { found.reload(); onChanged(); }} />}
      {tab === 'files' && <Files found={found.data} />}
      {tab === 'cardinality' && <Cardinality id={b.id} />}
      {tab === 'meta' && <pre tabIndex={0} aria-label="meta.json">{found.data?.meta ? JSON.stringify(found.data.meta, null, 2) : 'Loading…'}</pre>}
    </section>
  );
}

export function Summary({ block: b, meta }: { block: Block; meta: Meta | null }) {
  const sources = meta?.compaction.sources ?? [];
  const parents = meta?.compaction.parents ?? [];
  const rows: [string, React.ReactNode][] = [
    ['External labels', <LabelSet key="l" labels={b.group.labels} />],
    ['Time', <>{formatTime(b.min)} – {formatTime(b.max)}<br /><span className="faint">{about(b.max - b.min)}</span></>],
    ['Resolution', resolutionText(b.resolution)],
    ['Compaction level', String(b.level)],
    ['Size', bytes(b.bytes)],
    ['Series', count(b.series)],
    ['Samples', count(b.samples)],
    ['Chunks', count(b.chunks)],
    ['Made by', b.source || 'unknown'],
    ['Uploaded', b.uploaded ? `${formatTime(b.uploaded)} (${ago(b.uploaded)})` : 'unknown'],
    ['Made of', sources.length > 0 ? <details><summary>{sources.length} source blocks{parents.length > 0 && `, ${parents.length} parents`}</summary><pre tabIndex={0} aria-label="Source blocks">{sources.join('\n')}</pre></details> : '–'],
  ];
  return (
    <>
      <p className="row">
        {b.overlaps && <Badge tone="bad">overlaps another block</Badge>}
        {!!(b.flags & flagFailed) && <Badge tone="bad">compaction failed</Badge>}
        {!!(b.flags & flagTombstones) && <Badge tone="info">has tombstones</Badge>}
      </p>
      <table><tbody>{rows.map(([k, v]) => <tr key={k}><th scope="row">{k}</th><td className="break">{v}</td></tr>)}</tbody></table>
    </>
  );
}

const kinds = [
  { key: 'deletion', name: 'Deletion', set: 'DELETION', unset: 'REMOVE_DELETION', verb: 'Mark for deletion', undo: 'Keep it', tone: 'bad', warning: 'The block will be deleted when the compactor\'s delete delay has passed. Until then the mark can be taken off.' },
  { key: 'noCompact', name: 'No compaction', set: 'NO_COMPACTION', unset: 'REMOVE_NO_COMPACTION', verb: 'Keep out of compaction', undo: 'Allow compaction', tone: 'warn', warning: 'The compactor will not merge this block with others.' },
  { key: 'noDownsample', name: 'No downsampling', set: 'NO_DOWNSAMPLING', unset: 'REMOVE_NO_DOWNSAMPLING', verb: 'Keep from downsampling', undo: 'Allow downsampling', tone: 'warn', warning: 'The compactor will not downsample this block.' },
] as const;

type Kind = (typeof kinds)[number];

function MarkList({ block, marks, admin, onChanged }: { block: Block; marks: Marks | undefined; admin: boolean; onChanged: () => void }) {
  const [asking, setAsking] = useState<Kind | null>(null);
  if (!marks) {
    return null;
  }
  return (
    <section aria-label="Marks" className="marks">
      <h3>Marks</h3>
      {kinds.map((k) => {
        const m = marks[k.key];
        const since = m?.deletion_time ?? m?.no_compact_time ?? m?.no_downsample_time;
        return (
          <div className="row" key={k.key}>
            <span className="mark-name">{k.name}</span>
            {m ? <Badge tone={k.tone}>set {since ? ago(since * 1000) : ''}</Badge> : <span className="faint">not set</span>}
            {m && <span className="faint break">{[m.reason, m.details].filter(Boolean).join(': ')}</span>}
            <span className="grow" />
            {admin && <button type="button" className={k.key === 'deletion' && !m ? 'danger' : undefined} onClick={() => setAsking(k)}>{m ? k.undo : k.verb}</button>}
          </div>
        );
      })}
      {!admin && <p className="faint">Marks cannot be changed here: administrative operations are disabled.</p>}
      {asking && <MarkDialog block={block} kind={asking} unset={!!marks[asking.key]} onDone={(changed) => { setAsking(null); if (changed) { onChanged(); } }} />}
    </section>
  );
}

function MarkDialog({ block, kind, unset, onDone }: { block: Block; kind: Kind; unset: boolean; onDone: (changed: boolean) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [detail, setDetail] = useState('');
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const needsReason = !unset && kind.key === 'deletion';
  const submit = () => {
    setBusy(true);
    call('blocks/mark', { id: block.id, action: unset ? kind.unset : kind.set, detail: unset ? undefined : detail }, { method: 'POST' }).then(
      () => onDone(true),
      (err: unknown) => { setError(messageOf(err)); setBusy(false); },
    );
  };
  const title = unset ? kind.undo : kind.verb;
  return (
    <dialog ref={dialog} aria-label={title} onCancel={() => onDone(false)}>
      <h2>{title}</h2>
      <p className="mono break">{block.id}</p>
      {!unset && <p>{kind.warning}</p>}
      {!unset && (
        <label>Reason{needsReason ? '' : ' (optional)'}
          <textarea rows={2} value={detail} maxLength={1000} onChange={(e) => setDetail(e.target.value)} />
        </label>
      )}
      {error && <Notice tone="bad">{error}</Notice>}
      <div className="row">
        <button type="button" className="primary" disabled={busy || (needsReason && detail.trim() === '')} onClick={submit}>{title}</button>
        <button type="button" onClick={() => onDone(false)}>Cancel</button>
      </div>
    </dialog>
  );
}

function Files({ found }: { found: Found | undefined }) {
  if (!found) {
    return <Empty>Loading…</Empty>;
  }
  const stated = new Map((found.meta?.thanos.files ?? []).map((f) => [f.rel_path, f.size_bytes]));
  const missing = [...stated.keys()].filter((n) => !found.objects.some((o) => o.name === n));
  return (
    <>
      {missing.length > 0 && <Notice tone="bad" title="Missing: ">{missing.join(', ')}</Notice>}
      <Wide label="Objects of the block">
        <table>
          <thead><tr><th scope="col">Object</th><th scope="col" className="number">Size</th><th scope="col">Written</th></tr></thead>
          <tbody>
            {found.objects.map((o) => {
              const want = stated.get(o.name);
              return (
                <tr key={o.name}>
                  <td className="mono">{o.name}</td>
                  <td className="number">{o.error ? o.error : bytes(o.bytes)}{want !== undefined && !o.error && want !== o.bytes && <Badge tone="bad">meta.json says {bytes(want)}</Badge>}</td>
                  <td className="nowrap">{o.modified ? formatTime(Date.parse(o.modified)) : '–'}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </Wide>
    </>
  );
}

interface Report {
  series: number; labelNames: number; labelPairs: number; readBytes: number;
  metrics: Statistic[]; pairs: Statistic[]; labels: { name: string; values: number; series: number }[];
}

function Cardinality({ id }: { id: string }) {
  const report = useAPI<Report>(`bucket/blocks/${id}/cardinality`);
  const r = report.data;
  return (
    <>
      <Trouble what="The cardinality" error={report.error} stale={!!r} />
      {report.loading && !r && <Empty>Reading the index…</Empty>}
      {r && (
        <>
          <p>{count(r.series)} series, {count(r.labelPairs)} label pairs of {count(r.labelNames)} names. <span className="faint">Read {bytes(r.readBytes)} of the index.</span></p>
          <Top title="Metrics by series" list={r.metrics} />
          <Top title="Labels by values" list={r.labels.map((l) => ({ name: l.name, value: l.values }))} />
          <Top title="Label pairs by series" list={r.pairs} />
        </>
      )}
    </>
  );
}
