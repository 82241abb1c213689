import { bytes, count, resolution as resolutionText } from '../lib/format';
import { about, ago, formatTime } from '../lib/time';
import { Badge, Empty, Heading, LabelSet, Table, Trouble, type Column } from '../ui/parts';
import { useWork, type CompactorPlan, type CompactorStatus, type Job } from './worktypes';

export default function WorkPage() {
  const { status, plan, error, reload, loading } = useWork(true);
  return (
    <>
      <Heading title="Work of the compactor" count={status && `${count(status.blocks)} blocks, bucket looked at ${ago(status.synced)}`} loading={loading} onReload={reload} />
      <Trouble what="The state of the compactor" error={error} stale={!!status} />
      <Trouble what="The compactor's view of the bucket" error={status?.err || undefined} stale />
      {status && <Running status={status} />}
      {plan && <Plan plan={plan} />}
      {plan && <RetentionNext plan={plan} />}
      {status && <Aside status={status} />}
      {status && <Events status={status} />}
    </>
  );
}

function Running({ status }: { status: CompactorStatus }) {
  const running = status.running ?? [], resting = status.resting ?? [];
  return (
    <section className="panel" aria-label="Running">
      <h2>Running</h2>
      {running.length === 0 ? <Empty>Nothing runs at this moment.</Empty> : (
        <Table label="Running jobs" rows={running} rowKey={(r, i) => r.job + i} columns={[
          { name: 'Job', cell: (r) => <span className="break">{r.job}</span> },
          { name: 'Lane', cell: (r) => r.lane },
          { name: 'For', number: true, cell: (r) => about(Date.now() - Date.parse(r.since)) },
        ]} />
      )}
      {resting.length > 0 && (
        <>
          <h2>Failed, to be tried again</h2>
          <Table label="Resting jobs" rows={resting} rowKey={(r, i) => r.job + i} columns={[
            { name: 'Job', cell: (r) => <span className="break">{r.job}</span> },
            { name: 'Failures', number: true, cell: (r) => r.failures },
            { name: 'Again', cell: (r) => <span className="nowrap">{ago(r.until)}</span> },
            { name: 'Error', cell: (r) => <span className="break">{r.error}</span> },
          ]} />
        </>
      )}
    </section>
  );
}

const jobs: Column<Job>[] = [
  { name: 'Round', number: true, by: (j) => j.round, cell: (j) => j.round + 1 },
  { name: 'Kind', by: (j) => j.kind, cell: (j) => <>{j.kind} {j.overlap && <Badge tone="info">overlapping</Badge>}</> },
  { name: 'Labels', cell: (j) => <LabelSet labels={j.labels ?? {}} /> },
  { name: 'Resolution', by: (j) => j.resolution, cell: (j) => <>{resolutionText(j.resolution)}{!!j.targets?.length && ` → ${j.targets.map(resolutionText).join(', ')}`}</> },
  { name: 'Time', by: (j) => j.minTime, cell: (j) => <span className="nowrap">{formatTime(j.minTime, false)} – {formatTime(j.maxTime, false)}</span> },
  { name: 'Blocks', number: true, by: (j) => j.sources.length, cell: (j) => j.sources.length },
  { name: 'Size', number: true, by: (j) => j.bytes, cell: (j) => bytes(j.bytes) },
];

function Plan({ plan }: { plan: CompactorPlan }) {
  return (
    <section className="panel" aria-label="Planned">
      <div className="row">
        <h2>Planned</h2>
        <span className="faint">{plan.jobs.length} jobs, {bytes(plan.bytes)} to read{plan.secondsLeft > 0 && `, about ${about(plan.secondsLeft * 1000)}`}</span>
      </div>
      {plan.jobs.length === 0 ? <Empty>Nothing is left to do.</Empty> : <Table label="Planned jobs" rows={plan.jobs} columns={jobs} rowKey={(_, i) => String(i)} step={50} />}
      {plan.problems.length > 0 && (
        <>
          <h2>Cannot be planned</h2>
          <Table label="Problems" rows={plan.problems} rowKey={(_, i) => String(i)} columns={[
            { name: 'Kind', cell: (p) => <Badge tone="warn">{p.kind}</Badge> },
            { name: 'Blocks', cell: (p) => <code className="break">{p.blocks.join(' ')}</code> },
            { name: 'Reason', cell: (p) => <span className="break">{p.reason}</span> },
          ]} />
        </>
      )}
    </section>
  );
}

function RetentionNext({ plan }: { plan: CompactorPlan }) {
  const list = plan.retention;
  return (
    <section className="panel" aria-label="Retention">
      <div className="row"><h2>Over their retention</h2><span className="faint">{list.length} blocks, {bytes(list.reduce((n, r) => n + r.bytes, 0))}</span></div>
      {list.length === 0 ? <Empty>No block is older than it is kept.</Empty> : (
        <Table label="Blocks over their retention" rows={list} rowKey={(r) => r.block} step={50} columns={[
          { name: 'Block', by: (r) => r.block, cell: (r) => <code>{r.block}</code> },
          { name: 'Labels', cell: (r) => <LabelSet labels={r.labels ?? {}} /> },
          { name: 'Resolution', by: (r) => r.resolution, cell: (r) => resolutionText(r.resolution) },
          { name: 'Until', by: (r) => r.maxTime, cell: (r) => <span className="nowrap">{formatTime(r.maxTime, false)}</span> },
          { name: 'Over for', number: true, by: (r) => r.overSeconds, cell: (r) => about(r.overSeconds * 1000) },
          { name: 'Policy', by: (r) => r.policy, cell: (r) => <>{r.policy} <span className="faint">keeps {about(r.keepSeconds * 1000)}</span></> },
          { name: 'What happens', by: (r) => r.held, cell: (r) => r.held || 'it is marked in the next round' },
        ]} />
      )}
    </section>
  );
}

function Aside({ status }: { status: CompactorStatus }) {
  const list = status.quarantined ?? [];
  return (
    <section className="panel" aria-label="Set aside">
      <div className="row"><h2>Set aside</h2><span className="faint">{list.length}</span></div>
      {list.length === 0 ? <Empty>No block is left out of the work.</Empty> : (
        <Table label="Blocks set aside" rows={list} rowKey={(a, i) => a.block + i} columns={[
          { name: 'Block', by: (a) => a.block, cell: (a) => <code>{a.block}</code> },
          { name: 'Kept out by', by: (a) => (a.marked ? 'a mark' : 'planning'), cell: (a) => (a.marked ? 'a mark' : 'planning') },
          { name: 'Reason', by: (a) => a.reason, cell: (a) => <span className="break">{a.reason}</span> },
        ]} />
      )}
    </section>
  );
}

function Events({ status }: { status: CompactorStatus }) {
  const list = (status.events ?? []).slice().reverse();
  if (list.length === 0) {
    return null;
  }
  return (
    <section className="panel" aria-label="Events">
      <h2>Events</h2>
      <Table label="Events" rows={list} step={30} rowKey={(_, i) => String(i)} columns={[
        { name: 'When', cell: (e) => <span className="nowrap">{formatTime(Date.parse(e.time))}</span> },
        { name: 'Kind', by: (e) => e.kind, cell: (e) => e.kind },
        { name: 'Block', by: (e) => e.block ?? '', cell: (e) => <code>{e.block}</code> },
        { name: 'What', cell: (e) => <span className="break">{e.text}</span> },
      ]} />
    </section>
  );
}
