// Which episodes are listed, in which order: the state of the view, as it stands in the page's address.

import { FLAGS, type Store } from './store';

export interface View {
  /** Words to find. */
  q: string;
  run: string;
  /** `all`, `training`, `evaluation` or an evaluation's label. */
  source: string;
  from: string;
  to: string;
  class: string;
  /** `all`, `none`, or the tools that were used. */
  tools: string;
  outcome: string;
  flag: string;
  /** `all`, or another reward's number and how it disagrees: `0:outcome`. */
  other: string;
  low: string;
  high: string;
  sort: string;
  /** The open episode's key. */
  episode: string;
  tab: string;
  shade: string;
}

export const INITIAL: View = {
  q: '', run: 'all', source: 'all', from: '', to: '', class: 'all', tools: 'all', outcome: 'all', flag: 'all', other: 'all', low: '', high: '',
  sort: 'order', episode: '', tab: 'conversation', shade: 'logprob',
};

/** What the address says, where it speaks of a view. */
export function fromHash(hash: string): View | null {
  if (!hash.startsWith('#view?')) return null;
  const said = new URLSearchParams(hash.slice('#view?'.length));
  const view = { ...INITIAL };
  for (const key of Object.keys(INITIAL) as (keyof View)[]) view[key] = said.get(key) ?? INITIAL[key];
  return view;
}

export function toHash(view: View): string {
  const said = new URLSearchParams();
  for (const key of Object.keys(INITIAL) as (keyof View)[]) if (view[key] !== INITIAL[key]) said.set(key, view[key]);
  return `#view?${said}`;
}

const SORTS: Record<string, (store: Store) => (a: number, b: number) => number> = {
  reward: ({ index }) => (a, b) => (index.reward[a] ?? Infinity) - (index.reward[b] ?? Infinity),
  'reward-down': ({ index }) => (a, b) => (index.reward[b] ?? -Infinity) - (index.reward[a] ?? -Infinity),
  advantage: ({ index }) => (a, b) => Math.abs(index.advantage[b] ?? 0) - Math.abs(index.advantage[a] ?? 0),
  unlikely: ({ index }) => (a, b) => (index.least_logprob[a] ?? 0) - (index.least_logprob[b] ?? 0),
  slow: ({ index }) => (a, b) => (index.tool_ms[b] ?? 0) - (index.tool_ms[a] ?? 0),
};

/** The listed episodes, in order. */
export function listed(store: Store, view: View): number[] {
  const { index } = store;
  const words = view.q.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const bound = (text: string, otherwise: number): number => (text.trim() === '' || Number.isNaN(Number(text)) ? otherwise : Number(text));
  const [from, to, low, high] = [bound(view.from, -Infinity), bound(view.to, Infinity), bound(view.low, -Infinity), bound(view.high, Infinity)];
  const steps = from !== -Infinity || to !== Infinity;
  const rewards = low !== -Infinity || high !== Infinity;
  const bit = FLAGS.findIndex(([name]) => name === view.flag);
  const run = Number(view.run);
  const [other, kind] = view.other.split(':', 2);
  const wanted = (at: number): boolean => {
    const step = index.step[at] ?? null;
    if (view.run !== 'all' && index.run[at] !== run) return false;
    if (view.source === 'training' ? step === null : view.source === 'evaluation' ? step !== null : view.source !== 'all' && (step !== null || store.text(index.source[at]) !== view.source)) return false;
    if (steps && (step === null || step < from || step > to)) return false;
    if (view.class !== 'all' && store.text(index.class[at]) !== view.class) return false;
    if (view.tools !== 'all' && store.text(index.tools[at]) !== (view.tools === 'none' ? '' : view.tools)) return false;
    if (view.outcome !== 'all' && store.outcome(at) !== view.outcome) return false;
    if (view.flag === 'any' ? index.flags[at] === 0 : bit >= 0 && !(((index.flags[at] ?? 0) >> bit) & 1)) return false;
    if (view.other !== 'all' && !store.disagrees(at, Number(other), kind ?? '')) return false;
    if (rewards) {
      const reward = index.reward[at] ?? null;
      if (reward === null || reward < low || reward > high) return false;
    }
    return words.length === 0 || words.every((word) => store.haystack(at).includes(word));
  };
  const found: number[] = [];
  for (let at = 0; at < store.length; at++) if (wanted(at)) found.push(at);
  const order = SORTS[view.sort];
  return order === undefined ? found : found.sort((a, b) => order(store)(a, b) || a - b);
}
