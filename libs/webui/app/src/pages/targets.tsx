import { useState } from 'react';
import type { Labels } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { matches, parseFilter } from '../lib/match';
import { about, ago } from '../lib/time';
import { Badge, Check, Empty, Heading, LabelSet, Search, Table, Trouble, Warnings, type Column } from '../ui/parts';

interface Target {
  discoveredLabels: Labels;
  labels: Labels;
  scrapePool: string;
  scrapeUrl: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  health: string;
}

export default function Targets() {
  const targets = useAPI<{ activeTargets: Target[]; droppedTargets: { discoveredLabels: Labels }[] }>('targets', {}, 15_000);
  const [text, setText] = useState('');
  const [onlyDown, setOnlyDown] = useState(false);
  const filter = parseFilter(text);
  const all = targets.data?.activeTargets ?? [];
  const shown = all.filter((t) => (!onlyDown || t.health !== 'up') && matches(filter, t.labels, `${t.scrapePool} ${t.scrapeUrl} ${t.lastError}`));
  const pools = new Map<string, Target[]>();
  shown.forEach((t) => pools.set(t.scrapePool, [...(pools.get(t.scrapePool) ?? []), t]));
  const down = all.filter((t) => t.health === 'down').length;
  const dropped = targets.data?.droppedTargets.length ?? 0;
  return (
    <>
      <Heading title="Targets" count={`${all.length} active${down ? `, ${down} down` : ''}${dropped ? `, ${dropped} dropped` : ''}`}
        at={targets.at} loading={targets.loading} onReload={targets.reload} />
      <div className="toolbar">
        <Search label="Filter targets" placeholder='Filter: address, job="node", error text' value={text} onChange={setText} error={filter.error} />
        <Check checked={onlyDown} onChange={setOnlyDown}>Only those that are not up</Check>
      </div>
      <Trouble what="Targets" error={targets.error} stale={!!targets.data} />
      <Warnings list={targets.answer?.warnings} />
      {[...pools].map(([pool, list]) => (
        <section className="panel" key={pool} aria-label={pool}>
          <div className="row"><h2>{pool}</h2><span className="faint">{list.filter((t) => t.health === 'up').length} of {list.length} up</span></div>
          <Table label={`Targets of ${pool}`} rows={list} columns={columns} rowKey={(t, i) => t.scrapeUrl + i} />
        </section>
      ))}
      {targets.data && shown.length === 0 && <Empty>No target to show.</Empty>}
    </>
  );
}

const columns: Column<Target>[] = [
  { name: 'Target', by: (t) => t.scrapeUrl, cell: (t) => <span className="break">{t.scrapeUrl}</span> },
  { name: 'Health', by: (t) => t.health, cell: (t) => <Badge tone={t.health === 'up' ? 'good' : t.health === 'down' ? 'bad' : 'plain'}>{t.health}</Badge> },
  { name: 'Labels', cell: (t) => <LabelSet labels={t.labels} /> },
  { name: 'Scraped', by: (t) => t.lastScrape, cell: (t) => <span className="nowrap">{ago(t.lastScrape)}</span> },
  { name: 'Took', number: true, by: (t) => t.lastScrapeDuration, cell: (t) => about(t.lastScrapeDuration * 1000) },
  { name: 'Error', by: (t) => t.lastError, cell: (t) => <span className="break">{t.lastError}</span> },
];
