// Other rewards' word on the same episodes, where it was kept.

import { h, scrollable, section } from '../dom';
import { count, number, percent } from '../format';
import { visible } from '../text';
import type { Agreement, PageData } from '../types';

export function rewards(data: PageData): HTMLElement | null {
  const judged = data.runs.flatMap((run) => run.agreements.map((agreement) => ({ run, agreement })));
  if (judged.length === 0) return null;
  const many = data.runs.length > 1;
  const row = (name: string, a: Agreement): HTMLElement => {
    const [both, stored, other, neither] = a.right;
    const agree = a.both === 0 ? null : (both + neither) / a.both;
    return h('tr', {}, h('th', { scope: 'row' }, name),
      h('td', {}, count(a.both)), h('td', {}, percent(agree)), h('td', {}, count(both)), h('td', { class: stored > 0 ? 'bad' : '' }, count(stored)),
      h('td', { class: other > 0 ? 'bad' : '' }, count(other)), h('td', {}, count(neither)), h('td', {}, count(a.differ)),
      h('td', {}, a.both === 0 ? '–' : number(a.stored_mean)), h('td', {}, a.both === 0 ? '–' : number(a.other_mean)),
      h('td', {}, `${count(a.abstained[0])} / ${count(a.abstained[1])}`));
  };
  const heads = ['reward', 'both scored', 'agree', 'both right', 'only stored right', 'only other right', 'both wrong', 'totals differ', 'mean, stored', 'mean, other', 'abstained, stored / other'];
  return section('rewards', 'Rewards', 'What other rewards say of the same episodes (`mmhost score --keep`). Right is an accuracy of at least a half; totals differ from 0.05 on. The filter “Other rewards” lists the episodes.',
    scrollable('Agreement of rewards', h('table', {},
      h('thead', {}, h('tr', {}, heads.map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, judged.map(({ run, agreement }) => row(many ? `${visible(agreement.reward)}, ${visible(run.name)}` : visible(agreement.reward), agreement))))));
}
