// A browser, and reports made by the built program. Where no Chromium is installed the tests are skipped with a line that says so;
// with REQUIRE_BROWSER=1 they fail instead.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
const PROGRAM = process.env.MMHOST_BIN ?? join(target, 'release', 'mmhost');
const BROWSERS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const browserPath = BROWSERS.find((path) => path !== undefined && path !== '' && existsSync(path));

/** Why the tests cannot run here; false where they can. */
export const skip = browserPath === undefined ? 'no Chromium here: apt-get install chromium, or set CHROMIUM to its path' : false;
if (skip !== false && process.env.REQUIRE_BROWSER === '1') throw new Error(skip);

/** A scratch folder; `done` removes it. */
export function scratch() {
  const dir = mkdtempSync(join(tmpdir(), 'mmhost-report-'));
  return { dir, done: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Makes the report of some runs; returns its path. */
export function report(dir, runs, ...options) {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not built; run \`cargo build --release\` first, or set MMHOST_BIN`);
  const out = join(dir, `report-${Math.random().toString(36).slice(2)}.html`);
  execFileSync(PROGRAM, ['report', ...runs, '--out', out, ...options], { stdio: 'pipe' });
  return out;
}

/** Serves a run; returns the address and what ends it. */
export async function watch(run, port = '0') {
  const server = spawn(PROGRAM, ['watch', run, '--port', port], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => server.once('exit', resolve));
  const url = await new Promise((resolve, reject) => {
    server.stdout.once('data', (line) => resolve(String(line).trim()));
    server.once('exit', (code) => reject(new Error(`mmhost watch ended with ${code}`)));
  });
  return { url, pid: server.pid, end: async () => { server.kill('SIGINT'); await ended; } };
}

export const launch = () => chromium.launch({ executablePath: browserPath, args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'] });

/** Opens a report, or the address of a served one, in a page of its own. `faults` gathers what must never happen: errors, policy violations, requests to anywhere. */
export async function open(browser, file, { hash = '', scheme = 'light', axe = false, width = 1400, height = 950 } = {}) {
  // axe brings its own script, which the page's policy would not let in.
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, bypassCSP: axe });
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('console', (message) => { if (message.type() === 'error') faults.push(`console: ${message.text()}`); });
  const served = file.startsWith('http:') ? file : 'file:';
  page.on('request', (request) => { if (!request.url().startsWith(served) && !/^(data|blob):/.test(request.url())) faults.push(`request: ${request.url()}`); });
  page.on('dialog', (dialog) => { faults.push(`dialog: ${dialog.message()}`); void dialog.dismiss(); });
  await page.goto(`${file.startsWith('http:') ? file : `file://${file}`}${hash}`);
  await page.waitForSelector('html[data-ready]');
  return { page, faults, close: () => context.close() };
}

/** What axe finds wrong, as lines. */
export async function accessibility(page) {
  const source = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.length}): ${nodes[0].html.slice(0, 160)} ${nodes[0].failureSummary.slice(0, 300)}`);
}

/** Keeps a picture where SCREENSHOTS names a folder. */
export async function screenshot(page, name) {
  const dir = process.env.SCREENSHOTS;
  if (dir === undefined) return;
  mkdirSync(dir, { recursive: true });
  await page.screenshot({ path: join(dir, `${name}.png`) });
}
