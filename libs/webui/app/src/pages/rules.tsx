import { useState } from 'react';
import { useAPI } from '../lib/hooks';
import { matches, parseFilter } from '../lib/match';
import { about, ago } from '../lib/time';
import { Badge, Check, Choice, Empty, Heading, LabelSet, Search, Table, Trouble, Warnings, type Column, type Tone } from '../ui/parts';
import { Expression } from './promql';
import type { Group, Rule } from './ruletypes';

type Kind = 'all' | 'alerting' | 'recording';
const kinds = [['all', 'All'], ['alerting', 'Alerting'], ['recording', 'Recording']] as const;
const tones: Record<string, Tone> = { ok: 'good', err: 'bad', error: 'bad', firing: 'bad', pending: 'warn', inactive: 'good' };

export default function Rules() {
  const rules = useAPI<{ groups: Group[] | null }>('rules', {}, 30_000);
  const [text, setText] = useState('');
  const [kind, setKind] = useState<Kind>('all');
  const [onlyBad, setOnlyBad] = useState(false);
  const filter = parseFilter(text);
  const groups = (rules.data?.groups ?? []).map((g) => ({
    ...g,
    rules: g.rules.filter((r) => (kind === 'all' || r.type === kind) && (!onlyBad || isBad(r))
      && matches(filter, r.labels, `${r.name} ${r.query} ${g.name} ${g.file} ${r.lastError ?? ''}`)),
  })).filter((g) => g.rules.length > 0);
  const total = groups.reduce((n, g) => n + g.rules.length, 0);
  return (
    <>
      <Heading title="Rules" count={`${total} rules in ${groups.length} groups`} at={rules.at} loading={rules.loading} onReload={rules.reload} />
      <div className="toolbar">
        <Search label="Filter rules" placeholder='Filter: name, expression, group, severity="page"' value={text} onChange={setText} error={filter.error} />
        <Choice label="Kind" value={kind} options={kinds} onChange={setKind} />
        <Check checked={onlyBad} onChange={setOnlyBad}>Only failing</Check>
      </div>
      <Trouble what="Rules" error={rules.error} stale={!!rules.data} />
      <Warnings list={rules.answer?.warnings} />
      {groups.map((g, i) => <GroupPanel key={g.file + '\0' + g.name + i} group={g} />)}
      {rules.data && groups.length === 0 && <Empty>No rule to show.</Empty>}
    </>
  );
}

function isBad(r: Rule): boolean {
  return r.health === 'err' || r.health === 'error' || !!r.lastError;
}

const columns: Column<Rule>[] = [
  {
    name: 'Rule', by: (r) => r.name, cell: (r) => (
      <>
        <strong className="break">{r.name}</strong>{' '}
        {r.type === 'alerting' ? <Badge tone={tones[r.state ?? ''] ?? 'plain'}>{r.state}</Badge> : <Badge>record</Badge>}
        {!!r.duration && <span className="faint"> for {about(r.duration * 1000)}</span>}
        {!!r.keepFiringFor && <span className="faint"> keep {about(r.keepFiringFor * 1000)}</span>}
        <div><Expression expr={r.query} /></div>
        {r.labels && Object.keys(r.labels).length > 0 && <div><LabelSet labels={r.labels} /></div>}
        {r.lastError && <div className="break">Error: {r.lastError}</div>}
      </>
    ),
  },
  { name: 'Health', by: (r) => r.health, cell: (r) => <Badge tone={tones[r.health] ?? 'plain'}>{r.health}</Badge> },
  { name: 'Evaluated', by: (r) => r.lastEvaluation, cell: (r) => <span className="nowrap">{ago(r.lastEvaluation)}</span> },
  { name: 'Took', number: true, by: (r) => r.evaluationTime, cell: (r) => about(r.evaluationTime * 1000) },
];

function GroupPanel({ group: g }: { group: Group }) {
  return (
    <section className="panel" aria-label={`Group ${g.name}`}>
      <div className="row">
        <h2>{g.name}</h2>
        <span className="faint break">{g.file}</span>
        <span className="grow" />
        <span className="faint">every {about(g.interval * 1000)}, took {about(g.evaluationTime * 1000)}, {ago(g.lastEvaluation)}</span>
        {g.partialResponseStrategy && <Badge title="What happens when a store is missing">{g.partialResponseStrategy.toLowerCase()}</Badge>}
      </div>
      <Table label={`Rules of ${g.name}`} rows={g.rules} columns={columns} rowKey={(r, i) => r.name + i} />
    </section>
  );
}
