import { useMemo, useState } from 'react';
import { bytes, count, resolution as resolutionText } from '../../lib/format';
import { useAPI, useDark } from '../../lib/hooks';
import { formatTime } from '../../lib/time';
import { Empty, Heading, Notice, Select, Table, Trouble, Wide, type Column } from '../../ui/parts';
import { fillOf } from './draw';
import { Retention } from './retention';
import { fromOverview, type Overview } from './rows';
import { growth, totalsBy, type Month, type Total } from './usage';

export default function UsagePage() {
  const overview = useAPI<Overview>('bucket/overview', {}, 60_000);
  const o = overview.data;
  const blocks = useMemo(() => (o ? fromOverview(o) : []), [o]);
  const names = useMemo(() => [...new Set(blocks.map((b) => b.group).flatMap((g) => Object.keys(g.labels)))].sort(), [blocks]);
  const [by, setBy] = useState('');
  const label = by || (o?.label && names.includes(o.label) ? o.label : names.includes('tenant_id') ? 'tenant_id' : names[0] ?? '');
  const totals = useMemo(() => totalsBy(blocks, (b) => b.group.labels[label] ?? ''), [blocks, label]);
  const resolutions = useMemo(() => totalsBy(blocks, (b) => resolutionText(b.resolution)), [blocks]);
  const months = useMemo(() => growth(blocks), [blocks]);
  return (
    <>
      <Heading title="Usage" at={overview.at} loading={overview.loading} onReload={overview.reload} count={o && `${count(blocks.length)} blocks, ${bytes(blocks.reduce((n, b) => n + b.bytes, 0))}`} />
      <Trouble what="The overview" error={overview.error} stale={!!o} />
      {o?.err && <Notice tone="bad" title="The last look at the bucket failed. "><span className="break">{o.err}</span></Notice>}
      {blocks.some((b) => b.bytes === 0) && <Notice tone="info">Some blocks do not say how large they are; they count as nothing here.</Notice>}
      <section className="panel" aria-label="Totals by label">
        <div className="row"><h2>Totals by</h2>{names.length > 0 && <Select hideLabel label="Label" value={label} onChange={setBy} options={names.map((n) => [n, n] as const)} />}</div>
        {totals.length > 0 ? <Table label="Totals by label" rows={totals} columns={columns(label, totals)} rowKey={(t) => t.name} /> : <Empty>No blocks.</Empty>}
      </section>
      <section className="panel" aria-label="Totals by resolution">
        <h2>By resolution</h2>
        {resolutions.length > 0 && <Table label="Totals by resolution" rows={resolutions} columns={columns('Resolution', resolutions)} rowKey={(t) => t.name} />}
      </section>
      <Growth months={months} />
      {o && <Retention blocks={blocks} compactor={o.compactor} />}
    </>
  );
}

function columns(name: string, all: Total[]): Column<Total>[] {
  const max = Math.max(...all.map((t) => t.bytes), 1);
  return [
    { name, by: (t) => t.name, cell: (t) => (t.name === '' ? <span className="faint">not set</span> : <code>{t.name}</code>) },
    { name: 'Share', cell: (t) => <div className="bar-cell"><div className="bar" style={{ width: `${(t.bytes / max) * 100}%` }} /></div> },
    { name: 'Size', number: true, by: (t) => t.bytes, cell: (t) => bytes(t.bytes) },
    { name: 'Blocks', number: true, by: (t) => t.blocks, cell: (t) => count(t.blocks) },
    { name: 'Samples', number: true, by: (t) => t.samples, cell: (t) => count(t.samples) },
    { name: 'From', by: (t) => t.min, cell: (t) => <span className="nowrap">{formatTime(t.min, false)}</span> },
    { name: 'Until', by: (t) => t.max, cell: (t) => <span className="nowrap">{formatTime(t.max, false)}</span> },
  ];
}

function Growth({ months }: { months: Month[] }) {
  const dark = useDark();
  const max = Math.max(...months.map((m) => m.bytes[0] + m.bytes[1] + m.bytes[2]), 1);
  return (
    <section className="panel" aria-label="Size by month of the data">
      <h2>Size by month of the data</h2>
      <Wide label="Size by month">
        <table>
          <tbody>
            {months.map((m) => (
              <tr key={m.start}>
                <th scope="row">{new Date(m.start).toISOString().slice(0, 7)}</th>
                <td className="bar-cell grow-bar">
                  <div className="stack">
                    {m.bytes.map((n, i) => <div key={i} style={{ width: `${(n / max) * 100}%`, background: fillOf([0, 300_000, 3_600_000][i] ?? 0, 3, dark) }} />)}
                  </div>
                </td>
                <td className="number">{bytes(m.bytes[0] + m.bytes[1] + m.bytes[2])}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Wide>
    </section>
  );
}
