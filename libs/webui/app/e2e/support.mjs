// What the browser tests share: a Chromium, a wait, a check of accessibility, and screenshots.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const flags = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags });
}

// open opens a page that remembers every error in its console and every request to another host. `to` leads the same page on.
export async function open(browser, url, { dark = false, width = 1280, height = 800 } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', timezoneId: 'UTC' });
  const page = await context.newPage();
  const problems = [];
  let host = new URL(url).host;
  page.on('pageerror', (e) => problems.push(`error: ${e.message}`));
  page.on('console', (m) => {
    // An answer of 4xx or 5xx is logged by the browser and shown by the page.
    if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) {
      problems.push(`console: ${m.text()}`);
    }
  });
  page.on('request', (r) => {
    if (new URL(r.url()).host !== host && !r.url().startsWith('data:')) {
      problems.push(`another host: ${r.url()}`);
    }
  });
  const to = async (next) => {
    host = new URL(next).host;
    problems.length = 0;
    await page.goto(next);
    await page.waitForSelector('main');
  };
  await to(url);
  return { page, problems, to, close: () => context.close() };
}

const quiet = () => !/Loading…|Reading the index…/.test(document.querySelector('main')?.textContent ?? 'Loading…') && !document.querySelector('[data-running="true"]');

// settle waits until nothing says that it loads, and two frames later still nothing does: what a part asks for when it
// appears it asks for a moment later.
export async function settle(page) {
  const wait = () => page.waitForFunction(quiet, null, { timeout: 30_000 }).catch(async (err) => {
    throw new Error(`${page.url()} does not settle: ${await page.textContent('main')}`, { cause: err });
  });
  await wait();
  await page.evaluate(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r)))));
  await wait();
}

// accessibility returns what axe finds that is serious or worse. The policy of the pages lets no test bring a script in by
// a tag, so it is evaluated.
export async function accessibility(page) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
    .map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(' | ')} ${v.nodes[0]?.any?.[0]?.message ?? ''}`);
}

// shot keeps a picture of the page, where SCREENSHOTS names a folder.
export async function shot(page, name) {
  const dir = process.env.SCREENSHOTS;
  if (dir) {
    const file = join(dir, name + '.png');
    mkdirSync(dirname(file), { recursive: true });
    const { shrink } = await import('./png.mjs');
    writeFileSync(file, shrink(await page.screenshot()));
  }
}
