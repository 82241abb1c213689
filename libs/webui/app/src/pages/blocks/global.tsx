import { useEffect, useMemo, useState } from 'react';
import { call } from '../../lib/api';
import { hints } from '../../lib/boot';
import { useAPI } from '../../lib/hooks';
import { ago } from '../../lib/time';
import { Heading, Notice, Trouble } from '../../ui/parts';
import { useWork } from '../worktypes';
import { Details, Summary } from './details';
import { Explorer } from './explorer';
import { fromMetas, fromOverview, type Marks, type Meta, type Overview } from './rows';

// Bucket-web has the overview with marks; a compactor's own viewer has the calls of other block viewers.
export default function GlobalPage() {
  return hints.service === 'bucket-web' ? <Bucket /> : <Viewer />;
}

function Bucket() {
  const overview = useAPI<Overview>('bucket/overview', {}, 30_000);
  const o = overview.data;
  const refreshed = o?.refreshedAt;
  // The same state comes as a new object with each answer: work is done once for each.
  const [kept, setKept] = useState<Overview | undefined>(o);
  useEffect(() => setKept(o), [o]);
  const blocks = useMemo(() => (kept ? fromOverview(kept) : []), [kept]);
  const work = useWork(o?.compactor ?? false);
  const look = () => {
    void call('bucket/refresh', {}, { method: 'POST' }).catch(() => undefined).then(() => window.setTimeout(overview.reload, 1500));
  };
  const empty = !refreshed || Date.parse(refreshed) <= 0;
  return (
    <>
      <Heading title="Blocks" count={refreshed && !empty ? `as of ${ago(refreshed)}` : undefined} at={overview.at} loading={overview.loading} onReload={overview.reload}>
        <button type="button" onClick={look}>Look at the bucket now</button>
      </Heading>
      <Trouble what="The overview" error={overview.error} stale={!!o} />
      {o?.err && (
        <Notice tone="bad" title={empty ? 'The bucket cannot be read. ' : 'The last look at the bucket failed; what is shown is older. '}>
          <span className="break">{o.err}</span> <span>({ago(o.triedAt)})</span>
        </Notice>
      )}
      {o && !o.err && empty && <Notice tone="info">The bucket is being looked at for the first time.</Notice>}
      {work.error && <Notice tone="warn" title="The compactor does not answer: "><span className="break">{work.error}</span></Notice>}
      {!!o?.unusable.length && (
        <details className="notice notice-warn">
          <summary>{o.unusable.length} blocks cannot be used: uploads or deletions under way, or cut off</summary>
          <ul>{o.unusable.slice(0, 500).map((u) => <li key={u.ulid} className="break"><code>{u.ulid}</code> {u.reason}</li>)}</ul>
        </details>
      )}
      {o && (
        <Explorer blocks={blocks} work={work.work} details={(b, close) => (
          <Details key={b.id} block={b} admin={o.admin} aside={work.work.aside.get(b.id)} onClose={close} onChanged={overview.reload} />
        )} />
      )}
    </>
  );
}

interface Blocks {
  label: string; blocks: Meta[] | null; refreshedAt: string; err: string | null;
  marked?: Record<string, Marks>;
  setAside?: { ulid: string; reason: string }[];
}

// A compactor can be asked for single blocks, a store-gateway cannot.
const hasDetails = hints.service === 'compactor';

// Viewer shows what /api/v1/blocks has.
export function Viewer({ view = 'global', title = 'Blocks' }: { view?: 'global' | 'loaded'; title?: string }) {
  const answer = useAPI<Blocks>('blocks', { view }, 60_000);
  const work = useWork(hints.pages.includes('work'));
  const data = answer.data;
  const blocks = useMemo(() => fromMetas(data?.blocks ?? [], data?.marked), [data]);
  return (
    <>
      <Heading title={title} count={data && `as of ${ago(data.refreshedAt)}`} at={answer.at} loading={answer.loading} onReload={answer.reload} />
      <Trouble what="The blocks" error={answer.error} stale={!!data} />
      {data?.err && <Notice tone="bad" title="The last look at the bucket failed. "><span className="break">{data.err}</span></Notice>}
      {!!data?.setAside?.length && (
        <Notice tone="bad" title="Not served: ">
          <ul>{data.setAside.map((a) => <li key={a.ulid} className="break"><code>{a.ulid}</code> {a.reason}</li>)}</ul>
        </Notice>
      )}
      {data && (
        <Explorer blocks={blocks} work={work.work} details={(b, close) => {
          if (hasDetails) {
            return <Details key={b.id} block={b} admin={hints.facts?.admin !== 'disabled'} aside={work.work.aside.get(b.id)} onClose={close} onChanged={answer.reload} />;
          }
          const meta = data.blocks?.find((m) => m.ulid === b.id) ?? null;
          return (
            <section className="panel" aria-label={`Block ${b.id}`}>
              <div className="row"><h2 className="mono break">{b.id}</h2><span className="grow" /><button type="button" className="quiet" onClick={close}>Close</button></div>
              <Summary block={b} meta={meta} />
              <details><summary>meta.json</summary><pre tabIndex={0} aria-label="meta.json">{JSON.stringify(meta, null, 2)}</pre></details>
            </section>
          );
        }} />
      )}
    </>
  );
}
