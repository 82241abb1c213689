import { formatTime } from '../../lib/time';
import { axisHeight, bandGap, firstAt, laneHeight, rowAt, ticks, type Layout, type Placed } from './layout';
import { bandName, flagDeletion, flagFailed, flagNoCompact, flagNoDownsample, type Block, type Span, type Work } from './rows';

export interface Colours {
  text: string; soft: string; line: string; panel: string; bad: string; warn: string; good: string; info: string; accent: string; dark: boolean;
}

export function coloursOf(dark: boolean): Colours {
  const css = getComputedStyle(document.documentElement);
  const get = (name: string) => css.getPropertyValue('--' + name).trim();
  return {
    text: get('text'), soft: get('soft'), line: get('line'), panel: get('panel'), bad: get('bad'), warn: get('warn'), good: get('good'), info: get('info'),
    accent: get('accent'), dark,
  };
}

// fillOf tells resolutions apart by hue and levels by how strong it is.
export function fillOf(resolution: number, level: number, dark: boolean): string {
  const hue = resolution === 0 ? 188 : resolution <= 300_000 ? 222 : 282;
  const strength = Math.min(level, 5);
  return dark ? `hsl(${hue} ${30 + strength * 6}% ${30 + strength * 7}%)` : `hsl(${hue} ${32 + strength * 6}% ${72 - strength * 8}%)`;
}

export interface Scene {
  layout: Layout;
  span: Span;
  width: number;
  height: number;
  scroll: number;
  // Width of the names at the left.
  left: number;
  selected: string | null;
  work: Work;
  colours: Colours;
}

export function xOf(s: { span: Span; width: number; left: number }, time: number): number {
  return s.left + ((time - s.span.min) / (s.span.max - s.span.min)) * (s.width - s.left);
}

// draw paints what is seen and nothing else: rows by binary search, blocks of a lane by binary search, and of blocks that
// fall on one pixel only the first, unless there is something to say about another.
export function draw(c: CanvasRenderingContext2D, s: Scene): void {
  c.clearRect(0, 0, s.width, s.height);
  c.font = '12px system-ui, "DejaVu Sans", sans-serif';
  c.textBaseline = 'middle';
  drawAxis(c, s);
  c.save();
  c.beginPath();
  c.rect(0, axisHeight, s.width, s.height - axisHeight);
  c.clip();
  const { rows } = s.layout;
  for (let i = rowAt(rows, s.scroll); i < rows.length; i++) {
    const row = rows[i];
    if (!row || row.top > s.scroll + s.height) {
      break;
    }
    const y = row.top - s.scroll + axisHeight;
    if (row.band) {
      drawBand(c, s, row, y);
    } else {
      c.fillStyle = s.colours.text;
      c.font = '600 12.5px system-ui, "DejaVu Sans", sans-serif';
      c.fillText(row.section.group.text, 8, y + row.height / 2 + 2, s.width - 16);
      c.font = '12px system-ui, "DejaVu Sans", sans-serif';
    }
  }
  c.restore();
}

function drawAxis(c: CanvasRenderingContext2D, s: Scene): void {
  c.fillStyle = s.colours.soft;
  c.strokeStyle = s.colours.line;
  const days = (s.span.max - s.span.min) / s.width * 130 >= 43_200_000;
  c.beginPath();
  for (const t of ticks(s.span, s.width - s.left)) {
    const x = Math.round(xOf(s, t)) + 0.5;
    c.moveTo(x, axisHeight - 5);
    c.lineTo(x, s.height);
    const text = days ? formatTime(t, false).slice(0, 10) : formatTime(t, false).slice(5);
    if (x + 4 + c.measureText(text).width <= s.width) {
      c.fillText(text, x + 4, axisHeight / 2);
    }
  }
  c.moveTo(0, axisHeight - 0.5);
  c.lineTo(s.width, axisHeight - 0.5);
  c.stroke();
}

