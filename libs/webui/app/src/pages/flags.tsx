import { useState } from 'react';
import { useAPI } from '../lib/hooks';
import { Empty, Heading, Search, Table, Trouble } from '../ui/parts';

export default function Flags() {
  const flags = useAPI<Record<string, string>>('status/flags');
  const [text, setText] = useState('');
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Object.entries(flags.data ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
    .filter(([k, v]) => words.every((w) => `--${k}=${v}`.toLowerCase().includes(w)));
  return (
    <>
      <Heading title="Flags" count={flags.data && `${rows.length} shown`} />
      <div className="toolbar"><Search label="Filter flags" value={text} onChange={setText} /></div>
      <Trouble what="Flags" error={flags.error} />
      <div className="panel">
        {rows.length === 0 ? <Empty>{flags.loading ? 'Loading…' : 'No flag to show.'}</Empty> : (
          <Table label="Flags" rows={rows} step={1000} rowKey={([k]) => k} columns={[
            { name: 'Flag', by: ([k]) => k, cell: ([k]) => <code className="break">--{k}</code> },
            { name: 'Value', by: ([, v]) => v, cell: ([, v]) => <code className="break">{v}</code> },
          ]} />
        )}
      </div>
    </>
  );
}
