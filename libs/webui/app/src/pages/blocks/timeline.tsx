import { useCallback, useEffect, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from 'react';
import { bytes, count } from '../../lib/format';
import { useDark, useWidth } from '../../lib/hooks';
import { about, formatTime } from '../../lib/time';
import { coloursOf, draw, xOf, type Scene } from './draw';
import { axisHeight, firstAt, laneHeight, layOut, rowAt } from './layout';
import { bandName, type Block, type Section, type Span, type Work } from './rows';

interface Props {
  sections: Section[];
  selected: string | null;
  work: Work;
  onSelect: (b: Block | null) => void;
}

const shortest = 60_000;

// Timeline shows blocks as bars on one canvas. Dragging moves, the wheel with Ctrl or Shift zooms, arrows and + and - do
// the same by keyboard. Only the part that is seen is drawn.
export function Timeline({ sections, selected, work, onSelect }: Props) {
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const dark = useDark();
  const layout = useMemo(() => layOut(sections), [sections]);
  const whole = useMemo<Span>(() => {
    const margin = (layout.span.max - layout.span.min) * 0.01 + 1;
    return { min: layout.span.min - margin, max: layout.span.max + margin };
  }, [layout]);
  const [zoom, setZoom] = useState<Span | null>(null);
  const [tip, setTip] = useState<{ block: Block; x: number; y: number } | null>(null);
  const span = zoom ?? whole;
  const left = width < 560 ? 92 : 140;
  const height = Math.min(Math.max(layout.height, 60), Math.round(window.innerHeight * 0.62)) + axisHeight;
  const drag = useRef<{ x: number; span: Span; moved: boolean } | null>(null);
  const frame = useRef(0);

  const scene = useRef<Scene | null>(null);
  const paint = useCallback(() => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      const c = canvas.current?.getContext('2d');
      const s = scene.current;
      if (!c || !s || !scroller.current) {
        return;
      }
      const began = performance.now();
      draw(c, { ...s, scroll: scroller.current.scrollTop });
      if (canvas.current) {
        canvas.current.dataset.drawn = (performance.now() - began).toFixed(2);
      }
    });
  }, []);

  useEffect(() => {
    const c = canvas.current;
    if (!c || width === 0) {
      return;
    }
    const ratio = window.devicePixelRatio || 1;
    c.width = Math.round(width * ratio);
    c.height = Math.round(height * ratio);
    c.getContext('2d')?.setTransform(ratio, 0, 0, ratio, 0, 0);
    scene.current = { layout, span, width, height, scroll: 0, left, selected, work, colours: coloursOf(dark) };
    paint();
  }, [layout, span, width, height, left, selected, work, dark, paint]);

  useEffect(() => () => cancelAnimationFrame(frame.current), []);

  const move = useCallback((next: Span) => {
    const length = Math.min(Math.max(next.max - next.min, shortest), whole.max - whole.min);
    const min = Math.min(Math.max(next.min, whole.min), whole.max - length);
    setZoom(length >= whole.max - whole.min ? null : { min, max: min + length });
  }, [whole]);
  const scale = useCallback((factor: number, at = 0.5) => {
    const length = span.max - span.min, center = span.min + length * at;
    move({ min: center - length * factor * at, max: center + length * factor * (1 - at) });
  }, [span, move]);
  const shift = (part: number) => move({ min: span.min + (span.max - span.min) * part, max: span.max + (span.max - span.min) * part });

  // React listens to wheels passively, and then the page would zoom too.
  useEffect(() => {
    const element = scroller.current;
    const wheel = (e: WheelEvent) => {
      if (!e.ctrlKey && !e.shiftKey && !e.metaKey) {
        return;
      }
      e.preventDefault();
      const x = e.clientX - (element?.getBoundingClientRect().left ?? 0);
      scale(Math.exp((e.deltaY || e.deltaX) * 0.002), Math.min(1, Math.max(0, (x - left) / (width - left))));
    };
    element?.addEventListener('wheel', wheel, { passive: false });
    return () => element?.removeEventListener('wheel', wheel);
  }, [scale, left, width]);

  const blockAt = (e: PointerEvent): Block | null => {
    const rect = scroller.current?.getBoundingClientRect();
    if (!rect || !scroller.current) {
      return null;
    }
    const x = e.clientX - rect.left, y = e.clientY - rect.top - axisHeight + scroller.current.scrollTop;
    const row = layout.rows[rowAt(layout.rows, y)];
    if (!row?.band || y < row.top || x < left) {
      return null;
    }
    const lane = row.band.lanes[Math.floor((y - row.top) / laneHeight)];
    if (!lane) {
      return null;
    }
    const perPixel = (span.max - span.min) / (width - left);
    const time = span.min + (x - left) * perPixel;
    const b = lane[firstAt(lane, time - 2 * perPixel)];
    return b && xOf({ span, width, left }, b.min) <= x + 2 ? b : null;
  };
  const down = (e: PointerEvent<HTMLDivElement>) => {
    if (e.button === 0) {
      drag.current = { x: e.clientX, span, moved: false };
    }
  };
  const over = (e: PointerEvent<HTMLDivElement>) => {
    const d = drag.current;
    if (d) {
      const by = e.clientX - d.x;
      d.moved ||= Math.abs(by) > 3;
      if (d.moved) {
        const time = (by / (width - left)) * (d.span.max - d.span.min);
        move({ min: d.span.min - time, max: d.span.max - time });
        setTip(null);
      }
      return;
    }
    const block = blockAt(e);
    const rect = scroller.current?.getBoundingClientRect();
    setTip(block && rect ? { block, x: e.clientX - rect.left, y: e.clientY - rect.top } : null);
  };
  const up = (e: PointerEvent<HTMLDivElement>) => {
    const d = drag.current;
    drag.current = null;
    if (d && !d.moved) {
      onSelect(blockAt(e));
    }
  };
  const key = (e: KeyboardEvent) => {
    const actions: Record<string, () => void> = {
      ArrowLeft: () => shift(-0.2), ArrowRight: () => shift(0.2), '+': () => scale(0.6), '=': () => scale(0.6), '-': () => scale(1 / 0.6), Home: () => setZoom(null), 0: () => setZoom(null),
    };
    const act = actions[e.key];
    if (act && !e.ctrlKey && !e.metaKey) {
      e.preventDefault();
      act();
    }
  };
  return (
    <>
      <div className="row timeline-tools">
        <span className="faint">{formatTime(span.min, false)} – {formatTime(span.max, false)} ({about(span.max - span.min)})</span>
        <span className="grow" />
        <button type="button" onClick={() => shift(-0.3)} aria-label="Earlier">‹</button>
        <button type="button" onClick={() => shift(0.3)} aria-label="Later">›</button>
        <button type="button" onClick={() => scale(0.5)} aria-label="Zoom in">+</button>
        <button type="button" onClick={() => scale(2)} aria-label="Zoom out">−</button>
        <button type="button" onClick={() => setZoom(null)} disabled={zoom === null}>All</button>
      </div>
      <div className="timeline" ref={box}>
        <div className="scroll" ref={scroller} style={{ maxHeight: height }} onScroll={paint} onPointerDown={down} onPointerMove={over} onPointerUp={up}
          onPointerLeave={() => { drag.current = null; setTip(null); }} onKeyDown={key} tabIndex={0} role="application"
          aria-label="Timeline of blocks. Arrows move, plus and minus zoom, Home shows all. The list below has the same blocks.">
          <canvas ref={canvas} style={{ height, position: 'sticky', top: 0 }} />
          <div style={{ height: Math.max(0, layout.height + axisHeight - height) }} />
        </div>
        {tip && <Tip {...tip} width={width} />}
      </div>
    </>
  );
}

function Tip({ block: b, x, y, width }: { block: Block; x: number; y: number; width: number }) {
  return (
    <div className="tip" style={{ top: y + 14, left: x < width / 2 ? x + 12 : undefined, right: x < width / 2 ? undefined : width - x + 12 }}>
      <div className="mono">{b.id}</div>
      <div>{bandName(b)}, {b.source}</div>
      <div>{formatTime(b.min, false)} – {formatTime(b.max, false)} ({about(b.max - b.min)})</div>
      <div>{bytes(b.bytes)}, {count(b.series)} series, {count(b.samples)} samples</div>
      {b.overlaps && <div><strong>overlaps another block</strong></div>}
    </div>
  );
}
