// When the policy searches, by question class, over training.

import { chart, type Line } from '../chart';
import { h, section } from '../dom';
import { percent, words } from '../format';
import { allSteps, column, runColour, spread } from '../runs';
import type { PageData } from '../types';

const KINDS: [prefix: string, title: string][] = [['image_search_ratio', 'Image search'], ['text_search_ratio', 'Text search']];
/** Classes keep their colours wherever they occur. */
const CLASSES: Record<string, string> = { search_free: '--c1', image_required: '--c2', text_required: '--c3', both_required: '--c4' };

export const classColour = (name: string, at: number): string => CLASSES[name] ?? runColour(at + 4);

export function search(data: PageData): HTMLElement {
  const steps = allSteps(data.runs);
  const charts = KINDS.flatMap(([prefix, title]) => {
    const classes = [...new Set(data.runs.flatMap((run) => Object.keys(run.columns)).filter((name) => name.startsWith(`${prefix}.`)))].sort();
    if (classes.length === 0) return [];
    const together = data.runs.length === 1 || data.seeds_only;
    const groups = together ? [data.runs] : data.runs.map((run) => [run]);
    return groups.map((runs) => {
      const lines = classes.map((name, at): Line => {
        const label = words(name.slice(prefix.length + 1));
        const { mean, low, high } = spread(runs.map((run) => column(run, name, steps)));
        return { label, colour: classColour(name.slice(prefix.length + 1), at), values: mean, band: runs.length > 1 ? { low, high } : undefined };
      });
      return chart({
        title: together ? title : `${title}, ${runs[0]?.name ?? ''}`, note: 'share of questions with at least one', steps, lines,
        format: (value) => percent(value, 0), range: [0, 1],
      });
    });
  });
  if (charts.length === 0) return section('search', 'Search behaviour', 'No step tells its search ratios by question class.');
  return section('search', 'Search behaviour', 'How often the policy searches in each class of question. What is worth learning: to search where it is required, and only there.',
    h('div', { class: 'charts wide' }, charts.map(({ element }) => element)));
}
