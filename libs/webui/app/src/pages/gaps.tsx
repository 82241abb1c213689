import { count, labelText, type Labels } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { about, formatTime } from '../lib/time';
import { Empty, Heading, Table, Trouble } from '../ui/parts';

interface Gap {
  file: string;
  group: string;
  rule: string;
  type?: string;
  query?: string;
  labels?: Labels;
  interval?: number;
  start: string;
  end: string;
  evaluations: number;
  reason: string;
}

// Gaps are evaluations that did not happen or failed, and so are missing from what rules have recorded.
export default function Gaps() {
  const answer = useAPI<{ gaps: Gap[] | null }>('rules/gaps', {}, 30_000);
  const gaps = answer.data?.gaps ?? [];
  return (
    <>
      <Heading title="Evaluations left out" count={`${count(gaps.reduce((n, g) => n + g.evaluations, 0))} evaluations in ${gaps.length} gaps`}
        at={answer.at} loading={answer.loading} onReload={answer.reload} />
      <Trouble what="The list" error={answer.error} stale={!!answer.data} />
      <div className="panel">
        {gaps.length === 0 ? <Empty>{answer.data ? 'No evaluation was left out.' : 'Loading…'}</Empty> : (
          <Table label="Evaluations left out" rows={gaps} rowKey={(_, i) => String(i)} columns={[
            { name: 'Rule', by: (g) => g.rule, cell: (g) => <><strong className="break">{g.rule}</strong> {g.labels && Object.keys(g.labels).length > 0 && <code>{labelText(g.labels)}</code>}</> },
            { name: 'Group', by: (g) => g.group, cell: (g) => <>{g.group} <span className="faint break">{g.file}</span></> },
            { name: 'From', by: (g) => g.start, cell: (g) => <span className="nowrap">{formatTime(Date.parse(g.start))}</span> },
            { name: 'Until', by: (g) => g.end, cell: (g) => <span className="nowrap">{formatTime(Date.parse(g.end))}</span> },
            { name: 'Evaluations', number: true, by: (g) => g.evaluations, cell: (g) => <span title={g.interval ? `every ${about(g.interval * 1000)}` : undefined}>{count(g.evaluations)}</span> },
            { name: 'Reason', by: (g) => g.reason, cell: (g) => <span className="break">{g.reason}</span> },
          ]} />
        )}
      </div>
    </>
  );
}
