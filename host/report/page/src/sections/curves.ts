// Training curves.

import { chart, setSmoothing, type Chart, type Line } from '../chart';
import { h, section, select } from '../dom';
import { number, percent } from '../format';
import { allSteps, linesOf, runColour } from '../runs';
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

/** Told elsewhere: by class in its own part, by tool and the times in charts of several lines. */
const ELSEWHERE = /^(image_search_ratio|text_search_ratio|tool_ms|tool_calls|tool_failures)\.|_seconds$/;

/** Columns by tool, one chart each. */
const BY_TOOL: [prefix: string, title: string, note: string][] = [
  ['tool_ms', 'Tool latency', 'milliseconds a call'], ['tool_calls', 'Tool calls', 'per step; a call shared within its group counts once'], ['tool_failures', 'Failed tool calls', 'per step'],
];

/** What the reader has chosen; a page that goes on keeps it. */
let chosen: string | null = null;

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
    return [chart({ title, steps, lines, format: format ?? number, ...(note === undefined ? {} : { note }), ...(range === undefined ? {} : { range }) })];
  });
  const times = timeLines(data, steps);
  if (times.length > 0) charts.push(chart({ title: 'Seconds per step', steps, lines: times, format: number, range: [0, null] }));
  charts.push(...toolCharts(data, steps));
  const initial = chosen ?? (steps.length >= 60 ? '5' : '0');
  setSmoothing(Number(initial));
  const smoothing = select('Smoothing', [['0', 'none'], ['2', '5 steps'], ['5', '11 steps'], ['15', '31 steps']], initial, (value) => { chosen = value; setSmoothing(Number(value)); });
  return section('training', 'Training', lead, h('div', { class: 'controls' }, smoothing.element), h('div', { class: 'charts' }, charts.map(({ element }) => element)));
}

/** A chart for each kind of column by tool, a line a tool; failures only where there are some. */
function toolCharts(data: PageData, steps: number[]): Chart[] {
  return BY_TOOL.flatMap(([prefix, title, note]) => {
    const columns = [...new Set(data.runs.flatMap((run) => Object.keys(run.columns)))].filter((name) => name.startsWith(`${prefix}.`)).sort();
    const lines = columns.flatMap((name, at) => {
      const tool = name.slice(prefix.length + 1);
      return linesOf(data, name, steps, tool, runColour(at)).map((line) => ({ ...line, label: data.runs.length > 1 ? `${tool}, ${line.label}` : tool }));
    });
    if (lines.length === 0 || (prefix === 'tool_failures' && lines.every((line) => line.values.every((value) => !value)))) return [];
    return [chart({ title, note, steps, lines, format: number, range: [0, null] })];
  });
}

function timeLines(data: PageData, steps: number[]): Line[] {
  const phases: [string, string, string, number[]?][] = [
    ['rollout_seconds', 'rollout', '--c2'], ['tool_seconds', 'tools', '--c3', [2, 2]], ['reward_seconds', 'reward', '--c4', [1, 3]], ['learner_seconds', 'learner', '--c1', [5, 3]],
  ];
  return phases.flatMap(([column, label, colour, dash]) => linesOf(data, column, steps, label, colour)
    .map((line) => ({ ...line, label: data.runs.length > 1 ? `${label}, ${line.label}` : label, dash })));
}
