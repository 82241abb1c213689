import { useDeferredValue, useMemo, useState, type ReactNode } from 'react';
import { bytes, count, resolution as resolutionText } from '../../lib/format';
import { useDark } from '../../lib/hooks';
import { parseFilter } from '../../lib/match';
import { about, formatTime, parseInput } from '../../lib/time';
import { Choice, Empty, LabelSet, Search, Select, Table, type Column } from '../../ui/parts';
import { fillOf } from './draw';
import { analyse, flagDeletion, flagNoCompact, flagNoDownsample, select, type Block, type StateFilter, type Work } from './rows';
import { Timeline } from './timeline';

const states: readonly (readonly [StateFilter, string])[] = [
  ['any', 'any'], ['overlapping', 'overlapping'], ['marked', 'marked'], ['deletion', 'to be deleted'], ['work', 'in the compactor\'s work'], ['aside', 'set aside'],
];
const views = [['timeline', 'Timeline'], ['list', 'List']] as const;

interface Props {
  blocks: Block[];
  work: Work;
  // What is shown beside the blocks about the chosen one.
  details: (b: Block, close: () => void) => ReactNode;
}

// Explorer is blocks with filters, as a timeline or a list, and the details of one of them.
export function Explorer({ blocks, work, details }: Props) {
  const [view, setView] = useState<'timeline' | 'list'>('timeline');
  const [text, setText] = useState('');
  const [resolution, setResolution] = useState('');
  const [level, setLevel] = useState('');
  const [state, setState] = useState<StateFilter>('any');
  const [size, setSize] = useState('');
  const [from, setFrom] = useState('');
  const [until, setUntil] = useState('');
  const [chosen, setChosen] = useState<string | null>(null);
  const all = useMemo(() => analyse(blocks), [blocks]);
  const filter = useMemo(() => parseFilter(text), [text]);
  const wanted = useMemo(() => select(blocks, {
    text: filter, state, resolution: resolution === '' ? null : Number(resolution), level: level === '' ? null : Number(level),
    minBytes: (Number(size) || 0) * 1024 * 1024, from: from === '' ? null : parseInput(from), until: until === '' ? null : parseInput(until),
  }, work), [blocks, filter, state, resolution, level, size, from, until, work]);
  // Typing comes before painting.
  const shown = useDeferredValue(wanted);
  const sections = useMemo(() => (shown.length === blocks.length ? all.sections : analyseShown(shown)), [shown, blocks, all]);
  const resolutions = useMemo(() => [...new Set(blocks.map((b) => b.resolution))].sort((a, b) => a - b), [blocks]);
  const levels = useMemo(() => [...new Set(blocks.map((b) => b.level))].sort((a, b) => a - b), [blocks]);
  const block = chosen === null ? undefined : blocks.find((b) => b.id === chosen);
  const total = useMemo(() => shown.reduce((n, b) => n + b.bytes, 0), [shown]);
  return (
    <>
      <div className="toolbar">
        <Search label="Filter blocks" placeholder='Filter: ULID, source, cluster="eu1", replica!=a' value={text} onChange={setText} error={filter.error} />
        <Select label="Resolution" value={resolution} onChange={setResolution} options={[['', 'all'], ...resolutions.map((r) => [String(r), resolutionText(r)] as const)]} />
        <Select label="Level" value={level} onChange={setLevel} options={[['', 'all'], ...levels.map((l) => [String(l), String(l)] as const)]} />
        <Select label="State" value={state} onChange={setState} options={states} />
        <label className="field"><span className="faint">From MiB</span><input type="number" min="0" className="narrow" value={size} onChange={(e) => setSize(e.target.value)} /></label>
        <label className="field"><span className="faint">After</span><input type="datetime-local" value={from} onChange={(e) => setFrom(e.target.value)} /></label>
        <label className="field"><span className="faint">Before</span><input type="datetime-local" value={until} onChange={(e) => setUntil(e.target.value)} /></label>
        <Choice label="View" value={view} options={views} onChange={setView} />
      </div>
      <p className="faint" data-testid="block-count">
        {count(shown.length)} of {count(blocks.length)} blocks, {bytes(total)} · {all.overlaps === 0 ? 'no overlaps' : <strong>{count(all.overlaps)} overlap</strong>} ·{' '}
        {all.gaps === 0 ? 'no gaps' : `${count(all.gaps)} gaps`}
      </p>
      <div className={block ? 'split open' : 'split'}>
        <div className="panel">
          {view === 'timeline' && shown.length > 0 && <><Timeline sections={sections} selected={chosen} work={work} onSelect={(b) => setChosen(b?.id ?? null)} /><Keys /></>}
          {view === 'list' && shown.length > 0 && <List blocks={shown} selected={chosen} onSelect={setChosen} />}
          {shown.length === 0 && <Empty>No block to show.</Empty>}
        </div>
        {block && details(block, () => setChosen(null))}
      </div>
    </>
  );
}

