import { useEffect, useId, useState } from 'react';
import { formatDuration, inputTime, parseDuration, parseInput } from '../../lib/time';
import { Check, Select } from '../../ui/parts';
import { autoStep, type EngineName, type Options, type Resolution } from './options';

const ranges = ['1m', '5m', '15m', '30m', '1h', '2h', '6h', '12h', '1d', '2d', '7d', '14d', '28d', '56d', '112d', '365d'].map((t) => parseDuration(t) ?? 0);

const resolutions: readonly (readonly [Resolution, string])[] = [['auto', 'auto'], ['0s', 'raw only'], ['5m', 'up to 5m'], ['1h', 'up to 1h']];
const engines: readonly (readonly [EngineName, string])[] = [['', 'default'], ['prometheus', 'prometheus'], ['thanos', 'thanos']];
const partials = [['', 'default'], ['1', 'allowed'], ['0', 'refused']] as const;

interface Props {
  options: Options;
  storeNames: string[];
  onChange: (part: Partial<Options>) => void;
}

export function Controls({ options: o, storeNames, onChange }: Props) {
  const shift = (by: number) => onChange({ end: (o.end ?? Date.now()) + by });
  const longer = ranges.find((r) => r > o.range);
  const shorter = ranges.findLast((r) => r < o.range);
  return (
    <>
      {o.tab === 'graph' && (
        <span className="join" role="group" aria-label="Range">
          <button type="button" aria-label="Shorter range" disabled={!shorter} onClick={() => shorter && onChange({ range: shorter })}>−</button>
          <DurationInput label="Range" value={o.range} onCommit={(range) => range && onChange({ range })} />
          <button type="button" aria-label="Longer range" disabled={!longer} onClick={() => longer && onChange({ range: longer })}>+</button>
        </span>
      )}
      <span className="join" role="group" aria-label={o.tab === 'graph' ? 'End' : 'Time'}>
        <button type="button" aria-label="Earlier" onClick={() => shift(-o.range / 2)}>‹</button>
        <TimeInput label={o.tab === 'graph' ? 'End of the range' : 'Time of the query'} value={o.end} onCommit={(end) => onChange({ end })} />
        <button type="button" aria-label="Later" onClick={() => shift(o.range / 2)}>›</button>
        <button type="button" disabled={o.end === null} onClick={() => onChange({ end: null })}>Now</button>
      </span>
      {o.tab === 'graph' && (
        <>
          <span className="field"><span className="faint">Step</span>
            <DurationInput label="Step, empty for automatic" value={o.step} placeholder={formatDuration(autoStep(o.range))} onCommit={(step) => onChange({ step: step || null })} />
          </span>
          <Check checked={o.stacked} onChange={(stacked) => onChange({ stacked })}>Stacked</Check>
        </>
      )}
      <Check checked={o.dedup} title="Merge replicas into one series" onChange={(dedup) => onChange({ dedup })}>Deduplicate</Check>
      <Select label="Partial answers" value={o.partial === null ? '' : o.partial ? '1' : '0'} options={partials}
        onChange={(v) => onChange({ partial: v === '' ? null : v === '1' })} />
      <Select label="Downsampled" value={o.resolution} options={resolutions} onChange={(resolution) => onChange({ resolution })} />
      <Select label="Engine" value={o.engine} options={engines} onChange={(engine) => onChange({ engine })} />
      <StorePicker names={storeNames} chosen={o.stores} onChange={(stores) => onChange({ stores })} />
    </>
  );
}

function DurationInput({ value, onCommit, label, placeholder }: { value: number | null; onCommit: (ms: number | null) => void; label: string; placeholder?: string }) {
  const id = useId();
  const [text, setText] = useState('');
  useEffect(() => setText(value === null ? '' : formatDuration(value)), [value]);
  const parsed = text.trim() === '' ? null : parseDuration(text);
  const bad = text.trim() !== '' && parsed === null;
  const commit = () => {
    if (!bad && parsed !== value) {
      onCommit(parsed);
    }
  };
  return (
    <>
      <label className="hidden" htmlFor={id}>{label}</label>
      <input id={id} type="text" className="narrow" value={text} placeholder={placeholder} aria-invalid={bad || undefined} spellCheck={false}
        title={bad ? 'A duration is written like 30m, 1h or 2d12h' : label}
        onChange={(e) => setText(e.target.value)} onBlur={commit} onKeyDown={(e) => e.key === 'Enter' && commit()} />
    </>
  );
}

function TimeInput({ value, onCommit, label }: { value: number | null; onCommit: (ms: number | null) => void; label: string }) {
  const id = useId();
  const [text, setText] = useState('');
  useEffect(() => setText(value === null ? '' : inputTime(value)), [value]);
  const commit = () => {
    const ms = text === '' ? null : parseInput(text);
    if (ms !== value && (ms !== null || text === '')) {
      onCommit(ms);
    }
  };
  return (
    <>
      <label className="hidden" htmlFor={id}>{label}</label>
      <input id={id} type="datetime-local" step="1" value={text} title={label} onChange={(e) => setText(e.target.value)} onBlur={commit}
        onKeyDown={(e) => e.key === 'Enter' && commit()} />
    </>
  );
}

function StorePicker({ names, chosen, onChange }: { names: string[]; chosen: string[]; onChange: (names: string[]) => void }) {
  const all = [...new Set([...names, ...chosen])].sort();
  if (all.length === 0) {
    return null;
  }
  return (
    <details className="picker">
      <summary>Stores: {chosen.length === 0 ? 'all' : `${chosen.length} of ${all.length}`}</summary>
      <fieldset className="choices">
        <legend className="hidden">Ask only these stores</legend>
        {all.map((name) => (
          <Check key={name} checked={chosen.includes(name)} onChange={(on) => onChange(on ? [...chosen, name] : chosen.filter((n) => n !== name))}>{name}</Check>
        ))}
        {chosen.length > 0 && <button type="button" className="quiet" onClick={() => onChange([])}>Ask all</button>}
      </fieldset>
    </details>
  );
}
