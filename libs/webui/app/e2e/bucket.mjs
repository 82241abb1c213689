// The pages about blocks: bucket-web, and the compactor's own viewer.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { accessibility, open, settle, shot } from './support.mjs';
import { until } from './stack.mjs';
import { at, manyBlocksCount, world } from './world.mjs';

// steps filters, scrolls and zooms on a page of blocks, and returns what the dearest step of each kind took in milliseconds.
async function steps(page) {
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
  return worst;
}

const shown = (page, total) => page.waitForFunction((text) => document.querySelector('[data-testid="block-count"]')?.textContent.includes(` of ${text} blocks`),
  total.toLocaleString('en-US'), { timeout: 60_000 });

test('10,000 blocks: each step of filtering, scrolling and zooming takes less than 100 ms', async (t) => {
  const { page, problems, close } = await open(world.browser, world.manyWeb + '/under/here/');
  await shown(page, manyBlocksCount);
  const worst = await steps(page);
  t.diagnostic(`the dearest step, ms: ${JSON.stringify(worst)}`);
  for (const [name, ms] of Object.entries(worst)) {
    assert.ok(ms < 100, `${name} takes ${ms} ms`);
  }
  assert.deepEqual(problems, []);
  await close();
});

// grown makes an overview of n blocks of one that has fewer, by groups of the same blocks with other labels.
function grown(data, n) {
  const out = { ...data, groups: [], blocks: [], marked: [], unusable: [] };
  for (let k = 0; out.blocks.length < n; k++) {
    const first = out.groups.length;
    out.groups.push(...data.groups.map((g) => ({ labels: { ...g.labels, copy: `c${k}` } })));
    out.blocks.push(...data.blocks.slice(0, n - out.blocks.length).map(([id, group, ...rest]) => [id.slice(0, 20) + String(k).padStart(6, '0'), first + group, ...rest]));
  }
  return out;
}

// Fluent is 60 frames a second for what follows the hand: moving, scrolling, zooming. Filters make the picture anew.
test('50,000 blocks: moving, scrolling and zooming stay fluent, and filters answer at once', async (t) => {
  const body = await fetch(world.manyWeb + '/under/here/api/v1/bucket/overview').then((r) => r.json());
  const many = JSON.stringify({ ...body, data: grown(body.data, 50_000) });
  const { page, problems, close } = await open(world.browser, world.manyWeb + '/under/here/usage');
  await page.route('**/api/v1/bucket/overview*', (route) => route.fulfill({ body: many, contentType: 'application/json' }));
  await page.goto(world.manyWeb + '/under/here/blocks');
  await shown(page, 50_000);
  const worst = await steps(page);
  t.diagnostic(`the dearest step, ms: ${JSON.stringify(worst)}`);
  for (const [name, ms] of Object.entries(worst)) {
    const bound = /scroll|zoom|moving/.test(name) ? 50 : 250;
    assert.ok(ms < bound, `${name} takes ${ms} ms`);
  }
  assert.deepEqual(problems, []);
  await close();
});

