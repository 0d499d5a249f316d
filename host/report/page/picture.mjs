// Makes the picture of docs/report.md from a real run:
//
//   node picture.mjs ../../../runs/latest ../../../docs/report.png
//
// The run's own report.html is opened in Chromium; the top of the page and the viewer are drawn one below the other.

import { join, resolve } from 'node:path';
import { existsSync, writeFileSync } from 'node:fs';
import { withPalette } from './palette.mjs';
import { launch, open } from './test/support.mjs';

const [run, out] = process.argv.slice(2);
if (run === undefined || out === undefined) {
  console.error('usage: node picture.mjs RUN OUT.png');
  process.exit(2);
}
const file = resolve(join(run, 'report.html'));
if (!existsSync(file)) {
  console.error(`${file} is not there; make it with \`mmhost report ${run}\``);
  process.exit(3);
}
const browser = await launch();
const { page, faults } = await open(browser, file, { width: 1280, height: 1500, hash: '#view?from=200&tools=image-search+%2B+text-search&class=both_required' });
// What a reader sees by scrolling, in one picture: the summary, three curves, the search by class, and an episode.
await page.evaluate(() => {
  document.querySelectorAll('.made, nav, .choice[aria-label=Colours], #evaluation, #comparison, #behaviour, #tools, #provenance, details, #training .controls, .lead, .filters, .tile-note').forEach((part) => part.remove());
  document.querySelectorAll('#training .chart').forEach((chart, at) => { if (at > 2) chart.remove(); });
  document.querySelectorAll('.say').forEach((sentence, at) => { if (at > 1) sentence.remove(); });
  document.querySelectorAll('.tile').forEach((tile, at) => { if (at > 3) tile.remove(); });
  document.querySelectorAll('section').forEach((part) => { part.style.marginTop = '1.2rem'; });
  document.querySelector('.viewer').style.height = '400px';
  document.querySelector('.viewer').style.minHeight = '0';
  scrollTo(0, 0);
});
await page.waitForTimeout(1500);
const height = await page.evaluate(() => Math.ceil(document.body.getBoundingClientRect().height) - 40);
const shot = await page.screenshot({ clip: { x: 0, y: 0, width: 1280, height }, fullPage: true });
writeFileSync(resolve(out), withPalette(shot));
await browser.close();
if (faults.length > 0) {
  console.error(faults.join('\n'));
  process.exit(1);
}
