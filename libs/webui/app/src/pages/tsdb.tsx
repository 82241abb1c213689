import { useState } from 'react';
import { bytes, count } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { formatTime } from '../lib/time';
import { Heading, Select, Trouble, Warnings } from '../ui/parts';
import { Top, type Statistic } from './figures';

interface TSDB {
  headStats: { numSeries: number; numLabelPairs: number; chunkCount: number; minTime: number; maxTime: number };
  seriesCountByMetricName: Statistic[];
  labelValueCountByLabelName: Statistic[];
  memoryInBytesByLabelName: Statistic[];
  seriesCountByLabelValuePair: Statistic[];
}

const limits = ['10', '25', '100'].map((n) => [n, n] as const);

export default function TSDBPage() {
  const [limit, setLimit] = useState('10');
  const status = useAPI<TSDB>('status/tsdb', { limit });
  const h = status.data?.headStats;
  return (
    <>
      <Heading title="TSDB status" count="the newest data of all stores that tell" at={status.at} loading={status.loading} onReload={status.reload}>
        <Select label="Rows" value={limit} options={limits} onChange={setLimit} />
      </Heading>
      <Trouble what="The status" error={status.error} stale={!!status.data} />
      <Warnings list={status.answer?.warnings} />
      {h && (
        <section className="panel" aria-label="Head">
          <dl className="figures">
            <div><dt>Series</dt><dd>{count(h.numSeries)}</dd></div>
            <div><dt>Label pairs</dt><dd>{count(h.numLabelPairs)}</dd></div>
            <div><dt>Chunks</dt><dd>{count(h.chunkCount)}</dd></div>
            <div><dt>From</dt><dd>{formatTime(h.minTime)}</dd></div>
            <div><dt>Until</dt><dd>{formatTime(h.maxTime)}</dd></div>
          </dl>
        </section>
      )}
      {status.data && (
        <div className="cards">
          <Top title="Series by metric name" list={status.data.seriesCountByMetricName} />
          <Top title="Values by label name" list={status.data.labelValueCountByLabelName} />
          <Top title="Memory by label name" list={status.data.memoryInBytesByLabelName} format={bytes} />
          <Top title="Series by label pair" list={status.data.seriesCountByLabelValuePair} />
        </div>
      )}
    </>
  );
}
