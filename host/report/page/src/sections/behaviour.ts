// What episodes did: answered at once, or searched by which tools, and whether they were right.

import { chart, type Line } from '../chart';
import { h, scrollable, section, select } from '../dom';
import { count, evaluation, evaluationOrder, percent, words } from '../format';
import { runColour } from '../runs';
import { visible } from '../text';
import type { Cell, PageData, Run } from '../types';

const behaviourName = (tools: string): string => (tools === '' ? 'answered at once' : tools.replaceAll('-', ' '));
const COLOURS = ['--c1', '--c2', '--c3', '--c4', '--c5', '--c6', '--c7', '--c8'];

/** What the reader has chosen; a page that goes on keeps it. */
let [chosen, chosenRun] = ['all', '0'];

export function behaviour(data: PageData): HTMLElement {
  const body = h('div', {});
  const draw = (): void => {
    const run = data.runs[Number(chosenRun)];
    if (run !== undefined) body.replaceChildren(...content(run, chosen === 'all' ? null : chosen));
  };
  const classes = [...new Set(data.runs.flatMap((each) => each.counted.classes))];
  const byClass = select('Class', [['all', 'all classes'], ...classes.map((name): [string, string] => [name, words(name)])], chosen, (value) => { chosen = value; draw(); });
  const byRun = select('Run', data.runs.map((each, at): [string, string] => [String(at), visible(each.name)]), chosenRun, (value) => { chosenRun = value; draw(); });
  draw();
  return section('behaviour', 'Behaviour', 'What the policy did with a question, and whether the answer was right. Every episode on record is counted.',
    h('div', { class: 'controls' }, data.runs.length > 1 ? byRun.element : null, byClass.element), body);
}

/** Right and wrong of each behaviour; unscored ones apart. */
function sums(cells: Cell[], wanted: number | null, behaviours: number): { right: number[]; wrong: number[]; unscored: number; total: number } {
  const right = Array<number>(behaviours).fill(0);
  const wrong = Array<number>(behaviours).fill(0);
  let unscored = 0;
  for (const [inClass, which, good, bad, none] of cells) {
    if (wanted !== null && inClass !== wanted) continue;
    right[which] = (right[which] ?? 0) + good;
    wrong[which] = (wrong[which] ?? 0) + bad;
    unscored += none;
  }
  return { right, wrong, unscored, total: [...right, ...wrong].reduce((a, b) => a + b, unscored) };
}

function content(run: Run, name: string | null): HTMLElement[] {
  const { behaviours, classes, training, evaluations } = run.counted;
  const wanted = name === null ? null : classes.indexOf(name);
  if (behaviours.length === 0) return [h('p', {}, 'No episode is on record.')];
  const parts: HTMLElement[] = [];
  if (training.length > 0) {
    const counted = training.map((bin) => sums(bin.cells, wanted, behaviours.length));
    // Stacked from the top: each line lies over the ones that follow.
    const layers = behaviours.flatMap((tools, at) => [
      { label: `${behaviourName(tools)}, right`, colour: COLOURS[at % 8] ?? '--c1', of: (i: number) => counted[i]?.right[at] ?? 0 },
      { label: `${behaviourName(tools)}, wrong`, colour: `${COLOURS[at % 8] ?? '--c1'}-pale`, of: (i: number) => counted[i]?.wrong[at] ?? 0 },
    ]).filter((layer) => training.some((_, i) => layer.of(i) > 0));
    const lines = layers.map((layer, at): Line => ({
      label: layer.label, colour: layer.colour,
      values: training.map((_, i) => {
        const total = counted[i]?.total ?? 0;
        return total === 0 ? null : layers.slice(at).reduce((sum, below) => sum + below.of(i), 0) / total;
      }),
    }));
    const shares = layers.map((layer) => training.map((_, i) => (counted[i]?.total ? layer.of(i) / (counted[i]?.total ?? 1) : null)));
    const made = chart({
      title: 'Rollouts over training', note: 'share of episodes; strong: right, pale: wrong', steps: training.map((bin) => Math.round((bin.from + Math.min(bin.to, run.steps.at(-1) ?? bin.to)) / 2)),
      lines, format: (value) => percent(value, 0), range: [0, 1], stacked: true, shown: shares,
    });
    parts.push(h('div', { class: 'charts one' }, made.element));
  }
  if (evaluations.length > 0) parts.push(table(run, wanted));
  const endings = Object.entries(run.counted.endings).sort((a, b) => b[1] - a[1]);
  parts.push(h('p', { class: 'note' }, 'How episodes ended: ', endings.map(([ending, n]) => `${words(ending === '' ? 'unknown' : ending)} ${count(n)}`).join(', '), '.'));
  return parts;
}

function table(run: Run, wanted: number | null): HTMLElement {
  const { behaviours, evaluations } = run.counted;
  const rows = evaluations.map(({ label, cells }) => ({ label, ...sums(cells, wanted, behaviours.length) })).filter((row) => row.total > 0)
    .sort((a, b) => evaluationOrder(a.label).localeCompare(evaluationOrder(b.label)));
  return scrollable('Behaviour in evaluations', h('table', {},
    h('caption', {}, 'In evaluations: share of the questions, and of those the share right'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'evaluation'), behaviours.map((tools) => h('th', { scope: 'col' }, behaviourName(tools))),
      h('th', { scope: 'col' }, 'not scored'), h('th', { scope: 'col' }, 'n'))),
    h('tbody', {}, rows.map((row) => h('tr', {}, h('th', { scope: 'row' }, visible(evaluation(row.label))),
      behaviours.map((_, at) => {
        const n = (row.right[at] ?? 0) + (row.wrong[at] ?? 0);
        return h('td', {}, n === 0 ? h('span', { class: 'faint' }, '–') : [bar(n / row.total, at), percent(n / row.total, 0), h('span', { class: 'faint' }, ` · ${percent((row.right[at] ?? 0) / n, 0)} right`)]);
      }),
      h('td', {}, row.unscored === 0 ? '–' : count(row.unscored)), h('td', {}, count(row.total)))))));
}

function bar(share: number, at: number): HTMLElement {
  const fill = h('span', {});
  fill.style.width = `${100 * share}%`;
  fill.style.background = `var(${runColour(at)})`;
  return h('span', { class: 'meter', 'aria-hidden': 'true' }, fill);
}
