import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { accessibility, launch, open, settle, shot } from './support.mjs';
import { address, clean, manyBlocks, ready, start, stop, until, up } from './stack.mjs';

const port = Number(process.env.PORT ?? 24090);
let browser, stack, bucketWeb, manyWeb, compactor, receiver;

before(async () => {
  stack = await up(port);
  browser = await launch();
  const bucket = `--objstore.config-file=${join(stack.data, 'config', 'bucket.yml')}`;
  compactor = `http://127.0.0.1:${port + 41}`;
  const c = start('compactor', ['compact', '--wait', '--wait-interval=10m', bucket, `--data-dir=${join(stack.dir, 'compactor')}`, '--consistency-delay=0s',
    '--deduplication.func=penalty', '--deduplication.replica-label=replica', `--http-address=127.0.0.1:${port + 41}`, '--block-viewer.global.sync-block-interval=2s'], stack.dir);
  await ready(compactor, c);
  bucketWeb = `http://127.0.0.1:${port + 42}`;
  await ready(bucketWeb, start('bucket-web', ['tools', 'bucket', 'web', bucket, `--http-address=127.0.0.1:${port + 42}`, `--compactor.url=${compactor}`, '--label=cluster'], stack.dir));
  const many = join(stack.dir, 'many');
  mkdirSync(many);
  manyBlocks(many, Number(process.env.BLOCKS ?? 10_000));
  manyWeb = `http://127.0.0.1:${port + 43}`;
  await ready(manyWeb, start('bucket-web', ['bucket', 'web', `--objstore.config={type: FILESYSTEM, config: {directory: ${many}}}`, `--http-address=127.0.0.1:${port + 43}`,
    '--web.route-prefix=/under/here', '--disable-admin-operations'], stack.dir));
  receiver = `http://127.0.0.1:${port + 44}`;
  await ready(receiver, start('receiver', ['receive', `--http-address=127.0.0.1:${port + 44}`, `--grpc-address=127.0.0.1:${port + 45}`, `--remote-write.address=127.0.0.1:${port + 46}`,
    `--tsdb.path=${join(stack.dir, 'receiver')}`, '--label=receive="r0"', `--receive.local-endpoint=127.0.0.1:${port + 45}`,
    `--receive.hashrings=[{"hashring":"all","endpoints":["127.0.0.1:${port + 45}"]}]`], stack.dir));
});

after(async () => {
  await browser?.close();
  await stop();
  if (stack) {
    clean(stack.dir);
  }
});

const at = (base, path, query = '') => `${base}/${path}${query}`;
const graph = (params) => at(stack.base, 'graph', '?' + new URLSearchParams(params));
const seriesCount = async (page) => {
  await settle(page);
  return Number(await page.textContent('[data-testid="series-count"] strong'));
};

test('a query is typed with completion, run, and drawn with the right number of lines', async () => {
  const { page, problems, close } = await open(browser, at(stack.base, 'graph'));
  await page.click('.cm-content');
  await page.keyboard.type('sum by (job) (rate(http_requ', { delay: 15 });
  await page.waitForSelector('.cm-tooltip-autocomplete li:has-text("http_requests_total")');
  await page.keyboard.press('Tab');
  await page.keyboard.type('{namespace="shop"}[5m]))');
  await page.keyboard.press('Enter');
  const lines = await seriesCount(page);
  const truth = await fetch(`${stack.base}/api/v1/query?query=${encodeURIComponent('count(sum by (job) (rate(http_requests_total{namespace="shop"}[5m])))')}`).then((r) => r.json());
  assert.equal(lines, Number(truth.data.result[0].value[1]));
  assert.ok(lines > 1);
  assert.equal(Number(await page.getAttribute('.chart [data-lines]', 'data-lines')), lines);
  assert.equal(await page.locator('.legend button').count(), lines);
  assert.match(page.url(), /g0\.expr=sum/);

  await page.locator('.legend button').first().click();
  assert.equal(Number(await page.getAttribute('.chart [data-lines]', 'data-lines')), lines - 1, 'the legend hides a line');
  assert.deepEqual(problems, []);
  await close();
});

