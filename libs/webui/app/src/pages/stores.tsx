import { useState } from 'react';
import type { Labels } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { matches, parseFilter } from '../lib/match';
import { about, ago, formatTime } from '../lib/time';
import { Badge, Check, Empty, Heading, LabelSet, Search, Table, Trouble, type Column, type Tone } from '../ui/parts';

// What calls to a store have taught; queriers that are not ours leave it out.
interface Health {
  breaker: 'closed' | 'open' | 'half-open';
  failures: number;
  lastCallError?: string;
  openUntil?: string;
  calls: number;
  medianSeconds: number;
  p95Seconds: number;
}

interface Store {
  name: string;
  lastCheck: string;
  lastError: string | null;
  labelSets: Labels[];
  minTime: number;
  maxTime: number;
  health?: Health;
  group?: boolean;
  strict?: boolean;
}

interface Row extends Store { type: string }

const tones: Record<string, Tone> = { up: 'good', down: 'bad', 'not asked': 'bad', 'on trial': 'warn' };

function stateOf(s: Store): string {
  if (s.lastError) {
    return 'down';
  }
  return s.health?.breaker === 'open' ? 'not asked' : s.health?.breaker === 'half-open' ? 'on trial' : 'up';
}

// latencyOf is undefined where no call was measured.
function latencyOf(s: Store): number | undefined {
  return s.health && s.health.calls > 0 ? s.health.medianSeconds : undefined;
}

export default function Stores() {
  const stores = useAPI<Record<string, Store[]>>('stores', {}, 5000);
  const [text, setText] = useState('');
  const [onlyBad, setOnlyBad] = useState(false);
  const filter = parseFilter(text);
  const all: Row[] = Object.entries(stores.data ?? {}).flatMap(([type, list]) => list.map((s) => ({ ...s, type })));
  const rows = all.filter((s) => (!onlyBad || stateOf(s) !== 'up')
    && (s.labelSets.length === 0 ? [{}] : s.labelSets).some((ls) => matches(filter, ls, `${s.name} ${s.type} ${s.lastError ?? ''}`)));
  const down = all.filter((s) => s.lastError).length;
  const columns: Column<Row>[] = [
    { name: 'Address', by: (s) => s.name, cell: (s) => <strong className="break">{s.name}</strong> },
    { name: 'Type', by: (s) => s.type, cell: (s) => s.type },
    {
      name: 'State', by: stateOf, cell: (s) => (
        <>
          <Badge tone={tones[stateOf(s)] ?? 'plain'}>{stateOf(s)}</Badge>{' '}
          {s.strict && <Badge title="Asked even when it cannot be reached">strict</Badge>}{' '}
          {s.group && <Badge title="One of several that hold the same">group</Badge>}
          {s.lastError && <div className="break">{s.lastError}</div>}
          {s.health?.lastCallError && <div className="break faint">{s.health.failures} failed calls, the last: {s.health.lastCallError}</div>}
        </>
      ),
    },
    { name: 'External labels', cell: (s) => <Sets sets={s.labelSets} onPick={(k, v) => setText(`${k}="${v}"`)} /> },
    {
      name: 'Data', by: (s) => s.minTime, cell: (s) => (s.minTime > s.maxTime
        ? <span className="faint">none</span>
        : <span className="nowrap">{formatTime(s.minTime, false)} – {formatTime(s.maxTime, false)}</span>),
    },
    { name: 'Latency', number: true, by: (s) => latencyOf(s) ?? 0, cell: (s) => {
        const l = latencyOf(s);
        return l === undefined ? '–' : <span title="To the first frame: median and 95th percentile of recent calls">{about(l * 1000)} / {about((s.health?.p95Seconds ?? l) * 1000)}</span>;
      } },
    { name: 'Checked', by: (s) => s.lastCheck, cell: (s) => <span className="nowrap">{ago(s.lastCheck)}</span> },
  ];
  return (
    <>
      <Heading title="Stores" count={`${all.length} known${down ? `, ${down} down` : ''}`} at={stores.at} loading={stores.loading} onReload={stores.reload} />
      <div className="toolbar">
        <Search label="Filter stores" placeholder='Filter: address, type, cluster="eu1", replica!=a' value={text} onChange={setText} error={filter.error} />
        <Check checked={onlyBad} onChange={setOnlyBad}>Only those in trouble</Check>
      </div>
      <Trouble what="The list of stores" error={stores.error} stale={!!stores.data} />
      <div className="panel">
        {rows.length > 0
          ? <Table label="Stores" rows={rows} columns={columns} rowKey={(s) => s.type + s.name} />
          : <Empty>{stores.data ? 'No store to show.' : 'Loading…'}</Empty>}
      </div>
    </>
  );
}

function Sets({ sets, onPick }: { sets: Labels[]; onPick: (name: string, value: string) => void }) {
  const [open, setOpen] = useState(false);
  if (sets.length === 0) {
    return <span className="faint">none</span>;
  }
  return (
    <>
      {sets.slice(0, open ? sets.length : 4).map((ls, i) => <div key={i}><LabelSet labels={ls} onPick={onPick} /></div>)}
      {sets.length > 4 && <button type="button" className="quiet" onClick={() => setOpen(!open)}>{open ? 'Fewer' : `${sets.length - 4} more`}</button>}
    </>
  );
}
