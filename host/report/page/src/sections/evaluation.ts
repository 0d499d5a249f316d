// Before and after: base and trained policy, by workflow and class, with 95 % intervals.

import { h, scrollable, section, svg } from '../dom';
import { classesOf, classMetrics, estimate, evaluated, metricsOf, questions } from '../figures';
import { count, interval, percent, points, split, words, workflow } from '../format';
import { visible } from '../text';
import type { Estimate, Metrics, PageData, Run } from '../types';

export function evaluation(data: PageData): HTMLElement {
  const with_figures = data.runs.filter((run) => run.summary.base !== null || run.summary.trained !== null);
  if (with_figures.length === 0) return section('evaluation', 'Before and after', 'Neither policy has been evaluated yet.');
  return section('evaluation', 'Before and after',
    'Base and trained policy on the same questions: directly, with both searches forced (RAG), and deciding for themselves (on-demand). In brackets: 95 % intervals; in the picture: ○ base, ● trained.',
    with_figures.map((run) => [data.runs.length > 1 ? h('h3', {}, visible(run.name)) : null, oneRun(run)]));
}

interface Row { name: string; base: Metrics | null; trained: Metrics | null; isClass: boolean }

function oneRun(run: Run): HTMLElement {
  const { workflows, splits } = evaluated(run);
  return scrollable('Before and after', h('table', { class: 'evaluation' },
    h('thead', {},
      h('tr', {}, h('th', { scope: 'col', rowspan: 2 }, 'questions'), h('th', { scope: 'colgroup', colspan: 4 }, 'accuracy'),
        h('th', { scope: 'colgroup', colspan: 2 }, 'searches per question'), h('th', { scope: 'colgroup', colspan: 2 }, 'trained, questions with'), h('th', { scope: 'col', rowspan: 2 }, 'n')),
      h('tr', {}, ['base', 'trained', 'change', '0 to 100 %', 'base', 'trained', 'image search', 'text search'].map((name) => h('th', { scope: 'col' }, name)))),
    workflows.map((name) => h('tbody', {},
      h('tr', { class: 'group' }, h('th', { colspan: 10, scope: 'rowgroup' }, workflow(name))),
      splits.flatMap((at): Row[] => {
        const [base, trained] = [metricsOf(run.summary.base, name, at), metricsOf(run.summary.trained, name, at)];
        if (base === null && trained === null) return [];
        const classes = [...new Set([...classesOf(base), ...classesOf(trained)])];
        const whole = { name: `${split(at)}, all`, base, trained, isClass: false };
        // A split of one class has no parts to tell apart.
        const parts = classes.length < 2 ? [] : classes.map((part) => ({ name: words(part), base: classMetrics(base, part), trained: classMetrics(trained, part), isClass: true }));
        return [whole, ...parts];
      }).map(row)))));
}

function row({ name, base, trained, isClass }: Row): HTMLElement {
  const [before, after] = [estimate(base, 'accuracy'), estimate(trained, 'accuracy')];
  const figure = (e: Estimate | null): (HTMLElement | string)[] => (e === null ? ['–'] : [percent(e.value), h('span', { class: 'faint' }, ` [${interval(e)}]`)]);
  const searches = (metrics: Metrics | null): string => estimate(metrics, 'searches_per_question')?.value.toFixed(2) ?? '–';
  const apart = before !== null && after !== null && (after.low > before.high || after.high < before.low);
  const n = questions(trained) ?? questions(base);
  return h('tr', { class: isClass ? 'class' : '' },
    h('th', { scope: 'row' }, visible(name)),
    h('td', {}, figure(before)), h('td', {}, figure(after)),
    h('td', { class: apart ? (after.value > before.value ? 'good' : 'bad') : '' }, before === null || after === null ? '–' : points(after.value - before.value)),
    h('td', {}, picture(before, after)),
    h('td', {}, searches(base)), h('td', {}, searches(trained)),
    h('td', {}, percent(estimate(trained, 'image_search_ratio')?.value, 0)), h('td', {}, percent(estimate(trained, 'text_search_ratio')?.value, 0)),
    h('td', {}, n === null ? '–' : count(n)));
}

/** Both intervals on one axis. The figures stand beside it. */
function picture(before: Estimate | null, after: Estimate | null): Element {
  const x = (share: number): number => 4 + 132 * Math.min(1, Math.max(0, share));
  const mark = (e: Estimate | null, kind: string, y: number): (Element | null)[] => (e === null ? [] : [
    svg('line', { x1: x(e.low), x2: x(e.high), y1: y, y2: y, class: kind }), svg('circle', { cx: x(e.value), cy: y, r: 3.2, class: kind })]);
  return svg('svg', { width: 140, height: 18, viewBox: '0 0 140 18', 'aria-hidden': 'true', class: 'intervals' },
    [0, 0.5, 1].map((share) => svg('line', { x1: x(share), x2: x(share), y1: 0, y2: 18, class: 'axis' })),
    mark(before, 'before', 6), mark(after, 'after', 12));
}
