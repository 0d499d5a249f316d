// The page while it is served: it goes on with its run, loses nothing that the reader has in hand, and stays as safe as the report.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { HOSTILE, writeRun } from './fixtures.mjs';
import { accessibility, launch, open, scratch, screenshot, skip, watch } from './support.mjs';

/** Holds a run's lock as a writing process does, until it is let go. */
async function locked(run) {
  const holder = spawn('flock', ['--exclusive', join(run, '.lock'), 'sh', '-c', 'echo held; sleep 120'], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  return () => { try { process.kill(-holder.pid); } catch { /* it has ended */ } };
}

/** Takes steps away from a whole run, to be put back one by one as a run that goes on would write them. */
function cutBack(run, from) {
  const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const file = (step) => join(run, 'episodes', `step-${String(step).padStart(6, '0')}.jsonl`);
  const held = lines.slice(from).map((line, at) => ({ line, file: file(from + at + 1), episodes: readFileSync(file(from + at + 1)) }));
  held.forEach((step) => rmSync(step.file));
  writeFileSync(join(run, 'metrics.jsonl'), lines.slice(0, from).map((line) => `${line}\n`).join(''));
  return held.map((step) => () => { writeFileSync(step.file, step.episodes); appendFileSync(join(run, 'metrics.jsonl'), `${step.line}\n`); });
}

describe('mmhost watch in a browser', { skip }, () => {
  let browser;
  const { dir, done } = scratch();
  before(async () => { browser = await launch(); });
  after(async () => { await browser?.close(); done(); });
  const text = (page, selector) => page.locator(selector).first().innerText();

  it('goes on with a run until it has finished, and keeps what the reader has in hand', async () => {
    const run = writeRun(dir, { name: 'going', steps: 12, finished: false });
    writeFileSync(join(run, 'run.toml'), readFileSync(join(run, 'run.toml'), 'utf8').replace('steps = 24', 'steps = 12'));
    const [next, ...rest] = cutBack(run, 5);
    const letGo = await locked(run);
    const server = await watch(run);
    try {
      const { page, faults, close } = await open(browser, server.url);
      assert.match(await text(page, 'header'), /running · step 5 of 12/);
      assert.match(await text(page, '.connection'), /Live/);
      assert.match(await text(page, '#training'), /Reward/);
      const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
      console.log(`watch: first paint ${paint.toFixed(0)} ms`);
      // The reader: an episode as tokens, a search, an opened table, a chosen class, a scrolled page.
      await page.locator('.row').nth(2).click();
      await page.getByRole('button', { name: 'Tokens' }).click();
      await page.getByLabel('Class').first().selectOption({ index: 1 });
      await page.locator('#training details.figures summary').first().click();
      await page.getByRole('searchbox').fill('capital');
      await page.waitForTimeout(300);
      await page.evaluate(() => { globalThis.__canvas = document.querySelector('#training canvas'); });
      const before = { heading: await text(page, '.pane h3'), status: await text(page, '.status'), top: await page.locator('.pane').evaluate((pane) => pane.getBoundingClientRect().top) };
      next();
      await page.getByText('running · step 6 of 12').waitFor({ timeout: 45000 });
      await page.getByText('232 episodes', { exact: true }).waitFor();
      assert.equal(await text(page, '.pane h3'), before.heading, 'the open episode stays');
      assert.match(page.url(), /tab=tokens/);
      assert.equal(await page.getByRole('searchbox').inputValue(), 'capital');
      assert.ok(await page.getByRole('searchbox').evaluate((box) => box === document.activeElement), 'and keeps the focus');
      assert.notEqual(await text(page, '.status'), before.status, 'the list has grown');
      assert.ok(Math.abs(await page.locator('.pane').evaluate((pane) => pane.getBoundingClientRect().top) - before.top) < 3, 'nothing jumps');
      assert.ok(await page.locator('#training details.figures').first().evaluate((details) => details.open), 'the opened table stays open');
      assert.match(await page.locator('#training details.figures table').first().innerText(), /\n6\t/, 'and has the new step');
      assert.ok(await page.evaluate(() => globalThis.__canvas.isConnected), 'the drawing goes on where it stood');
      await screenshot(page, 'watch-running');
      rest.forEach((step) => step());
      const whole = writeRun(dir, { name: 'whole-for-summary' });
      renameSync(join(whole, 'summary.json'), join(run, 'summary.json'));
      letGo();
      await page.getByText('finished · 12 steps').waitFor({ timeout: 45000 });
      assert.match(await text(page, '#summary'), /92\.0.%/);
      assert.equal(await page.locator('.notice').count(), 0, 'nothing is missing any more');
      await page.evaluate(() => scrollTo(0, 0));
      await screenshot(page, 'watch-finished');
      await close();
      assert.deepEqual(faults, []);
    } finally {
      letGo();
      await server.end();
    }
  });

  it('waits for a run that has not begun, and shows one that crashed', async () => {
    const run = join(dir, 'not-yet');
    mkdirSync(run);
    const server = await watch(run);
    try {
      const { page, faults, close } = await open(browser, server.url);
      assert.match(await text(page, 'header'), /nothing recorded yet/);
      assert.match(await text(page, '#episodes'), /There is no episode to show/);
      await screenshot(page, 'watch-empty');
      const made = writeRun(dir, { name: 'made', finished: false });
      appendFileSync(join(made, 'metrics.jsonl'), '{"step":13,"rew');
      writeFileSync(join(made, 'base.json'), '{"direct":');
      for (const name of ['episodes', 'checkpoints', 'base.json', 'metrics.jsonl', 'run.toml']) renameSync(join(made, name), join(run, name));
      await page.getByText('stopped early · step 12 of 24').waitFor({ timeout: 45000 });
      const missing = await text(page, '.notice');
      assert.match(missing, /metrics\.jsonl line 13 was not written to its end/);
      assert.match(missing, /base\.json is damaged/);
      await page.locator('.row').first().click();
      await page.locator('.conversation img').first().waitFor();
      await screenshot(page, 'watch-crashed');
      await close();
      assert.deepEqual(faults, []);
    } finally {
      await server.end();
    }
  });

  it('keeps hostile text as text, also what comes later', async () => {
    const all = Object.values(HOSTILE).join(' ');
    const run = writeRun(dir, { name: 'hostile-live', steps: 3, finished: false, say: (said) => `${all} ${said}`, text: { category: all } });
    const [later] = cutBack(run, 2);
    const server = await watch(run);
    try {
      const { page, faults, close } = await open(browser, server.url);
      const intact = async (where) => {
        assert.equal(await page.evaluate(() => globalThis.__owned), undefined, where);
        assert.equal(await page.locator('main img[src^="x"], main svg[onload], main script').count(), 0, where);
      };
      await intact('at first');
      later();
      await page.getByText('step 3 of 6').first().waitFor({ timeout: 45000 });
      for (const tab of ['conversation', 'tokens', 'group']) {
        await page.evaluate((name) => { location.hash = `view?from=3&to=3&tab=${name}&episode=0%2F3%2F0%2F1`; }, tab);
        await page.locator(`.choice button[value=${tab}][aria-pressed=true]`).waitFor();
        await page.waitForTimeout(300);
        await intact(tab);
      }
      assert.ok((await text(page, '.pane')).includes('⟨U+202E⟩'));
      await close();
      assert.deepEqual(faults, []);
    } finally {
      await server.end();
    }
  });

  it('says when its server has ended, and goes on when it is back', async () => {
    const run = writeRun(dir, { name: 'back', steps: 4, finished: false });
    const [later] = cutBack(run, 3);
    const first = await watch(run);
    const { page, close } = await open(browser, first.url);
    await first.end();
    await page.getByText('The connection to mmhost watch is lost').waitFor({ timeout: 45000 });
    const second = await watch(run, new URL(first.url).port);
    try {
      later();
      await page.getByText('stopped early · step 4 of 8').waitFor({ timeout: 45000 });
      await page.getByText('Live: what is new appears by itself.').waitFor();
      await close();
    } finally {
      await second.end();
    }
  });

  it('lists the episodes on which rewards disagree, in the served page as in the report', async () => {
    const run = writeRun(dir, { name: 'judged', steps: 2 });
    const episodes = readFileSync(join(run, 'episodes', 'step-000001.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
    const lines = episodes.map(({ id, reward }, at) => {
      const total = reward.scored?.total ?? null;
      const other = at === 0 ? (total >= 0.5 ? 0 : 1) : total ?? 0;
      return JSON.stringify({ id, stored: total, reward: { scored: { total: other, components: [['accuracy', Math.round(other)], ['<b>f1', other]] } } });
    });
    mkdirSync(join(run, 'scores'));
    writeFileSync(join(run, 'scores', 'strict.jsonl'), [JSON.stringify({ reward: 'strict', digest: 'ab', episodes: lines.length }), ...lines].join('\n'));
    const server = await watch(run);
    try {
      const { page, faults, close } = await open(browser, server.url, { axe: true });
      assert.match(await text(page, '#rewards'), /strict/);
      assert.match(await text(page, '.notice'), /scores\/strict\.jsonl tells nothing of \d+ episode/);
      await page.getByLabel('Other rewards').selectOption('0:outcome');
      await page.getByText(/^1 of \d+ episodes$/).waitFor();
      await page.locator('.row').first().click();
      assert.match(await text(page, '.outcome-box'), /by strict[\s\S]*<b>f1 by strict/);
      await page.locator('details').evaluateAll((all) => all.forEach((one) => { one.open = true; }));
      assert.deepEqual(await accessibility(page), []);
      await screenshot(page, 'watch-rewards');
      await close();
      assert.deepEqual(faults, []);
    } finally {
      await server.end();
    }
  });
});
