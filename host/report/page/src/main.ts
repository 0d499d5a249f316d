// The report's page. Figures and curves stand at once; the episodes are unpacked, or asked for, after the first paint. A page that is
// served goes on with its run.

import { drawAll } from './chart';
import { h } from './dom';
import { frame, selection, viewer } from './episodes/panel';
import { follow, LiveList } from './live';
import { behaviour } from './sections/behaviour';
import { comparison } from './sections/comparison';
import { curves } from './sections/curves';
import { evaluation } from './sections/evaluation';
import { header, problems, Header } from './sections/header';
import { provenance } from './sections/provenance';
import { rewards } from './sections/rewards';
import { search } from './sections/search';
import { summary } from './sections/summary';
import { tools } from './sections/tools';
import { exchange, holdStill } from './still';
import { startTheme } from './theme';
import type { PageData } from './types';

const data = JSON.parse(document.getElementById('report-data')?.textContent ?? '{}') as PageData;
const theme = startTheme(() => {
  document.querySelectorAll('details').forEach((details) => { if (!details.classList.contains('figures')) details.open = true; });
  drawAll();
});
const SECTIONS: ((data: PageData) => HTMLElement | null)[] = [problems, summary, evaluation, comparison, rewards, curves, search, behaviour, tools, frame, provenance];
const main = h('main', { id: 'main' });
// A part that is not there yet keeps its place.
const places: ChildNode[] = SECTIONS.map((section) => section(data) ?? document.createComment(''));
main.append(...places);
const head: Header = header(data, links(), theme);
document.body.append(h('a', { class: 'skip', href: '#main' }, 'To the report'), head.element, main);

function links(): [id: string, title: string][] {
  return places.flatMap((place): [string, string][] => (place instanceof HTMLElement && place.id !== '' ? [[place.id, place.querySelector('h2')?.textContent ?? place.id]] : []));
}

/** Once the rest of the page has been read, and what stands has been painted. */
function afterPaint(then: () => void): void {
  const later = (): void => void requestAnimationFrame(() => setTimeout(then, 0));
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', later);
  else later();
}

/** Takes in what is new; what the reader looks at, has opened or has in hand stays. */
async function take(fresh: PageData, list: LiveList): Promise<void> {
  const store = await list.upTo(fresh);
  holdStill(() => {
    SECTIONS.forEach((section, at) => {
      const place = places[at];
      if (place === undefined || section === frame) return;
      const made = section(fresh) ?? document.createComment('');
      places[at] = exchange(place, made);
    });
    head.update(fresh, links());
    const lead = document.querySelector('#episodes > .lead');
    if (lead !== null) lead.textContent = selection(fresh);
    void viewer(fresh, Promise.resolve(store));
  });
}

afterPaint(() => {
  const ready = (): void => document.documentElement.setAttribute('data-ready', '');
  if (data.live === null) {
    void viewer(data).then(ready);
    return;
  }
  const list = new LiveList();
  void viewer(data, list.upTo(data)).then(() => {
    ready();
    follow(data, (fresh) => take(fresh, list), head.connection);
  });
});
