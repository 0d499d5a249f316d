// Columns of one run or several, on common steps: a line per run, or the mean of the seeds with their lowest and highest.

import type { Line } from './chart';
import type { PageData, Run } from './types';

export const RUN_COLOURS = ['--c1', '--c2', '--c3', '--c4', '--c5', '--c6', '--c7', '--c8'];
export const runColour = (at: number): string => RUN_COLOURS[at % RUN_COLOURS.length] ?? '--c1';

/** Every step that some run has on record. */
export const allSteps = (runs: Run[]): number[] => [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);

/** A column of a run on other steps. */
export function column(run: Run, name: string, steps: number[]): (number | null)[] {
  const values = run.columns[name];
  if (values === undefined) return steps.map(() => null);
  const at = new Map(run.steps.map((step, i) => [step, values[i] ?? null]));
  return steps.map((step) => at.get(step) ?? null);
}

/** Mean, lowest and highest of several columns, where at least one has a value. */
export function spread(columns: (number | null)[][]): { mean: (number | null)[]; low: (number | null)[]; high: (number | null)[] } {
  const [mean, low, high]: (number | null)[][] = [[], [], []];
  const length = columns[0]?.length ?? 0;
  for (let i = 0; i < length; i++) {
    const there = columns.map((values) => values[i]).filter((value): value is number => value !== null && value !== undefined);
    const none = there.length === 0;
    mean?.push(none ? null : there.reduce((a, b) => a + b, 0) / there.length);
    low?.push(none ? null : Math.min(...there));
    high?.push(none ? null : Math.max(...there));
  }
  return { mean: mean ?? [], low: low ?? [], high: high ?? [] };
}

/** One column as lines: seeds together, other runs side by side. */
export function linesOf(data: PageData, name: string, steps: number[], label: string, colour = '--c1'): Line[] {
  const runs = data.runs.filter((run) => run.columns[name] !== undefined);
  if (runs.length === 0) return [];
  if (data.seeds_only && runs.length > 1) {
    const { mean, low, high } = spread(runs.map((run) => column(run, name, steps)));
    return [{ label: `mean of ${runs.length} seeds`, colour, values: mean, band: { low, high } }];
  }
  return runs.map((run) => ({
    label: data.runs.length > 1 ? run.name : label,
    colour: data.runs.length > 1 ? runColour(data.runs.indexOf(run)) : colour,
    values: column(run, name, steps),
  }));
}