// What is filtered out must not make gaps or hide overlaps: marks stay those of all blocks.
function analyseShown(shown: Block[]) {
  const before = shown.map((b) => b.overlaps);
  const { sections } = analyse(shown);
  shown.forEach((b, i) => {
    b.overlaps = before[i] ?? false;
  });
  sections.forEach((s) => s.gaps.clear());
  return sections;
}

function Keys() {
  const dark = useDark();
  return (
    <div className="keys" aria-label="Key">
      {[[0, 'raw'], [300_000, '5m'], [3_600_000, '1h']].map(([r, name]) => (
        <span key={name}><span className="swatch" style={{ background: fillOf(Number(r), 2, dark) }} /> {name}</span>
      ))}
      <span><span className="swatch" style={{ border: '2px solid var(--bad)' }} /> overlaps</span>
      <span><span className="swatch" style={{ background: 'color-mix(in srgb, var(--bad) 25%, transparent)' }} /> gap</span>
      <span><span className="swatch" style={{ background: 'linear-gradient(var(--panel) 40%, var(--soft) 40% 60%, var(--panel) 60%)', border: '1px solid var(--line)' }} /> to be deleted</span>
      <span><span className="swatch" style={{ borderLeft: '5px solid var(--warn)' }} /> not compacted or downsampled</span>
      <span><span className="swatch" style={{ border: '2px dashed var(--info)' }} /> planned</span>
      <span><span className="swatch" style={{ border: '2px solid var(--good)' }} /> in work</span>
      <span><span className="swatch" style={{ background: 'var(--bad)', borderRadius: '50%' }} /> set aside</span>
      <span>drag moves, Ctrl and wheel zooms, a click shows details</span>
    </div>
  );
}

function List({ blocks, selected, onSelect }: { blocks: Block[]; selected: string | null; onSelect: (id: string) => void }) {
  const columns: Column<Block>[] = [
    { name: 'Block', by: (b) => b.id, cell: (b) => <button type="button" className="mono" onClick={() => onSelect(b.id)}>{b.id}</button> },
    { name: 'From', by: (b) => b.min, cell: (b) => <span className="nowrap">{formatTime(b.min, false)}</span> },
    { name: 'Length', by: (b) => b.max - b.min, number: true, cell: (b) => about(b.max - b.min) },
    { name: 'Resolution', by: (b) => b.resolution, cell: (b) => resolutionText(b.resolution) },
    { name: 'Level', by: (b) => b.level, number: true, cell: (b) => b.level },
    { name: 'Size', by: (b) => b.bytes, number: true, cell: (b) => bytes(b.bytes) },
    { name: 'Series', by: (b) => b.series, number: true, cell: (b) => count(b.series) },
    { name: 'Source', by: (b) => b.source, cell: (b) => b.source },
    { name: 'Marks', by: (b) => b.flags, cell: (b) => marksText(b) },
    { name: 'Labels', by: (b) => b.group.text, cell: (b) => <LabelSet labels={b.group.labels} /> },
  ];
  return <div className="block-list"><Table label="Blocks" rows={blocks} columns={columns} rowKey={(b) => b.id} step={50} onRow={(b) => (b.id === selected ? 'selected' : undefined)} /></div>;
}

function marksText(b: Block): string {
  return [
    b.flags & flagDeletion ? 'to be deleted' : '', b.flags & flagNoCompact ? 'no compaction' : '', b.flags & flagNoDownsample ? 'no downsampling' : '',
    b.overlaps ? 'overlaps' : '',
  ].filter(Boolean).join(', ');
}
