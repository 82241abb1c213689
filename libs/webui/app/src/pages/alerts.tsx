import { useState } from 'react';
import { useAPI } from '../lib/hooks';
import { matches, parseFilter } from '../lib/match';
import { ago } from '../lib/time';
import { Badge, Choice, Empty, Heading, LabelSet, Search, Table, Trouble, Warnings, type Column } from '../ui/parts';
import { Expression } from './promql';
import type { Alert, Group, Rule } from './ruletypes';

type State = 'active' | 'firing' | 'pending' | 'all';
const states = [['active', 'Active'], ['firing', 'Firing'], ['pending', 'Pending'], ['all', 'All rules']] as const;

export default function Alerts() {
  const rules = useAPI<{ groups: Group[] | null }>('rules', { type: 'alert' }, 15_000);
  const [text, setText] = useState('');
  const [state, setState] = useState<State>('active');
  const filter = parseFilter(text);
  const wanted = (a: Alert) => state === 'active' || state === 'all' || a.state === state;
  const list = (rules.data?.groups ?? []).flatMap((g) => g.rules.filter((r) => r.type === 'alerting').map((rule) => ({
    group: g, rule,
    alerts: (rule.alerts ?? []).filter((a) => wanted(a) && matches(filter, a.labels, `${rule.name} ${rule.query} ${g.name}`)),
  }))).filter(({ rule, alerts }) => alerts.length > 0 || (state === 'all' && matches(filter, rule.labels, rule.name + ' ' + rule.query)));
  const firing = list.reduce((n, r) => n + r.alerts.filter((a) => a.state === 'firing').length, 0);
  return (
    <>
      <Heading title="Alerts" count={`${firing} firing`} at={rules.at} loading={rules.loading} onReload={rules.reload} />
      <div className="toolbar">
        <Search label="Filter alerts" placeholder='Filter: name, severity="page", instance=~"web.*"' value={text} onChange={setText} error={filter.error} />
        <Choice label="State" value={state} options={states} onChange={setState} />
      </div>
      <Trouble what="Alerts" error={rules.error} stale={!!rules.data} />
      <Warnings list={rules.answer?.warnings} />
      {list.map(({ group, rule, alerts }, i) => <RulePanel key={group.file + group.name + rule.name + i} group={group} rule={rule} alerts={alerts} />)}
      {rules.data && list.length === 0 && <Empty>No alert to show.</Empty>}
    </>
  );
}

const columns: Column<Alert>[] = [
  { name: 'State', by: (a) => a.state, cell: (a) => <Badge tone={a.state === 'firing' ? 'bad' : 'warn'}>{a.state}</Badge> },
  { name: 'Labels', cell: (a) => <LabelSet labels={a.labels} /> },
  { name: 'Since', by: (a) => a.activeAt ?? '', cell: (a) => <span className="nowrap">{ago(a.activeAt)}</span> },
  { name: 'Value', number: true, by: (a) => Number(a.value), cell: (a) => String(Number(a.value)) },
  {
    name: 'Annotations', cell: (a) => Object.entries(a.annotations ?? {}).map(([k, v]) => (
      // Links in annotations stay text: who writes a rule need not be who is trusted here.
      <div key={k}><span className="faint">{k}</span> <span className="break">{v}</span></div>
    )),
  },
];

function RulePanel({ group, rule, alerts }: { group: Group; rule: Rule; alerts: Alert[] }) {
  const firing = alerts.filter((a) => a.state === 'firing').length;
  return (
    <section className="panel" aria-label={rule.name}>
      <div className="row">
        <h2>{rule.name}</h2>
        {firing > 0 && <Badge tone="bad">{firing} firing</Badge>}
        {alerts.length > firing && <Badge tone="warn">{alerts.length - firing} pending</Badge>}
        {alerts.length === 0 && <Badge tone="good">inactive</Badge>}
        <span className="grow" />
        <span className="faint break">{group.file} · {group.name}</span>
      </div>
      <p><Expression expr={rule.query} /></p>
      {alerts.length > 0 && <Table label={`Alerts of ${rule.name}`} rows={alerts} columns={columns} rowKey={(a, i) => JSON.stringify(a.labels) + i} step={50} />}
    </section>
  );
}
