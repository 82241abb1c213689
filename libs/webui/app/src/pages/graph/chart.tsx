import { useEffect, useMemo, useRef, useState, type MouseEvent } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { seriesText, short } from '../../lib/format';
import { useDark, useWidth } from '../../lib/hooks';
import { formatTime, isUTC } from '../../lib/time';
import { Notice } from '../../ui/parts';
import { colour, stack, type Lines, type Series } from './result';

// More lines than this are no picture any more.
const maxLines = 1000;
const maxLegend = 300;
const height = 340;

interface Props {
  series: Series[];
  lines: Lines;
  stacked: boolean;
  // Called with Unix milliseconds when a stretch was chosen by dragging.
  onZoom: (from: number, to: number) => void;
}

interface Tip { left: number; top: number; time: number; index: number; value: number; right: boolean }

export function Chart({ series, lines, stacked, onZoom }: Props) {
  const [box, width] = useWidth<HTMLDivElement>();
  const dark = useDark();
  const [hidden, setHidden] = useState<ReadonlySet<number>>(new Set());
  const [tip, setTip] = useState<Tip | null>(null);
  const plot = useRef<HTMLDivElement>(null);
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const drawn = Math.min(series.length, maxLines);
  const names = useMemo(() => series.slice(0, Math.max(maxLegend, drawn)).map((s) => seriesText(s.metric)), [series, drawn]);

  useEffect(() => setHidden(new Set()), [series]);

  useEffect(() => {
    if (!plot.current || width === 0) {
      return undefined;
    }
    const values = lines.values.slice(0, drawn);
    const shown = values.map((_, i) => !hidden.has(i));
    const data = stacked ? stack(values, shown) : values;
    const order = data.map((_, i) => i);
    if (stacked) {
      // The largest sum first: each area is then painted over by those below it.
      order.reverse();
    }
    const css = getComputedStyle(document.documentElement);
    const text = css.getPropertyValue('--soft').trim();
    const grid = { stroke: css.getPropertyValue('--line').trim(), width: 1 };
    const find = (u: uPlot): Tip | null => {
      const { left, top, idx } = u.cursor;
      if (idx === null || idx === undefined || left === undefined || top === undefined || left < 0) {
        return null;
      }
      let best = -1, distance = Infinity;
      for (let k = 0; k < order.length; k++) {
        const v = u.data[k + 1]?.[idx];
        if (v === null || v === undefined || !shown[order[k] ?? 0]) {
          continue;
        }
        const d = Math.abs(u.valToPos(v, 'y') - top);
        if (d < distance) {
          [best, distance] = [order[k] ?? 0, d];
        }
      }
      const value = values[best]?.[idx];
      const time = lines.times[idx];
      return best < 0 || value === null || value === undefined || time === undefined
        ? null : { left, top, time: time * 1000, index: best, value, right: left > u.width / 2 };
    };
    const u = new uPlot({
      width, height,
      legend: { show: false },
      padding: [8, 26, 0, 0],
      tzDate: isUTC() ? (t) => uPlot.tzDate(new Date(t * 1000), 'Etc/UTC') : undefined,
      cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false } },
      axes: [
        {
          stroke: text, grid, ticks: grid, space: 72,
          values: (_, splits, __, ___, step) => splits.map((t) => (step >= 86_400 ? formatTime(t * 1000, false).slice(0, 10) : formatTime(t * 1000, step < 60).slice(step < 60 ? 11 : 5))),
        },
        { stroke: text, grid, ticks: grid, size: 62, values: (_, ticks) => ticks.map(short) },
      ],
      scales: { x: { time: true } },
      series: [{}, ...order.map((i) => ({
        stroke: colour(i, dark), width: 1.4, show: shown[i] ?? true, points: { show: (v: uPlot) => (v.data[0]?.length ?? 0) < 3 },
        fill: stacked ? colour(i, dark).replace(')', ' / 55%)') : undefined, spanGaps: false,
      }))],
      // Each area ends where the next one begins.
      bands: stacked ? order.slice(1).map((_, k) => ({ series: [k + 1, k + 2] as [number, number] })) : [],
      hooks: {
        setCursor: [(v) => setTip(find(v))],
        setSelect: [(v) => {
          if (v.select.width > 4) {
            const from = v.posToVal(v.select.left, 'x'), to = v.posToVal(v.select.left + v.select.width, 'x');
            v.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            zoom.current(Math.round(from * 1000), Math.round(to * 1000));
          }
        }],
      },
    }, [lines.times, ...order.map((i) => data[i] ?? [])] as uPlot.AlignedData, plot.current);
    return () => {
      setTip(null);
      u.destroy();
    };
  }, [lines, drawn, stacked, hidden, dark, width]);

  const toggle = (i: number) => (e: MouseEvent) => {
    const only = e.ctrlKey || e.metaKey || e.shiftKey;
    setHidden((h) => {
      if (only) {
        const others = new Set(names.keys());
        others.delete(i);
        // A second time shows all again.
        return h.size === others.size && !h.has(i) ? new Set<number>() : others;
      }
      const next = new Set(h);
      if (!next.delete(i)) {
        next.add(i);
      }
      return next;
    });
  };
  return (
    <div>
      {series.length > drawn && <Notice tone="info">The first {drawn} of {series.length} series are drawn. An aggregation such as topk() shows the ones that matter.</Notice>}
      <div className="chart" ref={box}>
        <div ref={plot} role="img" aria-label={`Graph with ${drawn} lines. Drag over it to zoom.`} data-lines={drawn - hidden.size} />
        {tip && (
          <div className="tip" style={{ top: Math.max(0, tip.top - 12), left: tip.right ? undefined : tip.left + 84, right: tip.right ? Math.max(0, width - tip.left - 46) : undefined }}>
            <div className="faint">{formatTime(tip.time)}</div>
            <div><span className="swatch" style={{ background: colour(tip.index, dark) }} /><strong>{tip.value}</strong></div>
            <div className="mono break">{names[tip.index]}</div>
          </div>
        )}
      </div>
      <ul className="legend" aria-label="Series">
        {names.slice(0, maxLegend).map((name, i) => (
          <li key={i}>
            <button type="button" aria-pressed={!hidden.has(i)} title="Click to hide or show; with Ctrl or Shift to see only this one" onClick={toggle(i)}>
              <span className="swatch" style={{ background: colour(i, dark) }} />
              <span>{name}</span>
            </button>
          </li>
        ))}
        {series.length > maxLegend && <li className="faint">and {series.length - maxLegend} more</li>}
      </ul>
    </div>
  );
}
