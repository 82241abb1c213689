import { useMemo, useState } from 'react';
import { bytes, count, resolution as resolutionText } from '../../lib/format';
import { useAPI } from '../../lib/hooks';
import { about, ago, formatDuration, formatTime, parseDuration } from '../../lib/time';
import { Choice, Empty, Select, Table, Trouble, type Column } from '../../ui/parts';
import type { CompactorPlan } from '../worktypes';
import type { Block } from './rows';
import { keepOf, removedBy, ruleOf, type Policies, type Removal } from './usage';

type Source = 'compactor' | 'own';
const sources = [['compactor', 'As the compactor is set'], ['own', 'What if']] as const;
const horizons = ['0d', '1d', '7d', '30d', '90d', '365d'].map((d) => [d, d === '0d' ? 'now' : `the next ${d}`] as const);

function parse(text: string): number {
  return parseDuration(text) ?? 0;
}

// Retention lists what will be removed: by the compactor's own rules where one can be asked, or by durations that are tried out.
export function Retention({ blocks, compactor }: { blocks: Block[]; compactor: boolean }) {
  const policies = useAPI<Policies>(compactor ? 'compactor/retention' : null, {}, 60_000);
  const plan = useAPI<CompactorPlan>(compactor ? 'compactor/plan' : null, {}, 60_000);
  const [source, setSource] = useState<Source>(compactor ? 'compactor' : 'own');
  const [tried, setTried] = useState<Own | null>(null);
  const [horizon, setHorizon] = useState('30d');
  const real = policies.data;
  // What is tried out begins with what is set.
  const own = useMemo(() => tried ?? ownOf(real), [tried, real]);
  const rule = useMemo(() => {
    if (source === 'compactor') {
      return real ? ruleOf(real) : () => undefined;
    }
    const one = { keep: { raw: parse(own.raw), five: parse(own.five), hour: parse(own.hour) }, name: 'what if' };
    return () => one;
  }, [source, real, own]);
  const list = useMemo(() => removedBy(blocks, rule, Date.now() + parse(horizon)), [blocks, rule, horizon]);
  const strangers = useMemo(() => (source === 'compactor' && real ? blocks.filter((b) => rule(b) === undefined).length : 0), [source, real, blocks, rule]);
  const held = useMemo(() => new Map((plan.data?.retention ?? []).filter((r) => r.held).map((r) => [r.block, r.held])), [plan.data]);
  const field = (name: string, key: keyof typeof own) => (
    <label className="field"><span>{name}</span>
      <input type="text" className="narrow" value={own[key]} aria-invalid={parseDuration(own[key]) === null || undefined}
        onChange={(e) => setTried({ ...own, [key]: e.target.value })} />
    </label>
  );
  return (
    <section className="panel" aria-label="What retention removes">
      <h2>What retention removes</h2>
      <Trouble what="The compactor's retention" error={policies.error} stale={!!real} />
      <div className="toolbar">
        {compactor && <Choice label="Rules" value={source} options={sources} onChange={setSource} />}
        {source === 'own' && <>{field('Raw kept for', 'raw')}{field('5m', 'five')}{field('1h', 'hour')}</>}
        <Select label="Until" value={horizon} onChange={setHorizon} options={horizons} />
        {source === 'own' && <span className="faint">0d keeps for ever; nothing is changed here</span>}
      </div>
      {source === 'compactor' && real && <PolicyTable policies={real} />}
      {strangers > 0 && <p className="faint">{count(strangers)} blocks have external labels that the compactor does not work with: no rule counts for them.</p>}
      {list.length === 0 ? <Empty>{policies.loading && !real ? 'Loading…' : 'Nothing is removed.'}</Empty> : (
        <>
          <p><strong>{count(list.length)} blocks, {bytes(list.reduce((n, r) => n + r.block.bytes, 0))}</strong>, the first {ago(list[0]?.at)}.</p>
          <Table label="Blocks that retention removes" step={50} rows={list} rowKey={(r) => r.block.id} columns={columns(source === 'compactor', held)} />
        </>
      )}
    </section>
  );
}

interface Own { raw: string; five: string; hour: string }

function ownOf(real: Policies | undefined): Own {
  const text = (ms: number) => (ms === 0 ? '0d' : formatDuration(ms));
  const last = real?.policies.at(-1);
  const keep = last ? keepOf(last) : { raw: 0, five: 0, hour: 0 };
  return { raw: text(keep.raw), five: text(keep.five), hour: text(keep.hour) };
}

function columns(real: boolean, held: Map<string, string>): Column<Removal>[] {
  return [
    { name: 'Block', by: (r) => r.block.id, cell: (r) => <code>{r.block.id}</code> },
    {
      name: 'When', by: (r) => r.at, cell: (r) => (
        <><span className="nowrap">{formatTime(r.at, false)}</span>{real && held.has(r.block.id) && <div className="faint">held: {held.get(r.block.id)}</div>}</>
      ),
    },
    { name: 'Resolution', by: (r) => r.block.resolution, cell: (r) => resolutionText(r.block.resolution) },
    { name: 'Length', number: true, by: (r) => r.block.max - r.block.min, cell: (r) => about(r.block.max - r.block.min) },
    { name: 'Size', number: true, by: (r) => r.block.bytes, cell: (r) => bytes(r.block.bytes) },
    ...(real ? [{ name: 'Policy', by: (r: Removal) => r.policy, cell: (r: Removal) => r.policy }] : []),
    { name: 'Labels', by: (r) => r.block.group.text, cell: (r) => <code className="break">{r.block.group.text}</code> },
  ];
}

function PolicyTable({ policies: p }: { policies: Policies }) {
  const kept = (seconds: number) => (seconds === 0 ? 'for ever' : formatDuration(seconds * 1000));
  return (
    <>
      <Table label="Retention policies" rows={p.policies} rowKey={(_, i) => String(i)} columns={[
        { name: 'Policy', cell: (x) => x.name },
        { name: 'For blocks with', cell: (x) => (x.selector ? <code className="break">{x.selector}</code> : <span className="faint">any other labels</span>) },
        { name: 'Raw kept', cell: (x) => kept(x.rawSeconds) },
        { name: '5m kept', cell: (x) => kept(x.fiveMinutesSeconds) },
        { name: '1h kept', cell: (x) => kept(x.oneHourSeconds) },
      ]} />
      <p className="faint">What is marked stays for {formatDuration(p.deleteDelaySeconds * 1000)} more, and can be kept until then.</p>
    </>
  );
}
