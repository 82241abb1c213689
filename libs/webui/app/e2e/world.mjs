// What the browser tests look at: `promontory up`, and beside it a compactor, receiver and bucket-webs of our own, one of them over
// many blocks. All tests share one world, for it takes a minute to make.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { launch, settle } from './support.mjs';
import { address, clean, manyBlocks, ready, relay, start, stop, until, up } from './stack.mjs';

// world is filled before the first test.
export const world = { port: Number(process.env.PORT ?? 24090) };

export const manyBlocksCount = 10_000;

before(async () => {
  const { port } = world;
  const stack = world.stack = await up(port);
  world.browser = await launch();
  world.bucket = `--objstore.config-file=${join(stack.data, 'config', 'bucket.yml')}`;
  world.compactor = `http://127.0.0.1:${port + 41}`;
  const policies = '{policies: [{name: the demo keeps less, selector: \'{cluster=~"de.*"}\', resolution_raw: 60d, resolution_5m: 180d}]}';
  const c = start('compactor', ['compact', '--wait', '--wait-interval=10m', world.bucket, `--data-dir=${join(stack.dir, 'compactor')}`, '--consistency-delay=0s',
    '--deduplication.func=penalty', '--deduplication.replica-label=replica', `--http-address=127.0.0.1:${port + 41}`, '--block-viewer.global.sync-block-interval=2s',
    '--retention.resolution-raw=90d', '--retention.resolution-5m=1y', `--retention.policies=${policies}`], stack.dir);
  world.bucketWeb = `http://127.0.0.1:${port + 42}`;
  const b = start('bucket-web', ['tools', 'bucket', 'web', world.bucket, `--http-address=127.0.0.1:${port + 42}`, `--compactor.url=${world.compactor}`, '--label=cluster'], stack.dir);
  const many = join(stack.dir, 'many');
  mkdirSync(many);
  manyBlocks(many, manyBlocksCount);
  world.manyWeb = `http://127.0.0.1:${port + 43}`;
  const m = start('bucket-web', ['bucket', 'web', `--objstore.config={type: FILESYSTEM, config: {directory: ${many}}}`, `--http-address=127.0.0.1:${port + 43}`,
    '--web.route-prefix=/under/here', '--disable-admin-operations'], stack.dir, 'bucket-web-many');
  world.receiver = `http://127.0.0.1:${port + 44}`;
  const r = start('receiver', ['receive', `--http-address=127.0.0.1:${port + 44}`, `--grpc-address=127.0.0.1:${port + 45}`, `--remote-write.address=127.0.0.1:${port + 46}`,
    `--tsdb.path=${join(stack.dir, 'receiver')}`, '--label=receive="r0"', `--receive.local-endpoint=127.0.0.1:${port + 45}`,
    `--receive.hashrings=[{"hashring":"all","endpoints":["127.0.0.1:${port + 45}"]}]`], stack.dir);
  await Promise.all([ready(world.compactor, c), ready(world.bucketWeb, b), ready(world.manyWeb, m), ready(world.receiver, r)]);
});

after(async () => {
  await world.browser?.close();
  await stop();
  if (world.stack) {
    clean(world.stack.dir);
  }
});

// pagesOf returns the address of each service, and the pages that it has.
export const pagesOf = () => ({
  querier: [world.stack.base, ['graph?' + new URLSearchParams({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d' }), 'stores', 'alerts', 'rules', 'targets', 'tsdb-status', 'queries', 'flags', 'status']],
  'store-gateway': [address(world.stack.log(), 'store-gateway'), ['loaded', 'flags', 'status']],
  ruler: [address(world.stack.log(), 'ruler'), ['alerts', 'rules', 'gaps', 'ruler', 'flags', 'status']],
  compactor: [world.compactor, ['work', 'blocks', 'loaded', 'flags', 'status']],
  receiver: [world.receiver, ['tenants', 'flags', 'status']],
  'bucket-web': [world.bucketWeb, ['blocks', 'usage', 'work', 'flags', 'status']],
});

export const at = (base, path, query = '') => `${base}/${path}${query}`;
export const graph = (params, base = world.stack.base) => at(base, 'graph', '?' + new URLSearchParams(params));

// seriesCount waits for the answer of the one query of a page.
export async function seriesCount(page) {
  await settle(page);
  return Number(await page.textContent('[data-testid="series-count"] strong'));
}

let lone;

// loneStore is a store-gateway of our own behind a TCP relay that can be stopped, and a querier that knows no other store:
// `promontory up` ends when a part of it dies. The querier believes the prefix header of a proxy.
export function loneStore() {
  lone ??= makeLoneStore();
  return lone;
}

async function makeLoneStore() {
  const { port, stack } = world;
  const gateway = `http://127.0.0.1:${port + 47}`, querier = `http://127.0.0.1:${port + 49}`;
  const child = start('store-gateway', ['store', world.bucket, `--http-address=127.0.0.1:${port + 47}`, `--grpc-address=127.0.0.1:${port + 48}`,
    `--data-dir=${join(stack.dir, 'gateway')}`], stack.dir);
  await ready(gateway, child);
  const line = await relay(port + 48);
  await ready(querier, start('querier', ['query', `--endpoint=${line.address}`, `--http-address=127.0.0.1:${port + 49}`, `--grpc-address=127.0.0.1:${port + 50}`,
    '--query.replica-label=replica', '--web.prefix-header=X-Forwarded-Prefix'], stack.dir));
  await until('the store is known', async () => {
    const { data } = await fetch(querier + '/api/v1/stores').then((r) => r.json());
    return data.store?.length === 1;
  });
  return { querier, child, line };
}
