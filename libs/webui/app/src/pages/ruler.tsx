import { count, type Labels } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { ago } from '../lib/time';
import { Badge, Empty, Heading, LabelSet, Notice, Table, Trouble } from '../ui/parts';

// Contact is a process that the ruler calls, and how that went.
interface Contact { address: string; lastSuccess?: string; lastFailure?: string; lastError?: string }

interface Status {
  mode: string;
  externalLabels: Labels;
  rules: { groups: number; rules: number; failing: number; firing: number; pending: number; loadedAt: string; lastError?: string };
  queriers: Contact[] | null;
  alertmanagers: Contact[] | null;
  queuedAlerts: number;
  gaps: number;
  skippedEvaluations: number;
}

// Ruler is the ruler as a whole: what it evaluates, whom it asks, and whom it tells.
export default function Ruler() {
  const answer = useAPI<Status>('status/ruler', {}, 10_000);
  const s = answer.data;
  const figures: [string, string][] = s ? [
    ['Groups', count(s.rules.groups)], ['Rules', count(s.rules.rules)], ['Failing', count(s.rules.failing)], ['Firing', count(s.rules.firing)],
    ['Pending', count(s.rules.pending)], ['Alerts to be sent', count(s.queuedAlerts)], ['Evaluations left out', `${count(s.skippedEvaluations)} in ${count(s.gaps)} gaps`],
  ] : [];
  return (
    <>
      <Heading title="Ruler" count={s?.mode} at={answer.at} loading={answer.loading} onReload={answer.reload} />
      <Trouble what="The status" error={answer.error} stale={!!s} />
      {!s && !answer.error && <Empty>Loading…</Empty>}
      {s?.rules.lastError && <Notice tone="bad" title="The rule files could not be loaded; those loaded before stay. "><span className="break">{s.rules.lastError}</span></Notice>}
      {s && (
        <>
          <section className="panel" aria-label="Rules">
            <dl className="figures">{figures.map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>
            <p>Rule files loaded {ago(s.rules.loadedAt)}. External labels <LabelSet labels={s.externalLabels} /></p>
          </section>
          <Contacts title="Queriers" list={s.queriers ?? []} none="No querier is known: nothing can be evaluated." tone="bad" />
          <Contacts title="Alertmanagers" list={s.alertmanagers ?? []} none="No Alertmanager is known: alerts are sent nowhere." tone="warn" />
        </>
      )}
    </>
  );
}

// A time in JSON that stands for never is the first year.
function when(text: string | undefined): string {
  return text && Date.parse(text) > 0 ? ago(text) : 'never';
}

function failing(c: Contact): boolean {
  return !!c.lastError && !(c.lastSuccess && Date.parse(c.lastSuccess) > Date.parse(c.lastFailure ?? ''));
}

function Contacts({ title, list, none, tone }: { title: string; list: Contact[]; none: string; tone: 'bad' | 'warn' }) {
  return (
    <section className="panel" aria-label={title}>
      <h2>{title}</h2>
      {list.length === 0 ? <Notice tone={tone}>{none}</Notice> : (
        <Table label={title} rows={list} rowKey={(c) => c.address} columns={[
          { name: 'Address', by: (c) => c.address, cell: (c) => <strong className="break">{c.address}</strong> },
          {
            name: 'State', by: (c) => String(failing(c)),
            cell: (c) => (failing(c) ? <Badge tone="bad">failing</Badge> : c.lastSuccess ? <Badge tone="good">up</Badge> : <Badge>not asked yet</Badge>),
          },
          { name: 'Last answer', by: (c) => c.lastSuccess ?? '', cell: (c) => <span className="nowrap">{when(c.lastSuccess)}</span> },
          { name: 'Last failure', by: (c) => c.lastFailure ?? '', cell: (c) => <>{when(c.lastFailure)} {c.lastError && <span className="faint break">{c.lastError}</span>}</> },
        ]} />
      )}
    </section>
  );
}
