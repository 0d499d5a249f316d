// Training curves.

import { Chart, setSmoothing, type Line } from '../chart';
import { h, section, select } from '../dom';
import { number, percent } from '../format';
import { allSteps, linesOf } from '../runs';
import type { PageData } from '../types';

interface Curve { column: string; title: string; note?: string; format?: (value: number) => string; range?: [number | null, number | null] }

const share = (value: number): string => percent(value, 0);

const CURVES: Curve[] = [
  { column: 'reward', title: 'Reward', note: 'mean of a step’s episodes' },
  { column: 'accuracy', title: 'Accuracy', note: 'of rollouts, sampled', format: share, range: [0, 1] },
  { column: 'searches_per_question', title: 'Searches per question', range: [0, null] },
  { column: 'share_searching', title: 'Questions with a search', format: share, range: [0, 1] },
  { column: 'format', title: 'Format', note: 'episodes in the protocol’s form', format: (value) => percent(value, 1) },
  { column: 'kl', title: 'KL to the reference', note: 'nats per token' },
  { column: 'entropy', title: 'Entropy', note: 'nats per token' },
  { column: 'loss', title: 'Loss' },
  { column: 'grad_norm', title: 'Gradient norm', note: 'before clipping' },
  { column: 'learning_rate', title: 'Learning rate' },
  { column: 'clip_share', title: 'Clipped ratios', format: share },
  { column: 'groups_skipped', title: 'Groups without a signal', note: 'all rewards equal' },
  { column: 'tokens', title: 'Tokens per step' },
  { column: 'logprob_diff_max', title: 'Rollout against learner', note: 'largest log-probability difference' },
];

/** Told elsewhere: by class in its own part, and the two times in one chart. */
const ELSEWHERE = /^(image_search_ratio|text_search_ratio)\.|_seconds$/;

export function curves(data: PageData): HTMLElement {
  const steps = allSteps(data.runs);
  const lead = data.seeds_only
    ? `The ${data.runs.length} runs differ in their seed only: lines are means over the seeds, bands reach from the lowest to the highest.`
    : data.runs.length > 1 ? 'One line a run.' : 'Faint lines are single steps, strong lines the mean around each step.';
  if (steps.length === 0) return section('training', 'Training', 'No step is on record, so there are no curves.');
  const known = new Set(CURVES.map((curve) => curve.column));
  const others = [...new Set(data.runs.flatMap((run) => Object.keys(run.columns)))]
    .filter((name) => !known.has(name) && !ELSEWHERE.test(name))
    .map((name): Curve => ({ column: name, title: name.replaceAll('_', ' ') }));
  const charts = [...CURVES, ...others].flatMap(({ column, title, note, format, range }) => {
    const lines = linesOf(data, column, steps, title.toLowerCase());
    const constant = lines.every((line) => line.values.every((value) => value === null || value === 0));
    if (lines.length === 0 || (constant && !known.has(column))) return [];
    return [new Chart({ title, steps, lines, format: format ?? number, ...(note === undefined ? {} : { note }), ...(range === undefined ? {} : { range }) })];
  });
  const times = timeLines(data, steps);
  if (times.length > 0) charts.push(new Chart({ title: 'Seconds per step', steps, lines: times, format: number, range: [0, null] }));
  const initial = steps.length >= 60 ? '5' : '0';
  setSmoothing(Number(initial));
  const smoothing = select('Smoothing', [['0', 'none'], ['2', '5 steps'], ['5', '11 steps'], ['15', '31 steps']], initial, (value) => setSmoothing(Number(value)));
  return section('training', 'Training', lead, h('div', { class: 'controls' }, smoothing.element), h('div', { class: 'charts' }, charts.map((chart) => chart.element)));
}

function timeLines(data: PageData, steps: number[]): Line[] {
  const phases: [string, string, string, number[]?][] = [['rollout_seconds', 'rollout', '--c2'], ['learner_seconds', 'learner', '--c1', [5, 3]]];
  return phases.flatMap(([column, label, colour, dash]) => linesOf(data, column, steps, label, colour)
    .map((line) => ({ ...line, label: data.runs.length > 1 ? `${label}, ${line.label}` : label, dash })));
}
