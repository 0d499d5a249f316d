// The page in a real browser: what it shows of runs in every state, that hostile text stays text, that it is fast and accessible.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { HOSTILE, writeRun } from './fixtures.mjs';
import { accessibility, launch, open, report, scratch, screenshot, skip } from './support.mjs';

describe('the report in a browser', { skip }, () => {
  let browser;
  const { dir, done } = scratch();
  before(async () => { browser = await launch(); });
  after(async () => { await browser?.close(); done(); });

  const text = (page, selector) => page.locator(selector).first().innerText();

  it('shows a whole run', async () => {
    const { page, faults, close } = await open(browser, report(dir, [writeRun(dir, { name: 'whole' })]));
    assert.match(await text(page, 'header'), /whole[\s\S]*finished/);
    assert.match(await text(page, '#summary'), /36\.0.%[\s\S]*92\.0.%/);
    assert.equal(await page.locator('.notice').count(), 0, 'nothing is missing');
    assert.match(await text(page, '#tools'), /image-search/);
    assert.match(await text(page, '#provenance'), /abab/);
    const charts = page.locator('#training .chart');
    assert.ok(await charts.count() >= 5);
    assert.match(await charts.first().locator('[role=img]').getAttribute('aria-label'), /Reward, steps 1 to 12\. reward: from 0\.\d+ to 0\.\d+/);
    await screenshot(page, 'whole');
    await close();
    assert.deepEqual(faults, []);
  });

  it('shows an empty run', async () => {
    const run = join(dir, 'empty');
    mkdirSync(run);
    writeFileSync(join(run, 'run.toml'), 'seed = 3\n');
    const { page, faults, close } = await open(browser, report(dir, [run]));
    assert.match(await text(page, 'header'), /nothing recorded yet/);
    assert.match(await text(page, '.notice'), /neither an evaluation nor a step[\s\S]*no folder of episodes/);
    assert.match(await text(page, '#episodes'), /There is no episode to show/);
    await screenshot(page, 'empty');
    await close();
    assert.deepEqual(faults, []);
  });

  it('shows a run that is going on', async () => {
    const run = writeRun(dir, { name: 'running', finished: false });
    // The program locks a run with flock while it writes to it.
    const holder = spawn('flock', ['--exclusive', join(run, '.lock'), 'sh', '-c', 'echo held; sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    try {
      const { page, faults, close } = await open(browser, report(dir, [run]));
      assert.match(await text(page, 'header'), /running · step 12 of 24/);
      assert.match(await text(page, '.notice'), /going on/);
      await screenshot(page, 'running');
      await close();
      assert.deepEqual(faults, []);
    } finally {
      process.kill(-holder.pid);
    }
  });

  it('shows a run that crashed while it wrote', async () => {
    const run = writeRun(dir, { name: 'crashed', finished: false });
    appendFileSync(join(run, 'metrics.jsonl'), '{"step":13,"rew');
    appendFileSync(join(run, 'episodes', 'step-000012.jsonl'), '{"id":"step=12/group=9/rollout=0","tok');
    appendFileSync(join(run, 'episodes', 'step-000011.jsonl'), '{"id":7}\n');
    writeFileSync(join(run, 'base.json'), '{"direct":');
    rmSync(join(run, 'checkpoints'), { recursive: true });
    const { page, faults, close } = await open(browser, report(dir, [run]), { hash: '#view?tab=tokens' });
    assert.match(await text(page, 'header'), /stopped early · step 12 of 24/);
    const missing = await text(page, '.notice');
    for (const expected of [/metrics\.jsonl line 13 was not written to its end/, /step-000012\.jsonl line 33 was not written/, /step-000011\.jsonl line 33 is damaged/, /base\.json is damaged/, /tokens are shown by number/]) {
      assert.match(missing, expected);
    }
    assert.match(await text(page, '.tokens'), /\[0\]/);
    await screenshot(page, 'crashed');
    await close();
    assert.deepEqual(faults, []);
  });

  it('draws seeds as a mean and a band, and tells in what other runs differ', async () => {
    const runs = [0, 1, 2].map((seed) => writeRun(dir, { name: `seed-${seed}`, seed }));
    const seeds = await open(browser, report(dir, runs));
    assert.match(await text(seeds.page, '#training'), /mean of 3 seeds/);
    assert.match(await text(seeds.page, '#comparison'), /±/);
    await seeds.close();
    const other = writeRun(dir, { name: 'other', text: { config: '\n[grpo]\nkl = 0.5\n' } });
    const both = await open(browser, report(dir, [runs[0], other]));
    assert.match(await text(both.page, '#comparison'), /grpo\.kl\s+not set\s+0\.5/);
    assert.match(await text(both.page, '#training'), /seed-0[\s\S]*other/);
    await both.close();
    assert.deepEqual([...seeds.faults, ...both.faults], []);
  });

  it('keeps hostile text as text', async () => {
    const all = Object.values(HOSTILE).join(' ');
    const run = writeRun(dir, { name: '<b onclick=alert(1)>hostile', steps: 2, say: (said) => `${all} ${said}`, text: { category: all } });
    const huge = { id: 'step=3/group=0/rollout=0', question: 'x'.repeat(300_000), turns: [{ start: 0, end: 1, text: '<answer>'.repeat(50_000) }], calls: [{ tool: all, result: HOSTILE.script.repeat(20_000), ok: true }], image_digests: ['../../../etc/passwd', '"><script>'] };
    writeFileSync(join(run, 'episodes', 'step-000003.jsonl'), `${JSON.stringify(huge)}\n`);
    const file = report(dir, [run]);
    const { page, faults, close } = await open(browser, file);
    const intact = async (where) => {
      assert.equal(await page.evaluate(() => globalThis.__owned), undefined, where);
      assert.equal(await page.locator('main img[src^="x"], main svg[onload], main script, header b').count(), 0, where);
    };
    await intact('at first');
    for (const tab of ['conversation', 'tokens', 'group']) {
      await page.evaluate((name) => { location.hash = `view?q=capital&tab=${name}`; }, tab);
      await page.locator(`.choice button[value=${tab}][aria-pressed=true]`).waitFor();
      await page.waitForTimeout(200);
      await intact(tab);
    }
    assert.ok((await text(page, '.pane')).includes('⟨U+202E⟩'), 'what turns text around is written out');
    assert.ok((await text(page, '.pane')).includes('</script><script>window.__owned = 1</script>'));
    await page.evaluate(() => { location.hash = 'view?from=3&to=3&episode=0%2F3%2F0%2F0'; });
    await page.getByRole('heading', { name: 'step 3, group 0, rollout 0' }).waitFor();
    await page.locator('button.more').first().click();
    await intact('very long text');
    await screenshot(page, 'hostile');
    await close();
    assert.deepEqual(faults, []);
  });

  it('restores a view from its link, and filters', async () => {
    const file = report(dir, [writeRun(dir, { name: 'links' })]);
    const { page, faults, close } = await open(browser, file, { hash: '#view?outcome=wrong&class=search_free&tab=group&episode=0%2F2%2F0%2F1' });
    assert.equal(await page.getByLabel('Outcome').inputValue(), 'wrong');
    assert.match(await text(page, '.pane h3'), /step 2, group 0, rollout 1/);
    assert.equal(await page.locator('.card').count(), 8, 'the whole group side by side');
    const status = await text(page, '.status');
    assert.match(status, /\d+ of 464 episodes/);
    await page.getByRole('searchbox').fill('no such words');
    await page.getByText('0 of 464 episodes').waitFor();
    assert.match(page.url(), /q=no\+such\+words/);
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.getByText('464 episodes', { exact: true }).waitFor();
    await page.getByLabel('Worth a look').selectOption('tool-failed');
    const failed = Number((await text(page, '.status')).split(' ')[0]);
    assert.ok(failed > 0 && failed < 40, `${failed}`);
    await page.getByRole('button', { name: 'Tokens' }).click();
    await page.getByRole('button', { name: 'Advantage' }).click();
    assert.match(page.url(), /tab=tokens.*shade=advantage/);
    await close();
    assert.deepEqual(faults, []);
  });

  it('works by keyboard', async () => {
    const { page, faults, close } = await open(browser, report(dir, [writeRun(dir, { name: 'keys' })]));
    await page.getByRole('listbox').focus();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('End');
    await page.locator('[role=option][aria-selected=true][aria-posinset="464"]').waitFor();
    await page.keyboard.press('Home');
    await page.keyboard.press('j');
    await page.locator('[role=option][aria-selected=true][aria-posinset="2"]').waitFor();
    await page.getByRole('button', { name: 'Tokens' }).press('Enter');
    await page.locator('.tokens').focus();
    await page.keyboard.press('ArrowRight');
    assert.match(await text(page, '.readout'), /sampled, log-probability/);
    await close();
    assert.deepEqual(faults, []);
  });

  it('has no accessibility violations in light and dark', async () => {
    const file = report(dir, [writeRun(dir, { name: 'accessible' })]);
    const several = report(dir, [writeRun(dir, { name: 'accessible-2', seed: 2, finished: false }), join(dir, 'accessible')]);
    for (const scheme of ['light', 'dark']) {
      for (const [path, hash] of [[file, ''], [file, '#view?tab=tokens'], [file, '#view?tab=tokens&shade=advantage&outcome=wrong'], [file, '#view?tab=group'], [several, '']]) {
        const { page, close } = await open(browser, path, { scheme, hash, axe: true });
        await page.locator('details').evaluateAll((all) => all.forEach((one) => { one.open = true; }));
        assert.deepEqual(await accessibility(page), [], `${scheme} ${hash}`);
        await screenshot(page, `accessible-${scheme}${hash.replace(/\W+/g, '-')}`);
        await close();
      }
    }
  });

  it('is painted and searched at once at 10,000 episodes', async () => {
    const run = writeRun(dir, { name: 'huge', steps: 150, groups: 8, rollouts: 8, questions: 200 });
    const file = report(dir, [run]);
    assert.ok(statSync(file).size < 10e6, `${statSync(file).size} bytes`);
    // The first start of a browser is its own.
    await (await open(browser, file)).close();
    const { page, faults, close } = await open(browser, file);
    const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
    console.log(`first paint ${paint.toFixed(0)} ms, ${(statSync(file).size / 1e6).toFixed(1)} MB`);
    // Both limits are loose: test machines are shared. A page that waited for its episodes would take longer still.
    assert.ok(paint <= 5000, `first paint after ${paint} ms`);
    assert.match(await text(page, '.status'), /10,\d\d\d|9,\d\d\d/);
    assert.ok(await page.locator('.row').count() < 60, 'only the rows in sight are in the page');
    const time = await page.evaluate(async () => {
      const input = document.querySelector('input[type=search]');
      const start = performance.now();
      input.value = 'paris unsure';
      input.dispatchEvent(new Event('input'));
      await new Promise((resolve) => { const observer = new MutationObserver(() => { observer.disconnect(); resolve(); }); observer.observe(document.querySelector('.status'), { childList: true }); });
      return performance.now() - start;
    });
    assert.ok(time < 5000, `the search took ${time} ms`);
    await page.locator('.rows').evaluate((box) => { box.scrollTop = box.scrollHeight; });
    await page.waitForTimeout(200);
    assert.ok(await page.locator('.row').count() > 5);
    await screenshot(page, 'huge');
    await close();
    assert.deepEqual(faults, []);
  });

  it('prints, with every chart, in light', async () => {
    const { page, faults, close } = await open(browser, report(dir, [writeRun(dir, { name: 'print' })]), { scheme: 'dark' });
    const pdf = await page.pdf({ format: 'A4' });
    assert.ok(pdf.length > 50_000 && pdf.length < 5e6, `${pdf.length} bytes`);
    const blank = await page.locator('.chart .plot:not(:has(canvas))').count();
    assert.equal(blank, 0, 'charts without a drawing');
    await page.emulateMedia({ media: 'print' });
    await page.setViewportSize({ width: 760, height: 1000 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 760, `${wide} pixels wide on a sheet of 760`);
    await close();
    assert.deepEqual(faults, []);
  });

  it('fits a narrow screen', async () => {
    const { page, faults, close } = await open(browser, report(dir, [writeRun(dir, { name: 'narrow' })]), { width: 390, height: 800 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 390, `${wide} pixels wide`);
    await screenshot(page, 'narrow');
    await close();
    assert.deepEqual(faults, []);
  });
});
