// The real programs that the tests look at, and what stands between them.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../..', import.meta.url));
export const bin = process.env.BIN ?? join(root, 'bin');
const peers = process.env.PEERS ?? join(root, '.bin');

const running = [];
const servers = [];

export function start(name, args, dir, logName = name) {
  const log = openSync(join(dir, `${logName}.log`), 'w');
  const child = spawn(join(bin, name), args, { cwd: dir, stdio: ['ignore', log, log] });
  running.push(child);
  child.on('exit', (code, signal) => {
    child.ended = `${name} ended: ${code ?? signal}`;
  });
  return child;
}

export async function ready(base, child, seconds = 180) {
  const until = Date.now() + seconds * 1000;
  for (;;) {
    const ok = await fetch(base + '/-/ready').then((r) => r.ok, () => false);
    if (ok) {
      return;
    }
    if (child.ended || Date.now() > until) {
      throw new Error(child.ended ?? `${base} is not ready after ${seconds} s`);
    }
    await new Promise((r) => setTimeout(r, 200));
  }
}

// until asks again and again until the answer satisfies.
export async function until(what, f, seconds = 90) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const got = await f().catch(() => null);
    if (got) {
      return got;
    }
    if (Date.now() > end) {
      throw new Error(`not within ${seconds} s: ${what}`);
    }
    await new Promise((r) => setTimeout(r, 250));
  }
}

export async function up(port) {
  const dir = mkdtempSync(join(tmpdir(), 'promontory-browser-'));
  const data = join(dir, 'up');
  const child = start('promontory', ['up', '--plain', '--bin-dir', bin, '--peers-dir', peers, '--data-dir', data, '--ports', String(port), '--history', '2d'], dir);
  const base = `http://127.0.0.1:${port}`;
  await ready(base, child);
  await until('history and live data', async () => {
    const r = await fetch(`${base}/api/v1/query?query=${encodeURIComponent('count(up)')}`).then((x) => x.json());
    return Number(r.data.result[0]?.value[1]) > 4;
  });
  return { dir, data, base, log: () => readFileSync(join(dir, 'promontory.log'), 'utf8') };
}

// address returns where a process of the stack answers, as `promontory up` printed it.
export function address(log, name) {
  const m = new RegExp(`^\\s+${name}\\s+ready.*(http://\\S+)`, 'm').exec(log);
  return m?.[1];
}

// relay passes connections on to a port, until it is told to hold all bytes back; release lets them flow again.
export async function relay(port) {
  const sockets = new Set();
  let held = false;
  const server = net.createServer((from) => {
    const to = net.connect(port, '127.0.0.1');
    for (const [a, b] of [[from, to], [to, from]]) {
      sockets.add(a);
      a.on('data', (bytes) => b.write(bytes));
      a.on('error', () => undefined);
      a.on('close', () => { sockets.delete(a); b.destroy(); });
      if (held) {
        a.pause();
      }
    }
  });
  await new Promise((r) => server.listen(0, '127.0.0.1', r));
  servers.push({ close: () => { sockets.forEach((s) => s.destroy()); server.close(); } });
  return {
    address: `127.0.0.1:${server.address().port}`,
    hold() { held = true; sockets.forEach((s) => s.pause()); },
    release() { held = false; sockets.forEach((s) => s.resume()); },
  };
}

// proxy is a reverse proxy that serves `target` below a path, which it takes off and tells in X-Forwarded-Prefix. It remembers
// the paths that it was asked for.
export async function proxy(target, prefix) {
  const asked = [];
  const server = http.createServer((req, res) => {
    asked.push(req.url);
    if (!req.url.startsWith(prefix + '/')) {
      res.writeHead(404).end('not below the prefix');
      return;
    }
    const on = http.request(target + req.url.slice(prefix.length), { method: req.method, headers: { ...req.headers, 'x-forwarded-prefix': prefix } }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    on.on('error', (err) => res.writeHead(502).end(String(err)));
    req.pipe(on);
  });
  await new Promise((r) => server.listen(0, '127.0.0.1', r));
  servers.push({ close: () => { server.closeAllConnections(); server.close(); } });
  return { base: `http://127.0.0.1:${server.address().port}`, asked };
}

export async function stop() {
  servers.forEach((s) => s.close());
  for (const child of running.reverse()) {
    if (!child.ended) {
      child.kill('SIGINT');
      await new Promise((r) => child.once('exit', r));
    }
  }
}

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const hour = 3_600_000;

function ulid(ms, n) {
  let head = '', tail = '';
  for (let i = 0, t = ms; i < 10; i++, t = Math.floor(t / 32)) {
    head = alphabet[t % 32] + head;
  }
  for (let i = 0, t = n; i < 16; i++, t = Math.floor(t / 32)) {
    tail = alphabet[t % 32] + tail;
  }
  return head + tail;
}

// manyBlocks fills a folder with blocks that are nothing but a meta.json: levels grow with age, a block is missing
// here and there, and some overlap.
export function manyBlocks(dir, total, groups = 20) {
  const now = Math.floor(Date.now() / (2 * hour)) * 2 * hour;
  let n = 0;
  for (let g = 0; g < groups; g++) {
    const labels = { cluster: `eu${(g % 4) + 1}`, replica: 'ab'[g % 2], tenant_id: `team-${g % 7}`, prometheus: `p${g}` };
    let t = now;
    const per = Math.floor(total / groups);
    for (let k = 0; k < per; k++) {
      const age = k / per;
      const [level, length] = age < 0.25 ? [1, 2 * hour] : age < 0.5 ? [2, 8 * hour] : age < 0.8 ? [3, 48 * hour] : [4, 336 * hour];
      const resolution = level < 3 ? 0 : [0, 300_000, 3_600_000][k % 3];
      const id = ulid(t, ++n);
      const size = (((n * 7919) % 1000) + 50) * 400_000 * level;
      const meta = {
        ulid: id, minTime: t - length, maxTime: t, version: 1, stats: { numSamples: size, numSeries: (n * 31) % 90_000, numChunks: Math.floor(size / 120) },
        compaction: { level, sources: [id] },
        thanos: {
          version: 1, labels, downsample: { resolution }, source: level === 1 ? 'sidecar' : 'compactor', index_stats: {},
          files: [{ rel_path: 'chunks/000001', size_bytes: Math.floor(size * 0.9) }, { rel_path: 'index', size_bytes: Math.floor(size * 0.1) }, { rel_path: 'meta.json' }],
        },
      };
      mkdirSync(join(dir, id), { recursive: true });
      writeFileSync(join(dir, id, 'meta.json'), JSON.stringify(meta));
      if (n % 97 === 0) {
        writeFileSync(join(dir, id, 'deletion-mark.json'), JSON.stringify({ id, version: 1, details: 'source of compacted block', deletion_time: Math.floor(now / 1000) }));
      }
      if (level < 3 || resolution === 3_600_000) {
        t -= k % 61 === 60 ? 2 * length : k % 83 === 82 ? length / 2 : length;
      }
    }
  }
  return n;
}

export function clean(dir) {
  rmSync(dir, { recursive: true, force: true });
}
