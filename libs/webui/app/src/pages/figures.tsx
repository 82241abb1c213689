import { count } from '../lib/format';
import { Empty, Wide } from '../ui/parts';

export interface Statistic { name: string; value: number }

// Top is a table of names and figures with bars.
export function Top({ title, list, format = count }: { title: string; list: Statistic[] | undefined; format?: (n: number) => string }) {
  const max = Math.max(...(list ?? []).map((s) => s.value), 1);
  return (
    <section className="panel" aria-label={title}>
      <h2>{title}</h2>
      {!list?.length ? <Empty>Nothing.</Empty> : (
        <Wide label={title}>
          <table>
            <tbody>
              {list.map((s) => (
                <tr key={s.name}>
                  <td className="mono">{s.name}</td>
                  <td className="bar-cell"><div className="bar" style={{ width: `${(s.value / max) * 100}%` }} /></td>
                  <td className="number">{format(s.value)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Wide>
      )}
    </section>
  );
}
