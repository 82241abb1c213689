// What the browser tests share: a Chromium, a wait, a check of accessibility, and screenshots.
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const flags = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags });
}

// open opens a page that fails the test by any error in its console and any request to another host.
export async function open(browser, url, { dark = false, width = 1280, height = 800 } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', timezoneId: 'UTC' });
  const page = await context.newPage();
  const problems = [];
  page.on('pageerror', (e) => problems.push(`error: ${e.message}`));
  page.on('console', (m) => {
    // An answer of 4xx or 5xx is logged by the browser and shown by the page.
    if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) {
      problems.push(`console: ${m.text()}`);
    }
  });
  page.on('request', (r) => {
    if (new URL(r.url()).host !== new URL(url).host && !r.url().startsWith('data:')) {
      problems.push(`another host: ${r.url()}`);
    }
  });
  await page.goto(url);
  await page.waitForSelector('main');
  return { page, problems, close: () => context.close() };
}

// settle waits until nothing says that it loads.
export async function settle(page) {
  await page.waitForFunction(() => !/Loading…|Reading the index…/.test(document.querySelector('main')?.textContent ?? '') && !document.querySelector('[data-running="true"]'), null, { timeout: 30_000 });
}

// accessibility returns what axe finds that is serious or worse. The policy of the pages lets no test bring a script in by
// a tag, so it is evaluated.
export async function accessibility(page) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
    .map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(' | ')} ${v.nodes[0]?.any?.[0]?.message ?? ''}`);
}

export async function shot(page, name) {
  const dir = process.env.SCREENSHOTS;
  if (dir) {
    mkdirSync(dir, { recursive: true });
    await page.screenshot({ path: join(dir, name + '.png') });
  }
}
