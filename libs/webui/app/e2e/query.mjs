// The querier's page: queries, graphs, receipts, links.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessibility, open, settle, shot } from './support.mjs';
import { until } from './stack.mjs';
import { at, graph, loneStore, seriesCount, world } from './world.mjs';

test('a query is typed with completion, run, and drawn with the right number of lines', async () => {
  const { page, problems, close } = await open(world.browser, at(world.stack.base, 'graph'));
  await page.click('.cm-content');
  await page.keyboard.type('sum by (job) (rate(http_requests_t', { delay: 15 });
  await page.waitForSelector('.cm-tooltip-autocomplete li:has-text("http_requests_total")');
  // The list takes no key for a moment, so that nothing is accepted by mistake.
  await until('the completion is taken', async () => {
    await page.keyboard.press('Tab');
    return (await page.textContent('.cm-content')).includes('http_requests_total');
  });
  await page.keyboard.type('{namespace="shop"}[5m]))');
  await page.keyboard.press('Enter');
  const lines = await seriesCount(page);
  const truth = await fetch(`${world.stack.base}/api/v1/query?query=${encodeURIComponent('count(sum by (job) (rate(http_requests_total{namespace="shop"}[5m])))')}`).then((r) => r.json());
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
  const { page, close } = await open(world.browser, graph({ 'g0.expr': 'sum((' }));
  await page.waitForSelector('text=The query failed');
  await page.waitForSelector('.cm-lintRange-error');
  await close();
});

test('dragging over the graph zooms, back undoes nothing else', async () => {
  const { page, problems, close } = await open(world.browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d' }));
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
  const { page, close } = await open(world.browser, graph({ 'g0.expr': 'up', 'g0.tab': '1' }));
  const merged = await seriesCount(page);
  await page.getByLabel('Deduplicate').uncheck();
  await until('the count changes', async () => (await seriesCount(page)) > merged);
  assert.match(page.url(), /g0\.deduplicate=0/);
  assert.ok((await page.textContent('.values')).includes('replica="b"'));
  await close();
});

test('the receipt names each store with its cost', async () => {
  const { page, problems, close } = await open(world.browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d', 'g0.stacked': '1' }));
  await seriesCount(page);
  await page.getByRole('button', { name: 'Receipt' }).click();
  const text = await page.textContent('.receipt');
  assert.match(text, /store/);
  assert.match(text, /sidecar/);
  assert.match(text, /complete/);
  assert.deepEqual(await accessibility(page), []);
  assert.deepEqual(problems, []);
  await shot(page, 'querier-receipt-light');
  await close();
  const dark = await open(world.browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '1d' }), { dark: true });
  await seriesCount(dark.page);
  await dark.page.getByRole('button', { name: 'Receipt' }).click();
  assert.deepEqual(await accessibility(dark.page), []);
  await shot(dark.page, 'querier-receipt-dark');
  await dark.close();
});

test('several panels live in the address, and links of others open', async () => {
  const { page, close } = await open(world.browser, graph({ 'g0.expr': 'up', 'g0.tab': '1', 'g1.expr': 'sum(up)', 'g1.tab': '0', 'g1.range_input': '2h' }));
  await settle(page);
  assert.equal(await page.locator('section[aria-label^="Query"]').count(), 2);
  await page.getByRole('button', { name: 'Add a query' }).click();
  assert.equal(await page.locator('section[aria-label^="Query"]').count(), 3);
  await page.getByRole('button', { name: 'Remove query 3' }).click();
  assert.equal(await page.locator('section[aria-label^="Query"]').count(), 2);
  await close();
});