test('a wrong expression is underlined, and its error is shown', async () => {
  const { page, close } = await open(browser, graph({ 'g0.expr': 'sum((' }));
  await page.waitForSelector('text=The query failed');
  await page.waitForSelector('.cm-lintRange-error');
  await close();
});

test('dragging over the graph zooms, back undoes nothing else', async () => {
  const { page, problems, close } = await open(browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d' }));
  await seriesCount(page);
  const box = await page.locator('.u-over').boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.75, box.y + 90, { steps: 8 });
  await page.mouse.up();
  await until('the address tells the range', async () => /g0\.range_input=(5h|6h)/.test(page.url()) && /g0\.end_input=/.test(page.url()));
  assert.ok((await seriesCount(page)) > 1);
  assert.deepEqual(problems, []);
  await close();
});

test('without deduplication there are more series', async () => {
  const { page, close } = await open(browser, graph({ 'g0.expr': 'up', 'g0.tab': '1' }));
  const merged = await seriesCount(page);
  await page.getByLabel('Deduplicate').uncheck();
  await until('the count changes', async () => (await seriesCount(page)) > merged);
  assert.match(page.url(), /g0\.deduplicate=0/);
  assert.ok((await page.textContent('.values')).includes('replica="b"'));
  await close();
});

test('the receipt names each store with its cost', async () => {
  const { page, problems, close } = await open(browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d', 'g0.stacked': '1' }));
  await seriesCount(page);
  await page.getByRole('button', { name: 'Receipt' }).click();
  const text = await page.textContent('.receipt');
  assert.match(text, /store/);
  assert.match(text, /sidecar/);
  assert.match(text, /complete/);
  assert.deepEqual(await accessibility(page), []);
  assert.deepEqual(problems, []);
  await shot(page, 'query-light');
  await close();
  const dark = await open(browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d' }), { dark: true });
  await seriesCount(dark.page);
  await dark.page.getByRole('button', { name: 'Receipt' }).click();
  assert.deepEqual(await accessibility(dark.page), []);
  await shot(dark.page, 'query-dark');
  await dark.close();
});

test('several panels live in the address, and links of others open', async () => {
  const { page, close } = await open(browser, graph({ 'g0.expr': 'up', 'g0.tab': '1', 'g1.expr': 'sum(up)', 'g1.tab': '0', 'g1.range_input': '2h' }));
  await settle(page);
  assert.equal(await page.locator('section[aria-label^="Query"]').count(), 2);
  await page.getByRole('button', { name: 'Add a query' }).click();
  assert.equal(await page.locator('section[aria-label^="Query"]').count(), 3);
  await page.getByRole('button', { name: 'Remove query 3' }).click();
  assert.equal(await page.locator('section[aria-label^="Query"]').count(), 2);
  await close();
});

test('labels are text, whatever is in them', async () => {
  const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>';
  const { page, problems, close } = await open(browser, graph({ 'g0.expr': `label_replace(vector(1), "evil", ${JSON.stringify(evil)}, "", "")`, 'g0.tab': '1' }));
  page.on('dialog', () => problems.push('a dialog'));
  assert.equal(await seriesCount(page), 1);
  assert.ok((await page.textContent('.values')).includes('onerror=alert(1)'));
  assert.equal(await page.locator('main img, main script').count(), 0);
  await page.getByRole('button', { name: 'Graph', exact: true }).click();
  await settle(page);
  assert.equal(await page.locator('main img, main script').count(), 0);
  assert.deepEqual(problems, []);
  await close();
});

// Each page: opened from the navigation, both looks, a phone, no error, nothing that axe calls serious.
const pagesOf = () => ({
  querier: [stack.base, ['stores', 'alerts', 'rules', 'targets', 'tsdb-status', 'queries', 'flags', 'status']],
  'store-gateway': [address(stack.log(), 'store-gateway'), ['loaded']],
  ruler: [address(stack.log(), 'ruler'), ['alerts', 'rules', 'gaps', 'flags']],
  compactor: [compactor, ['work', 'blocks', 'loaded', 'flags', 'status']],
  receiver: [receiver, ['tenants']],
  'bucket-web': [bucketWeb, ['blocks', 'usage', 'work', 'flags', 'status']],
});

test('every page is whole and accessible, light and dark and on a phone', async (t) => {
  for (const [service, [base, names]] of Object.entries(pagesOf())) {
    if (!base) {
      t.diagnostic(`${service} is not part of the stack`);
      continue;
    }
    for (const name of names) {
      for (const look of ['light', 'dark', 'phone']) {
        const { page, problems, close } = await open(browser, at(base, name), look === 'phone' ? { width: 390, height: 844 } : { dark: look === 'dark' });
        await settle(page);
        const where = `${service} ${name} ${look}`;
        assert.deepEqual(problems, [], where);
        if (look !== 'phone') {
          assert.deepEqual(await accessibility(page), [], where);
        }
        const trouble = await page.locator('.notice-bad').allTextContents();
        assert.deepEqual(trouble, [], where);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(wide <= 1, `${where} is ${wide} pixels too wide`);
        await shot(page, look === 'phone' ? `phone/${service}-${name}` : `${service}-${name}-${look}`);
        await close();
      }
    }
  }
});

test('pages are reached by keyboard alone', async () => {
  const { page, close } = await open(browser, at(stack.base, 'flags'));
  await settle(page);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
  for (let i = 0; i < 3; i++) {
    await page.keyboard.press('Tab');
  }
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Alerts');
  await page.keyboard.press('Enter');
  await page.waitForSelector('h1:has-text("Alerts")');
  await close();
});

test('10,000 blocks: each step of filtering, scrolling and zooming takes less than 100 ms', async (t) => {
  const { page, problems, close } = await open(browser, manyWeb + '/under/here/');
  await page.waitForFunction(() => /^[\d,]+ of 10,000/.test(document.querySelector('[data-testid="block-count"]')?.textContent ?? ''), null, { timeout: 60_000 });
  const worst = {};
  // What a step costs is the processor time of the page's thread, over all its tasks: on a busy machine the clock measures others.
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Performance.enable', { timeDomain: 'threadTicks' });
  const spent = async () => (await cdp.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value * 1000;
  const measured = async (name, act, times) => {
    const list = [];
    for (let i = 0; i < times; i++) {
      const before = await spent();
      await act(i);
      await page.evaluate(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r, 30)))));
      list.push((await spent()) - before);
    }
    worst[name] = Math.round(Math.max(...list));
  };
  const filter = page.getByLabel('Filter blocks');
  const scroller = page.locator('.timeline .scroll');
  await filter.click();
  await measured('a letter typed into the filter', async (i) => page.keyboard.type('cluster=eu2 p1'[i]), 14);
  assert.match(await page.textContent('[data-testid="block-count"]'), /^[\d,]+ of 10,000/);
  await measured('a letter taken out', async () => page.keyboard.press('Backspace'), 14);
  await measured('scrolling', async () => scroller.evaluate((e) => { e.scrollTop += 150; }), 10);
  const box = await scroller.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + 100);
  await page.keyboard.down('Control');
  await measured('zooming in', async () => page.mouse.wheel(0, -120), 12);
  await measured('zooming out', async () => page.mouse.wheel(0, 120), 12);
  await page.keyboard.up('Control');
  await scroller.focus();
  await measured('moving by keyboard', async () => page.keyboard.press('ArrowLeft'), 5);
  await page.getByRole('button', { name: 'List', exact: true }).click();
  await measured('filtering the list', async () => page.getByLabel('Level').selectOption({ index: 1 }), 1);
  t.diagnostic(`the dearest step, ms: ${JSON.stringify(worst)}`);
  for (const [name, ms] of Object.entries(worst)) {
    assert.ok(ms < 100, `${name} takes ${ms} ms`);
  }
  assert.deepEqual(problems, []);
  await close();
});

