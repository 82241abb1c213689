import { useState } from 'react';
import { bytes, count, type Labels } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { matches, parseFilter } from '../lib/match';
import { ago, formatTime } from '../lib/time';
import { Badge, Empty, Heading, LabelSet, Search, Table, Trouble, type Column, type Tone } from '../ui/parts';

interface Node { address: string; az: string; state: string; role: string; failures: number; lastError: string; leftAloneUntil: string | null; pendingBytes: number }

interface Ring {
  hashring: string; algorithm: string; replicationFactor: number; tenants: string[]; tenantMatcherType: string; shardSize: number;
  externalLabels: Labels; nodes: Node[];
}

interface Tenant { tenant: string; state: string; error: string; externalLabels: Labels; series: number; blocks: number; minTime: number; maxTime: number }

const tones: Record<string, Tone> = { local: 'info', idle: 'plain', ok: 'good', good: 'good', up: 'good', ready: 'good', open: 'good', failing: 'bad', failed: 'bad', resting: 'bad', down: 'bad', replaying: 'warn', draining: 'warn' };

export default function TenantsPage() {
  const rings = useAPI<Ring[] | null>('status/hashrings', {}, 5000);
  const tenants = useAPI<Tenant[] | null>('status/tenants', {}, 10_000);
  const [text, setText] = useState('');
  const filter = parseFilter(text);
  const all = tenants.data ?? [];
  const shown = all.filter((t) => matches(filter, { ...t.externalLabels, tenant: t.tenant }, `${t.state} ${t.error}`));
  return (
    <>
      <Heading title="Tenants and hashrings" at={tenants.at} loading={tenants.loading} count={`${all.length} tenants on this node, ${count(all.reduce((n, t) => n + t.series, 0))} series`}
        onReload={() => { rings.reload(); tenants.reload(); }} />
      <Trouble what="Hashrings" error={rings.error} stale={!!rings.data} />
      {rings.data?.length === 0 && <section className="panel"><Empty>This node has no hashring: it keeps what it gets.</Empty></section>}
      {rings.data?.map((r, i) => <RingPanel key={r.hashring + i} ring={r} />)}
      <div className="toolbar"><Search label="Filter tenants" value={text} onChange={setText} error={filter.error} /></div>
      <Trouble what="Tenants" error={tenants.error} stale={!!tenants.data} />
      <section className="panel" aria-label="Tenants">
        <h2>Tenants</h2>
        {shown.length === 0 ? <Empty>{tenants.data ? 'No tenant to show.' : 'Loading…'}</Empty> : <Table label="Tenants" rows={shown} columns={tenantColumns} rowKey={(t) => t.tenant} />}
      </section>
    </>
  );
}

const nodeColumns: Column<Node>[] = [
  { name: 'Node', by: (n) => n.address, cell: (n) => <strong className="break">{n.address}</strong> },
  { name: 'Zone', by: (n) => n.az, cell: (n) => n.az || '–' },
  {
    name: 'State', by: (n) => n.state, cell: (n) => (
      <><Badge tone={tones[n.state] ?? 'plain'}>{n.state}</Badge>{n.leftAloneUntil && <span className="faint"> left alone, tried again {ago(n.leftAloneUntil)}</span>}</>
    ),
  },
  { name: 'Role', by: (n) => n.role, cell: (n) => n.role || '–' },
  { name: 'Failures', number: true, by: (n) => n.failures, cell: (n) => count(n.failures) },
  { name: 'Under way', number: true, by: (n) => n.pendingBytes, cell: (n) => bytes(n.pendingBytes) },
  { name: 'Last error', by: (n) => n.lastError, cell: (n) => <span className="break">{n.lastError}</span> },
];

function RingPanel({ ring: r }: { ring: Ring }) {
  return (
    <section className="panel" aria-label={`Hashring ${r.hashring}`}>
      <div className="row">
        <h2>Hashring {r.hashring || '(unnamed)'}</h2>
        <Badge>{r.algorithm || 'hashmod'}</Badge>
        <span className="faint">{r.nodes.length} nodes, each series on {r.replicationFactor}{r.shardSize > 0 && `, a tenant on ${r.shardSize} nodes`}</span>
        {Object.keys(r.externalLabels).length > 0 && <LabelSet labels={r.externalLabels} />}
      </div>
      <p className="faint break">For {r.tenants.length === 0 ? 'all tenants' : `${r.tenants.join(', ')} (${r.tenantMatcherType})`}</p>
      <Table label={`Nodes of ${r.hashring}`} rows={r.nodes} columns={nodeColumns} rowKey={(n) => n.address} />
    </section>
  );
}

const tenantColumns: Column<Tenant>[] = [
  { name: 'Tenant', by: (t) => t.tenant, cell: (t) => <strong className="break">{t.tenant}</strong> },
  { name: 'State', by: (t) => t.state, cell: (t) => <><Badge tone={tones[t.state] ?? 'plain'}>{t.state}</Badge>{t.error && <div className="break">{t.error}</div>}</> },
  { name: 'Labels', cell: (t) => <LabelSet labels={t.externalLabels} /> },
  { name: 'Series', number: true, by: (t) => t.series, cell: (t) => count(t.series) },
  { name: 'Blocks', number: true, by: (t) => t.blocks, cell: (t) => count(t.blocks) },
  { name: 'From', by: (t) => t.minTime, cell: (t) => <span className="nowrap">{t.minTime ? formatTime(t.minTime) : '–'}</span> },
  { name: 'Until', by: (t) => t.maxTime, cell: (t) => <span className="nowrap">{t.maxTime ? formatTime(t.maxTime) : '–'}</span> },
];