function drawBand(c: CanvasRenderingContext2D, s: Scene, row: Placed, y: number): void {
  const band = row.band;
  if (!band) {
    return;
  }
  c.fillStyle = s.colours.soft;
  c.fillText(bandName(band), 20, y + (row.height - bandGap) / 2, s.left - 24);
  const first = row.section.bands.find((b) => b.resolution === band.resolution);
  if (first === band) {
    drawGaps(c, s, row.section.gaps.get(band.resolution) ?? [], y, row.height - bandGap);
  }
  const fill = fillOf(band.resolution, band.level, s.colours.dark);
  band.lanes.forEach((lane, n) => drawLane(c, s, lane, y + n * laneHeight, fill));
}

function drawGaps(c: CanvasRenderingContext2D, s: Scene, gaps: Span[], y: number, height: number): void {
  c.fillStyle = s.colours.bad;
  let drawnTo = -1;
  for (const g of gaps) {
    if (g.max < s.span.min || g.min > s.span.max) {
      continue;
    }
    const x1 = Math.max(xOf(s, g.min), s.left), x2 = xOf(s, g.max);
    if (x2 < drawnTo + 1) {
      continue;
    }
    c.globalAlpha = 0.16;
    c.fillRect(x1, y, Math.max(x2 - x1, 1.5), height);
    c.globalAlpha = 1;
    c.fillRect(x1, y + height - 2, Math.max(x2 - x1, 1.5), 2);
    drawnTo = x2;
  }
}

function remarkable(s: Scene, b: Block): boolean {
  return b.overlaps || (b.flags & (flagDeletion | flagNoCompact | flagNoDownsample | flagFailed)) !== 0 || b.id === s.selected
    || s.work.running.has(b.id) || s.work.planned.has(b.id) || s.work.aside.has(b.id);
}

function drawLane(c: CanvasRenderingContext2D, s: Scene, lane: Block[], y: number, fill: string): void {
  const h = laneHeight - 2;
  let drawnTo = -1;
  for (let i = firstAt(lane, s.span.min); i < lane.length; i++) {
    const b = lane[i];
    if (!b || b.min > s.span.max) {
      break;
    }
    const x1 = Math.max(xOf(s, b.min), s.left), x2 = Math.min(xOf(s, b.max), s.width);
    const special = remarkable(s, b);
    if (x2 < drawnTo + 0.7 && !special) {
      continue;
    }
    const w = Math.max(x2 - x1 - (x2 - x1 > 3 ? 1 : 0), 1);
    c.fillStyle = fill;
    c.fillRect(x1, y, w, h);
    drawnTo = x2;
    if (special) {
      drawMarks(c, s, b, x1, y, w, h);
    }
  }
}

function drawMarks(c: CanvasRenderingContext2D, s: Scene, b: Block, x: number, y: number, w: number, h: number): void {
  const { colours, work } = s;
  if (b.flags & flagDeletion) {
    c.fillStyle = colours.panel;
    c.globalAlpha = 0.72;
    c.fillRect(x, y, w, h);
    c.globalAlpha = 1;
    c.strokeStyle = colours.soft;
    c.lineWidth = 1.4;
    c.beginPath();
    c.moveTo(x, y + h / 2);
    c.lineTo(x + w, y + h / 2);
    c.stroke();
  }
  const outline = (colour: string, width: number, dash: number[] = []) => {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.setLineDash(dash);
    c.strokeRect(x + width / 2, y + width / 2, Math.max(w - width, 0.5), h - width);
    c.setLineDash([]);
  };
  if (b.overlaps) {
    outline(colours.bad, 1.5);
  }
  if (b.flags & (flagNoCompact | flagNoDownsample)) {
    c.fillStyle = colours.warn;
    c.fillRect(x, y, Math.min(w, 5), h);
  }
  if (work.aside.has(b.id) || b.flags & flagFailed) {
    c.fillStyle = colours.bad;
    c.beginPath();
    c.arc(x + w / 2, y + h / 2, 4, 0, 7);
    c.fill();
  }
  if (work.planned.has(b.id)) {
    outline(colours.info, 2, [4, 3]);
  }
  if (work.running.has(b.id)) {
    outline(colours.good, 2.5);
  }
  if (b.id === s.selected) {
    outline(colours.text, 2.5);
  }
  c.lineWidth = 1;
}