// Links as the pages of others write them, and what has to be on the page then.
const links = {
  'Prometheus 2': ['graph', 'g0.expr=up&g0.tab=0&g0.display_mode=stacked&g0.show_exemplars=0&g0.range_input=2h&g0.step_input=60', { tab: 'Graph', range: '2h', step: '1m', stacked: true, dedup: true }],
  'Prometheus 3': ['query', 'g0.expr=up&g0.show_tree=0&g0.tab=table&g0.range_input=1h&g0.res_type=auto&g0.res_density=medium&g0.display_mode=lines&g0.show_exemplars=0', { tab: 'Table', dedup: true }],
  'Prometheus 3 with a step': ['graph', 'g0.expr=up&g0.tab=graph&g0.range_input=6h&g0.res_type=fixed&g0.res_step=120&g0.display_mode=lines', { tab: 'Graph', range: '6h', step: '2m', stacked: false, dedup: true }],
  Thanos: ['graph', 'g0.expr=up&g0.tab=0&g0.stacked=0&g0.range_input=1h&g0.max_source_resolution=5m&g0.deduplicate=0&g0.partial_response=1&g0.store_matches=%5B%5D&g0.engine=thanos&g0.explain=0', { tab: 'Graph', range: '1h', step: '', stacked: false, dedup: false }],
};

test('links made by Prometheus and Thanos open with all that they say', async () => {
  for (const [who, [path, query, want]] of Object.entries(links)) {
    const { page, problems, close } = await open(world.browser, at(world.stack.base, path, '?' + query));
    assert.ok((await seriesCount(page)) > 0, who);
    assert.equal(await page.textContent('.cm-line'), 'up', who);
    assert.equal(await page.getByRole('group', { name: 'View' }).locator('[aria-pressed="true"]').textContent(), want.tab, who);
    assert.equal(await page.getByLabel('Deduplicate').isChecked(), want.dedup, who);
    if (want.tab === 'Graph') {
      assert.equal(await page.getByRole('textbox', { name: 'Range', exact: true }).inputValue(), want.range, who);
      assert.equal(await page.getByRole('textbox', { name: /^Step/ }).inputValue(), want.step, who);
      assert.equal(await page.getByLabel('Stacked').isChecked(), want.stacked, who);
    }
    assert.deepEqual(problems, [], who);
    await close();
  }
});

test('a query that runs is seen by others, and cancelled', async () => {
  const { querier, line } = await loneStore();
  line.hold();
  const asker = await open(world.browser, graph({ 'g0.expr': 'sum by (job) (rate(http_requests_total[5m]))', 'g0.range_input': '2d' }, querier));
  for (const dark of [true, false]) {
    const { page, problems, close } = await open(world.browser, at(querier, 'queries'), { dark });
    const row = page.locator('tr', { hasText: 'rate(http_requests_total[5m])' });
    await row.first().waitFor();
    assert.deepEqual(await accessibility(page), []);
    await shot(page, `querier-queries-${dark ? 'dark' : 'light'}`);
    if (!dark) {
      await row.getByRole('button', { name: /^Cancel/ }).click();
      await row.first().waitFor({ state: 'detached' });
      await page.waitForSelector('text=No query runs at this moment.');
    }
    assert.deepEqual(problems, []);
    await close();
  }
  await asker.page.waitForSelector('text=The query failed');
  assert.match(await asker.page.textContent('.notice-bad'), /cancel/i);
  await asker.close();
  line.release();
  await until('the store answers again', async () => {
    const { data } = await fetch(querier + '/api/v1/stores').then((r) => r.json());
    return data.store?.[0]?.lastError === null;
  });
});

test('a store that dies is named', async () => {
  const { querier, child, line } = await loneStore();
  child.kill('SIGKILL');
  const { page, close } = await open(world.browser, at(querier, 'stores'));
  await page.waitForSelector('tr:has-text("store") .badge-bad', { timeout: 60_000 });
  await page.goto(graph({ 'g0.expr': 'sum(rate(http_requests_total[5m]))', 'g0.range_input': '2d', 'g0.partial_response': '1' }, querier));
  await page.waitForSelector('.notice-warn, .notice-bad', { timeout: 60_000 });
  await settle(page);
  assert.ok((await page.textContent('main')).includes(line.address), 'the warning names the store');
  await page.getByRole('button', { name: 'Receipt' }).click();
  const text = await page.textContent('.receipt');
  assert.match(text, /incomplete/);
  assert.ok(text.includes(line.address));
  assert.deepEqual(await accessibility(page), []);
  await shot(page, 'querier-store-lost-light');
  await close();
});
