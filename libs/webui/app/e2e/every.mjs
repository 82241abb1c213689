// What holds for every page of every service.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessibility, open, settle, shot } from './support.mjs';
import { proxy, until } from './stack.mjs';
import { at, graph, loneStore, pagesOf, seriesCount, world } from './world.mjs';

function allPages() {
  return Object.entries(pagesOf()).flatMap(([service, [base, names]]) => names.map((name) => [service, name, at(base, name)]));
}

const looks = [
  ['light', {}], ['dark', { dark: true }], ['phone/light', { width: 390, height: 844 }], ['phone/dark', { width: 390, height: 844, dark: true }],
];

// shotName is the folder and file of a screenshot: phone/querier-rules-dark.
function shotName(service, name, look) {
  const [folder, tone] = look.startsWith('phone/') ? ['phone/', look.slice(6)] : ['', look];
  return `${folder}${service}-${name.split('?')[0]}-${tone}`;
}

// wrongOn returns all that is wrong with a page as it is seen.
async function wrongOn(page, problems) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  return [
    ...problems, ...await accessibility(page), ...await page.locator('.notice-bad').allTextContents(),
    ...(wide > 1 ? [`${wide} pixels too wide`] : []),
  ];
}

test('every page is whole and accessible, light and dark, on a laptop and a phone', async () => {
  const wrong = {};
  for (const [look, options] of looks) {
    const { page, problems, to, close } = await open(world.browser, world.stack.base, options);
    for (const [service, name, url] of allPages()) {
      await to(url);
      await settle(page);
      const found = await wrongOn(page, problems);
      if (found.length > 0) {
        wrong[`${service} ${name} ${look}`] = found;
      }
      await shot(page, shotName(service, name, look));
    }
    await close();
  }
  assert.deepEqual(wrong, {});
});

test('every service sends its pages with a policy that lets nothing in, and safe headers', async () => {
  for (const [service, name, url] of allPages()) {
    const answer = await fetch(url);
    const header = (h) => answer.headers.get(h) ?? '';
    const where = `${service} ${name}`;
    assert.equal(answer.status, 200, where);
    assert.match(header('content-security-policy'), /^default-src 'none'; script-src 'self'; style-src 'self' 'nonce-[\w+/]+'; /, where);
    assert.match(header('content-security-policy'), /connect-src 'self'.*base-uri 'none'; form-action 'none'; frame-ancestors 'self'/, where);
    assert.doesNotMatch(header('content-security-policy'), /unsafe|\*|https?:/, where);
    assert.equal(header('x-content-type-options'), 'nosniff', where);
    assert.equal(header('x-frame-options'), 'SAMEORIGIN', where);
    assert.equal(header('referrer-policy'), 'same-origin', where);
    assert.equal(header('cross-origin-opener-policy'), 'same-origin', where);
    const script = /src="\.\/(static\/[^"]+)"/.exec(await answer.text())[1];
    const file = await fetch(new URL(script, url));
    assert.equal(file.headers.get('x-content-type-options'), 'nosniff', where);
    assert.match(file.headers.get('content-type'), /^text\/javascript/, where);
  }
});

test('a page cannot reach another host, whatever runs in it', async () => {
  const { page, close } = await open(world.browser, at(world.stack.base, 'flags'));
  const other = at(world.receiver, 'api/v1/status/tenants');
  assert.equal((await fetch(other)).status, 200, 'it could be reached');
  const said = await page.evaluate(async (url) => {
    const refused = new Promise((r) => document.addEventListener('securitypolicyviolation', (e) => r(e.effectiveDirective)));
    const got = await fetch(url, { mode: 'no-cors' }).then(() => 'an answer', () => 'refused');
    return [got, await refused];
  }, other);
  assert.deepEqual(said, ['refused', 'connect-src']);
  await close();
});

const evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>\'`${alert(3)}';

// poisoned puts markup into every text of an answer but times and numbers, and adds a label to every set of them.
function poisoned(value, key = '') {
  if (typeof value === 'string') {
    return Number.isFinite(Date.parse(value)) || value === '' || Number.isFinite(Number(value)) ? value : value + evil;
  }
  if (Array.isArray(value)) {
    return value.map((v) => poisoned(v, key));
  }
  if (value !== null && typeof value === 'object') {
    const out = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, poisoned(v, k)]));
    return /labels|annotations|metric/i.test(key) ? { ...out, [evil]: evil } : out;
  }
  return value;
}

