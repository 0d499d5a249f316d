// The report's page. Figures and curves stand at once; the episodes are unpacked after the first paint.

import { drawAll } from './chart';
import { h } from './dom';
import { frame, viewer } from './episodes/panel';
import { behaviour } from './sections/behaviour';
import { comparison } from './sections/comparison';
import { curves } from './sections/curves';
import { evaluation } from './sections/evaluation';
import { header, problems } from './sections/header';
import { provenance } from './sections/provenance';
import { search } from './sections/search';
import { summary } from './sections/summary';
import { tools } from './sections/tools';
import { startTheme } from './theme';
import type { PageData } from './types';

const data = JSON.parse(document.getElementById('report-data')?.textContent ?? '{}') as PageData;
const theme = startTheme(() => {
  document.querySelectorAll('details').forEach((details) => { if (!details.classList.contains('figures')) details.open = true; });
  drawAll();
});
const main = h('main', { id: 'main' });
const sections = [summary, evaluation, comparison, curves, search, behaviour, tools, frame, provenance];
const made = sections.map((section) => section(data)).filter((section) => section !== null);
const links = made.map((section): [string, string] => [section.id, section.querySelector('h2')?.textContent ?? section.id]);
const missing = problems(data);
main.append(...(missing === null ? [] : [missing]), ...made);
document.body.append(h('a', { class: 'skip', href: '#main' }, 'To the report'), header(data, links, theme), main);

/** Once the rest of the page has been read, and what stands has been painted. */
function afterPaint(then: () => void): void {
  const later = (): void => void requestAnimationFrame(() => setTimeout(then, 0));
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', later);
  else later();
}

afterPaint(() => void viewer(data).then(() => document.documentElement.setAttribute('data-ready', '')));