test('the timeline of 10,000 blocks looks as it should, and marks cannot be set where that is switched off', async () => {
  for (const dark of [false, true]) {
    const { page, close } = await open(browser, manyWeb + '/under/here/blocks', { dark });
    await page.waitForSelector('.timeline canvas');
    await page.getByRole('button', { name: 'List', exact: true }).click();
    await page.locator('.block-list button.mono').first().click();
    await page.waitForSelector('text=administrative operations are disabled');
    await page.getByRole('button', { name: 'Timeline', exact: true }).click();
    await settle(page);
    assert.deepEqual(await accessibility(page), []);
    await shot(page, `bucket-web-timeline-${dark ? 'dark' : 'light'}`);
    await close();
  }
});

test('a block is marked in the page, and the marker lies in the bucket', async () => {
  // One that the compactor has made: the others it has marked for deletion meanwhile.
  await fetch(bucketWeb + '/api/v1/bucket/refresh', { method: 'POST' });
  const id = await until('a compacted block', async () => {
    const { data } = await fetch(bucketWeb + '/api/v1/bucket/overview').then((r) => r.json());
    return data.blocks.find((b) => b[5] > 1 && b[11] === 0)?.[0];
  });
  const { page, problems, close } = await open(browser, at(bucketWeb, 'blocks'));
  await page.getByLabel('Filter blocks').fill(id);
  await page.getByRole('button', { name: 'List', exact: true }).click();
  const button = page.locator('.block-list button.mono').first();
  const file = (name) => join(stack.data, 'bucket', id, name);
  await button.click();
  await page.getByRole('button', { name: 'Keep out of compaction' }).click();
  await page.getByLabel('Reason').fill('looked at by hand');
  await page.locator('dialog').getByRole('button', { name: 'Keep out of compaction' }).click();
  await until('the marker', async () => existsSync(file('no-compact-mark.json')));
  assert.match(readFileSync(file('no-compact-mark.json'), 'utf8'), /"details":"looked at by hand"/);
  await page.waitForSelector('text=manual: looked at by hand');
  await page.getByRole('button', { name: 'Allow compaction' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Allow compaction' }).click();
  await until('the marker is gone', async () => !existsSync(file('no-compact-mark.json')));

  await page.getByRole('button', { name: 'Mark for deletion' }).click();
  assert.ok(await page.locator('dialog').getByRole('button', { name: 'Mark for deletion' }).isDisabled(), 'deletion needs a reason');
  await page.getByRole('button', { name: 'Cancel' }).click();

  await page.getByRole('button', { name: 'Cardinality' }).click();
  await page.waitForSelector('text=Metrics by series');
  await settle(page);
  assert.match(await page.textContent('section[aria-label^="Block"]'), /http_request/);
  assert.deepEqual(await accessibility(page), []);
  await shot(page, 'bucket-web-details-light');
  assert.deepEqual(problems, []);
  await close();
});

// `promontory up` ends when a part of it dies, so a gateway and a querier of our own are taken.
test('a store that dies is named', async () => {
  const gateway = `http://127.0.0.1:${port + 47}`, grpc = `127.0.0.1:${port + 48}`, querier = `http://127.0.0.1:${port + 49}`;
  const child = start('store-gateway', ['store', `--objstore.config-file=${join(stack.data, 'config', 'bucket.yml')}`, `--http-address=127.0.0.1:${port + 47}`,
    `--grpc-address=${grpc}`, `--data-dir=${join(stack.dir, 'gateway')}`], stack.dir);
  await ready(gateway, child);
  await ready(querier, start('querier', ['query', `--endpoint=${grpc}`, `--http-address=127.0.0.1:${port + 49}`, `--grpc-address=127.0.0.1:${port + 50}`,
    '--query.replica-label=replica'], stack.dir));
  await until('the store is known', async () => {
    const { data } = await fetch(querier + '/api/v1/stores').then((r) => r.json());
    return data.store?.length === 1;
  });
  child.kill('SIGKILL');
  const { page, close } = await open(browser, at(querier, 'stores'));
  await page.waitForSelector('tr:has-text("store") .badge-bad', { timeout: 60_000 });
  await page.goto(at(querier, 'graph', '?' + new URLSearchParams({ 'g0.expr': 'sum(rate(http_requests_total[5m]))', 'g0.range_input': '2d', 'g0.partial_response': '1' })));
  await page.waitForSelector('.notice-warn, .notice-bad', { timeout: 60_000 });
  await settle(page);
  assert.ok((await page.textContent('main')).includes(grpc), 'the warning names the store');
  await page.getByRole('button', { name: 'Receipt' }).click();
  const text = await page.textContent('.receipt');
  assert.match(text, /incomplete/);
  assert.ok(text.includes(grpc));
  assert.deepEqual(await accessibility(page), []);
  await shot(page, 'query-store-lost-light');
  await close();
});
