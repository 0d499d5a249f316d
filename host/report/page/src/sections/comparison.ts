// Several runs side by side: what they reached, and in what they differ.

import { h, scrollable, section } from '../dom';
import { estimate, mainSplit, metricsOf, selectivity, totalSeconds } from '../figures';
import { count, duration, number, percent, points } from '../format';
import { visible } from '../text';
import type { PageData, Run } from '../types';
import { badge } from './header';

export function comparison(data: PageData): HTMLElement | null {
  if (data.runs.length < 2) return null;
  const of = (run: Run, workflow: string, split: string, figure: string): number | null =>
    estimate(metricsOf(run.summary.trained, workflow, split), figure)?.value ?? null;
  const figures: [string, (run: Run) => number | null, (value: number) => string][] = [
    ['steps', (run) => run.steps.at(-1) ?? 0, count],
    ['accuracy on demand, base', (run) => estimate(metricsOf(run.summary.base, 'on_demand', mainSplit(run)), 'accuracy')?.value ?? null, percent],
    ['accuracy on demand, trained', (run) => of(run, 'on_demand', mainSplit(run), 'accuracy'), percent],
    ['accuracy with RAG, trained', (run) => of(run, 'rag', mainSplit(run), 'accuracy'), percent],
    ['accuracy on demand, held out', (run) => of(run, 'on_demand', 'held_out', 'accuracy'), percent],
    ['searches per question', (run) => of(run, 'on_demand', mainSplit(run), 'searches_per_question'), (value) => value.toFixed(2)],
    ['image search: required − not needed', (run) => selectivity(run.summary.trained, mainSplit(run)), points],
    ['last reward', (run) => run.columns['reward']?.at(-1) ?? null, number],
    ['last KL', (run) => run.columns['kl']?.at(-1) ?? null, number],
    ['time', totalSeconds, (value) => duration(value)],
  ];
  const several = data.seeds_only;
  const rows = figures.map(([name, value, show]) => {
    const values = data.runs.map(value);
    const there = values.filter((v): v is number => v !== null);
    const mean = there.reduce((a, b) => a + b, 0) / there.length;
    const deviation = Math.sqrt(there.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, there.length - 1));
    return h('tr', {}, h('th', { scope: 'row' }, name), values.map((v) => h('td', {}, v === null ? '–' : show(v))),
      several ? h('td', {}, there.length === 0 ? '–' : [show(mean), h('span', { class: 'faint' }, there.length < 2 ? '' : ` ± ${show(deviation).replace('+', '')}`)]) : null);
  });
  return section('comparison', 'Comparison',
    several ? 'The runs differ in their seed only.' : 'What the runs reached, and every setting in which they differ.',
    scrollable('Figures of the runs', h('table', {},
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'run'), data.runs.map((run) => h('th', { scope: 'col' }, visible(run.name))), several ? h('th', { scope: 'col' }, 'mean ± deviation') : null)),
      h('tbody', {}, h('tr', {}, h('th', { scope: 'row' }, 'state'), data.runs.map((run) => h('td', {}, badge(run))), several ? h('td', {}) : null), rows))),
    data.differences.length === 0 ? h('p', {}, 'Configurations, plugins and versions are the same.')
      : scrollable('Differences of the configurations', h('table', { class: 'differences' },
        h('caption', {}, 'Settings that differ'),
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'setting'), data.runs.map((run) => h('th', { scope: 'col' }, visible(run.name))))),
        h('tbody', {}, data.differences.map(({ key, values }) => h('tr', {}, h('th', { scope: 'row' }, h('code', {}, visible(key))),
          values.map((value) => h('td', {}, value === null ? h('span', { class: 'faint' }, 'not set') : h('code', {}, visible(value.length === 64 ? value.slice(0, 12) : value))))))))));
}
