import { useState } from 'react';
import { call, messageOf } from '../lib/api';
import { bytes } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { about, formatTime } from '../lib/time';
import { Badge, Empty, Heading, Notice, Table, Trouble, type Column } from '../ui/parts';

interface Running {
  id: string;
  query: string;
  kind: string;
  tenant: string;
  state: string;
  began: string;
  tookSeconds: number;
  bytes: number;
}

export default function Queries() {
  const running = useAPI<{ queries: Running[] | null }>('active_queries', {}, 2000);
  const [error, setError] = useState<string | null>(null);
  const cancel = (id: string) => {
    call(`active_queries/${encodeURIComponent(id)}`, {}, { method: 'DELETE' }).then(
      () => { setError(null); running.reload(); },
      (err: unknown) => setError(messageOf(err)),
    );
  };
  const list = running.data?.queries ?? [];
  const columns: Column<Running>[] = [
    { name: 'Query', by: (q) => q.query, cell: (q) => <><code className="break">{q.query}</code> <Badge>{q.kind}</Badge></> },
    { name: 'State', by: (q) => q.state, cell: (q) => q.state },
    { name: 'Tenant', by: (q) => q.tenant, cell: (q) => q.tenant || '–' },
    { name: 'For', number: true, by: (q) => q.tookSeconds, cell: (q) => <span className="nowrap" title={formatTime(Date.parse(q.began))}>{about(q.tookSeconds * 1000)}</span> },
    { name: 'Bytes', number: true, by: (q) => q.bytes, cell: (q) => bytes(q.bytes) },
    { name: '', cell: (q) => <button type="button" className="danger" onClick={() => cancel(q.id)} aria-label={`Cancel ${q.query}`}>Cancel</button> },
  ];
  return (
    <>
      <Heading title="Running queries" count={`${list.length}`} at={running.at} loading={running.loading} onReload={running.reload} />
      <Trouble what="The list" error={running.error} stale={!!running.data} />
      {error && <Notice tone="bad" title="Not cancelled. ">{error}</Notice>}
      <div className="panel">
        {list.length === 0 ? <Empty>{running.data ? 'No query runs at this moment.' : 'Loading…'}</Empty> : <Table label="Running queries" rows={list} columns={columns} rowKey={(q) => q.id} />}
      </div>
    </>
  );
}
