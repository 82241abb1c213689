// Screenshots in few colours: pages have not many, and a palette takes a third of the bytes. Reads what Chromium writes
// (8 bits, RGB or RGBA, not interlaced) and writes a palette of at most 256 colours.
import { crc32, deflateSync, inflateSync } from 'node:zlib';

function chunks(png) {
  const out = [];
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at);
    out.push([png.toString('latin1', at + 4, at + 8), png.subarray(at + 8, at + 8 + length)]);
    at += 12 + length;
  }
  return out;
}

function paeth(a, b, c) {
  const p = a + b - c, pa = Math.abs(p - a), pb = Math.abs(p - b), pc = Math.abs(p - c);
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

// pixels returns the width, the height, and each pixel as 0xrrggbb.
function pixels(png) {
  const list = chunks(png);
  const head = list.find(([name]) => name === 'IHDR')[1];
  const width = head.readUInt32BE(0), height = head.readUInt32BE(4), bytes = head[9] === 6 ? 4 : 3;
  if (head[8] !== 8 || (head[9] !== 6 && head[9] !== 2) || head[12] !== 0) {
    throw new Error('not a picture as Chromium writes it');
  }
  const raw = inflateSync(Buffer.concat(list.filter(([name]) => name === 'IDAT').map(([, data]) => data)));
  const stride = width * bytes, out = new Uint32Array(width * height);
  let before = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)], line = new Uint8Array(raw.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    for (let i = 0; i < stride; i++) {
      const a = i >= bytes ? line[i - bytes] : 0, b = before[i], c = i >= bytes ? before[i - bytes] : 0;
      line[i] += [0, a, b, (a + b) >> 1, filter === 4 ? paeth(a, b, c) : 0][filter];
    }
    for (let x = 0; x < width; x++) {
      out[y * width + x] = (line[x * bytes] << 16) | (line[x * bytes + 1] << 8) | line[x * bytes + 2];
    }
    before = line;
  }
  return { width, height, data: out };
}

// paletteOf chooses colours by median cut: the box of colours with the widest spread, weighted by how many pixels it has, is halved.
function paletteOf(counts, size) {
  const of = (c, k) => (c >> (16 - 8 * k)) & 255;
  const measure = (list) => {
    let best = { spread: -1, k: 0 };
    for (let k = 0; k < 3; k++) {
      let low = 255, high = 0;
      for (const [c] of list) {
        low = Math.min(low, of(c, k));
        high = Math.max(high, of(c, k));
      }
      if (high - low > best.spread) {
        best = { spread: high - low, k };
      }
    }
    const n = list.reduce((sum, [, count]) => sum + count, 0);
    return { list, ...best, n, rank: best.spread * Math.sqrt(n) };
  };
  const boxes = [measure([...counts])];
  while (boxes.length < size) {
    boxes.sort((a, b) => b.rank - a.rank);
    const box = boxes[0];
    if (box.spread <= 0) {
      break;
    }
    box.list.sort(([a], [b]) => of(a, box.k) - of(b, box.k));
    let half = box.n / 2, cut = 0;
    while (cut < box.list.length - 1 && half > 0) {
      half -= box.list[cut++][1];
    }
    boxes.splice(0, 1, measure(box.list.slice(0, Math.max(cut, 1))), measure(box.list.slice(Math.max(cut, 1))));
  }
  // The colour of a box is its most frequent one, so that plain areas stay exactly what they are.
  return boxes.map((b) => b.list.reduce((a, x) => (x[1] > a[1] ? x : a)));
}

function chunk(name, data) {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length);
  out.write(name, 4, 'latin1');
  data.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

// shrink returns a picture in at most `size` colours.
export function shrink(png, size = 128) {
  const { width, height, data } = pixels(png);
  const counts = new Map();
  data.forEach((c) => counts.set(c, (counts.get(c) ?? 0) + 1));
  const colours = paletteOf(counts, size).map(([c]) => c);
  const nearest = new Map();
  for (const c of counts.keys()) {
    let best = 0, least = Infinity;
    colours.forEach((p, i) => {
      const r = (c >> 16) - (p >> 16), g = ((c >> 8) & 255) - ((p >> 8) & 255), b = (c & 255) - (p & 255);
      const d = 2 * r * r + 4 * g * g + b * b;
      if (d < least) {
        least = d;
        best = i;
      }
    });
    nearest.set(c, best);
  }
  const lines = Buffer.alloc((width + 1) * height);
  data.forEach((c, i) => { lines[i + Math.floor(i / width) + 1] = nearest.get(c); });
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  return Buffer.concat([
    png.subarray(0, 8), chunk('IHDR', head), chunk('PLTE', Buffer.from(colours.flatMap((c) => [c >> 16, (c >> 8) & 255, c & 255]))),
    chunk('IDAT', deflateSync(lines, { level: 9 })), chunk('IEND', Buffer.alloc(0)),
  ]);
}