test('nothing that a service answers becomes markup, on any page', async () => {
  const { page, problems, to, close } = await open(world.browser, at(world.stack.base, 'flags'));
  let answers = 0;
  await page.route('**/api/v1/**', async (route) => {
    const response = await route.fetch();
    const body = await response.json().catch(() => null);
    if (body?.data === undefined) {
      await route.fulfill({ response });
      return;
    }
    answers++;
    await route.fulfill({ response, json: { ...body, data: poisoned(body.data), warnings: [evil], infos: [evil] } });
  });
  page.on('dialog', (d) => { problems.push(`a dialog: ${d.message()}`); void d.dismiss(); });
  for (const [service, name, url] of allPages()) {
    answers = 0;
    await to(url);
    await until('an answer', async () => answers > 0);
    await settle(page);
    const where = `${service} ${name}`;
    assert.equal(await page.locator('main img, main script, main iframe, [onerror], [onclick]').count(), 0, where);
    assert.equal(await page.locator('text=This page has failed').count(), 0, where);
    assert.deepEqual(problems, [], where);
  }
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await close();
});

test('labels of a query are text in the table and in the graph', async () => {
  const { page, problems, close } = await open(world.browser, graph({ 'g0.expr': `label_replace(vector(1), "evil", ${JSON.stringify(evil)}, "", "")`, 'g0.tab': '1' }));
  page.on('dialog', () => problems.push('a dialog'));
  assert.equal(await seriesCount(page), 1);
  assert.ok((await page.textContent('.values')).includes('onerror=alert(1)'));
  await page.getByRole('button', { name: 'Graph', exact: true }).click();
  await page.waitForSelector('.legend button');
  assert.ok((await page.textContent('.legend')).includes('onerror=alert(1)'));
  assert.equal(await page.locator('main img, main script').count(), 0);
  assert.deepEqual(problems, []);
  await close();
});

test('behind a proxy that takes a path off, all links, calls and redirects stay below that path', async () => {
  const { querier } = await loneStore();
  const { base, asked } = await proxy(querier, '/tools/metrics');
  const { page, problems, close } = await open(world.browser, `${base}/tools/metrics/`);
  assert.equal(new URL(page.url()).pathname, '/tools/metrics/graph');
  await page.click('.cm-content');
  await page.keyboard.type('count(http_requests_total)');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Enter');
  await seriesCount(page);
  for (const name of ['Stores', 'Flags', 'Status', 'Query']) {
    await page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
    await settle(page);
  }
  await page.goBack();
  await page.waitForSelector('h1:has-text("Status")');
  await page.reload();
  await page.waitForSelector('h1:has-text("Status")');
  assert.deepEqual(problems, []);
  assert.ok(asked.some((p) => p.startsWith('/tools/metrics/api/v1/query')), 'the query went through the proxy');
  assert.deepEqual(asked.filter((p) => !p.startsWith('/tools/metrics/')), []);
  await close();
  for (const header of ['//evil.example', '/"><script>alert(1)</script>', 'https://evil.example/']) {
    const answer = await fetch(querier + '/', { headers: { 'X-Forwarded-Prefix': header }, redirect: 'manual' });
    assert.doesNotMatch(answer.headers.get('location'), /^(\/\/|https?:)|[<>"]/, header);
    const document = await fetch(querier + '/graph', { headers: { 'X-Forwarded-Prefix': header } }).then((r) => r.text());
    assert.ok(!document.includes('evil') && !document.includes('alert(1)'), header);
  }
});

const focused = (page) => page.evaluate(() => {
  const e = document.activeElement;
  return (e.getAttribute('aria-label') ?? e.id) || e.textContent;
});

test('pages are used by keyboard alone: in order, Enter acts, Escape leaves', async () => {
  const { page, problems, close } = await open(world.browser, at(world.stack.base, 'flags'));
  await settle(page);
  const order = [];
  for (let i = 0; i < 13; i++) {
    await page.keyboard.press('Tab');
    order.push(await focused(page));
  }
  assert.deepEqual(order.slice(0, 12), ['Skip to the content', 'Query', 'Stores', 'Alerts', 'Rules', 'Targets', 'TSDB', 'Running', 'Flags', 'Status', 'UTC', 'theme']);
  assert.equal(await page.evaluate(() => document.activeElement.type), 'search', 'then the page begins');
  assert.ok(await page.evaluate(() => document.activeElement.matches(':focus-visible')), 'where one is can be seen');
  await page.goto(at(world.stack.base, 'graph'));
  await page.waitForSelector('.cm-content');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  assert.ok(await page.evaluate(() => document.activeElement.classList.contains('cm-content')), 'skipping leads to the editor');
  await page.keyboard.type('http_requ', { delay: 15 });
  await page.waitForSelector('.cm-tooltip-autocomplete');
  await page.keyboard.press('Escape');
  await page.waitForSelector('.cm-tooltip-autocomplete', { state: 'detached' });
  await page.keyboard.press('Control+A');
  await page.keyboard.type('up ', { delay: 15 });
  await page.keyboard.press('Escape');
  await page.keyboard.press('Enter');
  assert.ok((await seriesCount(page)) > 1, 'Enter runs the query');
  await page.keyboard.press('Tab');
  assert.equal(await focused(page), 'Run', 'the editor lets go of the focus');
  await page.keyboard.press('Shift+Tab');
  assert.ok(await page.evaluate(() => document.activeElement.classList.contains('cm-content')));
  assert.deepEqual(problems, []);
  await close();
});
