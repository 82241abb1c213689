import { useState } from 'react';
import { seriesText } from '../../lib/format';
import { formatTime } from '../../lib/time';
import { Empty, Wide } from '../../ui/parts';
import { histogramText, isMany, type QueryData, type Series } from './result';

const step = 500;

export function ValueTable({ data }: { data: QueryData }) {
  const [shown, setShown] = useState(step);
  if (!isMany(data)) {
    return <Wide label="Result"><table className="values"><tbody><tr><td>{data.resultType}</td><td className="number">{data.result[1]}</td></tr></tbody></table></Wide>;
  }
  if (data.result.length === 0) {
    return <Empty>Nothing matches. The answer is empty at this time.</Empty>;
  }
  return (
    <>
      <Wide label="Result">
        <table className="values">
          <thead><tr><th scope="col">Series</th><th scope="col" className="number">Value</th></tr></thead>
          <tbody>
            {data.result.slice(0, shown).map((s, i) => <tr key={i}><td>{seriesText(s.metric)}</td><td className="number">{valueOf(s)}</td></tr>)}
          </tbody>
        </table>
      </Wide>
      {data.result.length > shown && <button type="button" onClick={() => setShown(shown + step)}>Show more ({data.result.length - shown} left)</button>}
    </>
  );
}

function valueOf(s: Series): string {
  if (s.value) {
    return s.value[1];
  }
  if (s.histogram) {
    return histogramText(s.histogram[1]);
  }
  const floats = (s.values ?? []).map(([t, v]) => `${v} @ ${formatTime(t * 1000)}`);
  const histograms = (s.histograms ?? []).map(([t, h]) => `${histogramText(h)} @ ${formatTime(t * 1000)}`);
  return [...floats, ...histograms].join('\n');
}
