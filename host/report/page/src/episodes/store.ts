// The packed episodes: the index is unpacked once the page stands, a chunk when one of its episodes is opened.

import type { Detail, Index, Picture } from '../types';

/** Where the episodes in full and the images come from: the page itself, or its server. */
export interface Source {
  detail(at: number): Promise<Detail>;
  picture(image: number): Picture | Promise<Picture>;
}

/** Bits of Index.flags, in the order of Flag in host/report/src/episodes/scan.rs. */
export const FLAGS: [name: string, text: string][] = [
  ['unfinished', 'did not end in an answer'],
  ['tool-failed', 'a tool call failed'],
  ['unscored', 'the reward abstained'],
  ['disagreement', 'correct, but the format is not'],
  ['unlikely', 'a token less likely than 1 in 1,000'],
  ['needless-search', 'searched without need'],
  ['missing-search', 'a required search is missing'],
  ['violation', 'broke an invariant'],
];

/** Flags that are faults of the machinery; the others are choices of the policy. */
const FAULTS = 0b1000_1111;

export type Outcome = 'right' | 'wrong' | 'unscored';

export class Store {
  private haystacks: string[] = [];

  constructor(readonly index: Index, private readonly source: Source) {}

  /** The episodes that the page holds. */
  static async open(): Promise<Store> {
    const index = await unpacked<Index>('episode-index');
    return new Store(index, new Blocks(index));
  }

  get length(): number {
    return this.index.run.length;
  }

  text(number: number | undefined): string {
    return number === undefined ? '' : this.index.strings[number] ?? '';
  }

  /** What an episode is called in lists and links: `3/150/0/2` for run, step, group and rollout; the label stands for the step of an evaluation. */
  key(at: number): string {
    const { run, step, source, group, rollout } = this.index;
    return [run[at], step[at] ?? encodeURIComponent(this.text(source[at])), group[at], rollout[at]].join('/');
  }

  outcome(at: number): Outcome {
    const accuracy = this.index.accuracy[at];
    return accuracy === null || accuracy === undefined ? 'unscored' : accuracy >= 0.5 ? 'right' : 'wrong';
  }

  flags(at: number): [string, string][] {
    return FLAGS.filter((_, bit) => ((this.index.flags[at] ?? 0) >> bit) & 1);
  }

  faulty(at: number): boolean {
    return ((this.index.flags[at] ?? 0) & FAULTS) !== 0;
  }

  /** Question, answers and turns in lower case, for the search. */
  haystack(at: number): string {
    const { sample, question, truth, answer, turns } = this.index;
    return (this.haystacks[at] ??= [sample[at], question[at], truth[at], answer[at], ...(turns[at] ?? [])].map((text) => this.text(text)).join('\n').toLowerCase());
  }

  /** The episodes that are judged beside this one: its group, or every answer that the run's evaluations gave to its question. */
  group(at: number): number[] {
    const { run, step, group, sample, source } = this.index;
    const isBeside = step[at] === null
      ? (other: number): boolean => step[other] === null && sample[other] === sample[at] && run[other] === run[at] && (this.text(sample[at]) !== '' || (source[other] === source[at] && group[other] === group[at]))
      : (other: number): boolean => step[other] === step[at] && group[other] === group[at] && run[other] === run[at];
    return Array.from({ length: this.length }, (_, other) => other).filter(isBeside);
  }

  detail(at: number): Promise<Detail> {
    return this.source.detail(at);
  }

  picture(image: number): Picture | Promise<Picture> {
    return this.source.picture(image);
  }

  /** Whether another reward's word on an episode is of this kind; one that not both have scored is of none. */
  disagrees(at: number, other: number, kind: string): boolean {
    const columns = this.index.others[other];
    const [reward, accuracy] = [this.index.reward[at] ?? null, this.index.accuracy[at] ?? null];
    const [total, judged] = [columns?.total[at] ?? null, columns?.accuracy[at] ?? null];
    if (reward === null || accuracy === null || total === null || judged === null) return false;
    const [right, otherRight] = [accuracy >= 0.5, judged >= 0.5];
    switch (kind) {
      case 'outcome': return right !== otherRight;
      case 'stored': return right && !otherRight;
      case 'other': return !right && otherRight;
      default: return Math.abs(reward - total) > MATERIAL;
    }
  }
}

/** Totals differ materially from here on, as in host/report/src/scores.rs. */
const MATERIAL = 0.05;

/** The data blocks of a page that was written to a file. */
class Blocks implements Source {
  private readonly chunks = new Map<number, Promise<Detail[]>>();
  private readonly pictures = new Map<number, Picture[]>();

  constructor(private readonly index: Index) {}

  async detail(at: number): Promise<Detail> {
    const chunk = this.index.chunk[at] ?? 0;
    let unpacking = this.chunks.get(chunk);
    if (unpacking === undefined) {
      unpacking = unpacked<Detail[]>(`episodes-${chunk}`);
      this.chunks.set(chunk, unpacking);
    }
    const detail = (await unpacking)[this.index.at[at] ?? 0];
    if (detail === undefined) throw new Error(`chunk ${chunk} has no episode ${this.index.at[at]}`);
    return detail;
  }

  picture(image: number): Picture {
    const chunk = Math.floor(image / this.index.image_chunk);
    let pictures = this.pictures.get(chunk);
    if (pictures === undefined) {
      pictures = JSON.parse(block(`images-${chunk}`)) as Picture[];
      this.pictures.set(chunk, pictures);
    }
    return pictures[image % this.index.image_chunk] ?? null;
  }
}

function block(id: string): string {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page lacks its part ${id}; it may have been cut off`);
  return element.textContent ?? '';
}

async function unpacked<T>(id: string): Promise<T> {
  const packed = atob(block(id));
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(inflated).text()) as T;
}
