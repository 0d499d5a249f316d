// The run in words and in a few figures.

import { h, section } from '../dom';
import { bytes, count, duration, number, percent, plural, points, split } from '../format';
import { classMetrics, estimate, mainSplit, metricsOf, questions, selectivity, totalSeconds } from '../figures';
import { visible } from '../text';
import type { PageData, Run } from '../types';

interface Tile { label: string; figure: string; before?: string | undefined; note: string }

export function summary(data: PageData): HTMLElement {
  const many = data.runs.length > 1;
  return section('summary', 'Summary', null,
    data.runs.map((run) => [
      many ? h('h3', {}, visible(run.name)) : null,
      sentences(run).map((text) => h('p', { class: 'say' }, text)),
      many ? null : h('dl', { class: 'tiles' }, tiles(run).map((tile) => h('div', { class: 'tile' },
        h('dt', {}, tile.label),
        h('dd', {}, tile.before === undefined ? null : h('span', { class: 'before' }, `${tile.before} → `), h('strong', {}, tile.figure)),
        h('dd', { class: 'tile-note' }, tile.note)))),
    ]));
}

function sentences(run: Run): string[] {
  const { base, trained } = run.summary;
  const at = mainSplit(run);
  const [before, after] = [base, trained].map((policy) => metricsOf(policy, 'on_demand', at));
  const told: string[] = [];
  const accuracy = [before, after].map((metrics) => estimate(metrics, 'accuracy'));
  const searches = estimate(after, 'searches_per_question');
  const rag = metricsOf(trained, 'rag', at);
  const [ragAccuracy, ragSearches] = [estimate(rag, 'accuracy'), estimate(rag, 'searches_per_question')];
  if (accuracy[0] && accuracy[1]) {
    const n = questions(after ?? null);
    told.push(`Asked ${n === null ? 'the questions' : plural(n, 'question')} of the split ${split(at)} and left to decide when to search, the policy answered ` +
      `${percent(accuracy[0].value)} correctly before training and ${percent(accuracy[1].value)} after it (${points(accuracy[1].value - accuracy[0].value)} points).`);
  }
  if (accuracy[1] && ragAccuracy && searches && ragSearches && ragSearches.value > 0) {
    const saved = 1 - searches.value / ragSearches.value;
    told.push(`It made ${searches.value.toFixed(2)} searches a question, ${Math.abs(saved) < 0.005 ? 'as many as' : `${Math.abs(100 * saved).toFixed(0)}\u202f% ${saved >= 0 ? 'fewer' : 'more'} than`} with both searches forced (RAG), ` +
      `which answers ${percent(ragAccuracy.value)} correctly.`);
  }
  const choosy = selectivity(trained, at);
  const must = estimate(classMetrics(after ?? null, 'image_required'), 'image_search_ratio');
  const need = estimate(classMetrics(after ?? null, 'search_free'), 'image_search_ratio');
  if (choosy !== null && must && need) {
    told.push(`It searched by image for ${percent(must.value, 0)} of the questions that require it and for ${percent(need.value, 0)} of those that need no search.`);
  }
  if (accuracy[0] && !accuracy[1]) {
    told.push(`The base policy, left to decide when to search, answered ${percent(accuracy[0].value)} of the split ${split(at)} correctly. There is no figure yet for the trained policy.`);
  }
  const rewards = run.columns['reward'];
  if (rewards !== undefined && rewards.length > 1) {
    const [first, last] = [ends(rewards, 'first'), ends(rewards, 'last')];
    told.push(`Over ${plural(run.steps.length, 'step')} the mean reward went from ${number(first)} to ${number(last)} (means of ten steps at either end).`);
  }
  const failed = run.counted.tools.reduce((n, tool) => n + tool.failures, 0);
  const calls = run.counted.tools.reduce((n, tool) => n + tool.calls - tool.shared, 0);
  if (calls > 0) told.push(`Tools were run ${count(calls)} times; ${failed === 0 ? 'none' : count(failed)} failed.`);
  return told.length > 0 ? told : ['There are no figures to sum up yet.'];
}

function ends(values: (number | null)[], which: 'first' | 'last'): number | null {
  const there = values.filter((value): value is number => value !== null);
  const ten = which === 'first' ? there.slice(0, 10) : there.slice(-10);
  return ten.length === 0 ? null : ten.reduce((a, b) => a + b, 0) / ten.length;
}

function tiles(run: Run): Tile[] {
  const { base, trained } = run.summary;
  const at = mainSplit(run);
  const found: Tile[] = [];
  const both = (label: string, figure: string, where: string, show: (value: number) => string, note: string): void => {
    const before = estimate(metricsOf(base, 'on_demand', where), figure);
    const after = estimate(metricsOf(trained, 'on_demand', where), figure);
    const main = after ?? before;
    if (main === null) return;
    found.push({ label, figure: show(main.value), before: after !== null && before !== null ? show(before.value) : undefined, note });
  };
  both('Accuracy', 'accuracy', at, percent, `on demand, ${split(at)}`);
  if (at !== 'held_out') both('Accuracy, held out', 'accuracy', 'held_out', percent, 'entities never trained on');
  both('Searches per question', 'searches_per_question', at, (value) => value.toFixed(2), 'on demand; RAG makes every search');
  const choosy = selectivity(trained, at);
  if (choosy !== null) {
    const before = selectivity(base, at);
    found.push({ label: 'Search where needed', figure: points(choosy), before: before === null ? undefined : points(before), note: 'image-search ratio: required − not needed, points' });
  }
  const seconds = totalSeconds(run);
  if (seconds !== null) found.push({ label: 'Time', figure: duration(seconds), note: run.summary.peak_memory_bytes === null ? 'all phases' : `all phases; ${bytes(run.summary.peak_memory_bytes)} at most` });
  const difference = run.summary.invariants['logprob_diff_max'];
  if (difference !== undefined) found.push({ label: 'Rollout against learner', figure: number(difference), note: 'largest log-probability difference, nats' });
  return found;
}