test('the timeline of 10,000 blocks looks as it should, and marks cannot be set where that is switched off', async () => {
  for (const dark of [false, true]) {
    const { page, close } = await open(world.browser, world.manyWeb + '/under/here/blocks', { dark });
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

// compacted returns a block that the compactor has made: the others it has marked for deletion meanwhile.
const compacted = (n) => until('compacted blocks', async () => {
  await fetch(world.bucketWeb + '/api/v1/bucket/refresh', { method: 'POST' });
  const { data } = await fetch(world.bucketWeb + '/api/v1/bucket/overview').then((r) => r.json());
  return data.blocks.filter((b) => b[5] > 1 && b[11] === 0)[n]?.[0];
});

test('a block is marked in the page, and the marker lies in the bucket', async () => {
  const id = await compacted(0);
  const { page, problems, close } = await open(world.browser, at(world.bucketWeb, 'blocks'));
  await page.getByLabel('Filter blocks').fill(id);
  await page.getByRole('button', { name: 'List', exact: true }).click();
  const button = page.locator('.block-list button.mono').first();
  const file = (name) => join(world.stack.data, 'bucket', id, name);
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

test('the timeline and its blocks are used by keyboard, and Escape leaves a dialog without a mark', async () => {
  const { page, problems, close } = await open(world.browser, at(world.bucketWeb, 'blocks'));
  const timeline = page.getByRole('application');
  await timeline.focus();
  const span = () => page.textContent('.timeline-tools .faint');
  const whole = await span();
  await page.keyboard.press('+');
  await until('it is zoomed', async () => (await span()) !== whole);
  await page.keyboard.press('Home');
  await until('all is seen again', async () => (await span()) === whole);
  await page.getByRole('button', { name: 'List', exact: true }).focus();
  await page.keyboard.press('Enter');
  const block = page.locator('.block-list button.mono').first();
  await block.focus();
  const id = await block.textContent();
  await page.keyboard.press('Enter');
  const ask = page.getByRole('button', { name: 'Keep from downsampling' });
  await ask.focus();
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open]');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  assert.ok(!existsSync(join(world.stack.data, 'bucket', id, 'no-downsample-mark.json')));
  assert.deepEqual(problems, []);
  await close();
});

test('the compactor\'s own page marks blocks too, with a reason, and takes marks off', async () => {
  const id = await compacted(0);
  const file = (name) => join(world.stack.data, 'bucket', id, name);
  const { page, problems, close } = await open(world.browser, at(world.compactor, 'blocks'));
  await settle(page);
  await page.getByLabel('Filter blocks').fill(id);
  await page.getByRole('button', { name: 'List', exact: true }).click();
  await page.locator('.block-list button.mono').first().click();
  for (const [set, unset, name] of [
    ['Mark for deletion', 'Keep it', 'deletion-mark.json'], ['Keep from downsampling', 'Allow downsampling', 'no-downsample-mark.json'],
  ]) {
    await page.getByRole('button', { name: set }).click();
    await page.getByLabel('Reason').fill(`seen on the page: ${name}`);
    await page.locator('dialog').getByRole('button', { name: set }).click();
    await until('the marker', async () => readFileSync(file(name), 'utf8').includes(`"details":"seen on the page: ${name}"`));
    await page.waitForSelector(`text=seen on the page: ${name}`);
    await page.getByRole('button', { name: unset }).click();
    await page.locator('dialog').getByRole('button', { name: unset }).click();
    await until('the marker is gone', async () => !existsSync(file(name)));
  }
  assert.deepEqual(await accessibility(page), []);
  await shot(page, 'compactor-details-light');
  assert.deepEqual(problems, []);
  await close();
});

test('what retention removes goes by the policies of the compactor, and can be tried with others', async () => {
  const { page, problems, close } = await open(world.browser, at(world.bucketWeb, 'usage'));
  await settle(page);
  const panel = page.getByRole('region', { name: 'What retention removes' }).first();
  const policies = panel.getByRole('region', { name: 'Retention policies' });
  await policies.waitFor();
  const text = await policies.textContent();
  for (const want of ['the demo keeps less', '{cluster=~"de.*"}', '60d', '180d', 'default', '90d', '1y', 'for ever']) {
    assert.ok(text.includes(want), `${want} in ${text}`);
  }
  await panel.getByLabel('Until').selectOption({ label: 'the next 365d' });
  const removed = panel.getByRole('region', { name: 'Blocks that retention removes' });
  await removed.waitFor();
  assert.match(await removed.textContent(), /the demo keeps less/);
  await panel.getByRole('button', { name: 'What if' }).click();
  assert.equal(await panel.getByLabel('Raw kept for').inputValue(), '90d', 'it begins with what is set');
  await panel.getByLabel('Raw kept for').fill('0d');
  await panel.getByLabel('5m', { exact: true }).fill('0d');
  await panel.getByLabel('1h', { exact: true }).fill('0d');
  await panel.getByText('Nothing is removed.').waitFor();
  await panel.getByLabel('Raw kept for').fill('1h');
  await removed.waitFor();
  assert.deepEqual(await accessibility(page), []);
  assert.deepEqual(problems, []);
  await close();
});
