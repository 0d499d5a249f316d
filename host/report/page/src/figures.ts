// Figures of a stored summary, read with care: older versions may lack any of them.

import type { Estimate, Metrics, PolicyMetrics, Run } from './types';

const FIGURES = new Set(['accuracy', 'searches_per_question', 'share_searching', 'calls_over_allowed', 'format', 'image_search_ratio', 'text_search_ratio', 'n', 'abstained']);

export function estimate(metrics: Metrics | null | undefined, figure: string): Estimate | null {
  const found = metrics?.[figure];
  if (typeof found !== 'object' || found === null) return null;
  const { value, low, high } = found as Partial<Estimate>;
  return typeof value === 'number' && typeof low === 'number' && typeof high === 'number' ? { value, low, high } : null;
}

export function questions(metrics: Metrics | null | undefined): number | null {
  const n = metrics?.['n'];
  return typeof n === 'number' ? n : null;
}

export const metricsOf = (policy: PolicyMetrics | null, workflow: string, split: string): Metrics | null => policy?.[workflow]?.[split] ?? null;

/** The classes of a split. */
export const classesOf = (metrics: Metrics | null): string[] =>
  metrics === null ? [] : Object.keys(metrics).filter((key) => !FIGURES.has(key) && typeof metrics[key] === 'object');

export const classMetrics = (metrics: Metrics | null, name: string): Metrics | null => (metrics?.[name] as Metrics | undefined) ?? null;

/** Workflows and splits that base or trained policy were asked in. */
export function evaluated(run: Run): { workflows: string[]; splits: string[] } {
  const order = ['direct', 'rag', 'on_demand', 'on_demand_sampled'];
  const rank = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  const policies = [run.summary.base, run.summary.trained].filter((policy) => policy !== null);
  const workflows = [...new Set(policies.flatMap((policy) => Object.keys(policy)))].sort((a, b) => rank(a) - rank(b));
  const splits = [...new Set(policies.flatMap((policy) => Object.values(policy).flatMap((by) => Object.keys(by))))].sort((a, b) => (a === 'test' ? -1 : b === 'test' ? 1 : a.localeCompare(b)));
  return { workflows, splits };
}

/** The policy that the figures are about: the trained one, or the base where there is none yet. */
export const mainSplit = (run: Run): string => evaluated(run).splits[0] ?? 'test';

/** How much more the policy searches by image where it must than where it need not. */
export function selectivity(policy: PolicyMetrics | null, split: string): number | null {
  const metrics = metricsOf(policy, 'on_demand', split);
  const must = estimate(classMetrics(metrics, 'image_required'), 'image_search_ratio');
  const need = estimate(classMetrics(metrics, 'search_free'), 'image_search_ratio');
  return must === null || need === null ? null : must.value - need.value;
}

/** The rest of the time, by phase. */
export const totalSeconds = (run: Run): number | null => {
  const { total, ...phases } = run.summary.timing;
  if (total !== undefined) return total;
  const values = Object.values(phases);
  return values.length === 0 ? null : values.reduce((a, b) => a + b, 0);
};
