// What the program writes into the page (host/report/src/report.rs and episodes/). Older runs may lack anything that is optional here.

export type State = 'finished' | 'running' | 'stopped' | 'empty';

export interface Estimate { value: number; low: number; high: number }

/** Metrics of a set of questions; classes stand beside the figures under their names. */
export type Metrics = Record<string, unknown>;
/** Metrics by workflow, then by split. */
export type PolicyMetrics = Record<string, Record<string, Metrics>>;

/** Class, behaviour, right, wrong, unscored. */
export type Cell = [number, number, number, number, number];

export interface Counted {
  classes: string[];
  behaviours: string[];
  training: { from: number; to: number; cells: Cell[] }[];
  evaluations: { label: string; cells: Cell[] }[];
  tools: ToolCounts[];
  endings: Record<string, number>;
  abstained: Record<string, number>;
}

export interface ToolCounts {
  name: string;
  digests: string[];
  calls: number;
  shared: number;
  failures: number;
  quantiles: [number, number, number, number] | null;
  histogram: number[];
  messages: [string, number][];
}

export interface Run {
  name: string;
  path: string;
  state: State;
  locked: boolean;
  version: string | null;
  seed: string | null;
  planned_steps: number | null;
  started_ms: number | null;
  written_ms: number | null;
  plugins: Record<string, string>;
  config_text: string | null;
  checkpoints: number[];
  steps: number[];
  columns: Record<string, (number | null)[]>;
  summary: {
    base: PolicyMetrics | null;
    trained: PolicyMetrics | null;
    timing: Record<string, number>;
    peak_memory_bytes: number | null;
    invariants: Record<string, number>;
  };
  counted: Counted;
  agreements: Agreement[];
  selection: {
    episodes: number;
    shown: number;
    training_groups: number;
    training_groups_shown: number;
    questions: number;
    questions_shown: number;
  };
  problems: string[];
}

export interface PageData {
  version: string;
  made_ms: number;
  runs: Run[];
  differences: { key: string; values: (string | null)[] }[];
  seeds_only: boolean;
  /** Names of the other rewards that scored the runs. */
  others: string[];
  chunks: number;
  image_chunks: number;
  /** Of a page that is served and goes on. */
  live: Live | null;
}

/** How far the list of a live page goes. */
export interface Live {
  /** Changes with every change of the run. */
  version: number;
  /** Changes when the list of episodes begins anew. */
  generation: number;
  /** Episodes in the list. */
  listed: number;
}

/** A part of the list of a live page. */
export interface Part {
  from: number;
  index: Index;
  digests: string[];
}

/** How another reward agrees with the stored one. */
export interface Agreement {
  reward: string;
  digest: string;
  both: number;
  /** Both call it right; only the stored one; only the other; neither. */
  right: [number, number, number, number];
  differ: number;
  stored_mean: number;
  other_mean: number;
  abstained: [number, number];
  stale: number;
}

/** All shown episodes, one array a column; texts by number. */
export interface Index {
  strings: string[];
  pieces: Record<string, string>[];
  images: number;
  image_chunk: number;
  run: number[];
  source: number[];
  step: (number | null)[];
  group: number[];
  rollout: number[];
  sample: number[];
  class: number[];
  question: number[];
  truth: number[];
  answer: number[];
  tools: number[];
  ending: number[];
  reward: (number | null)[];
  accuracy: (number | null)[];
  advantage: (number | null)[];
  flags: number[];
  tool_ms: number[];
  least_logprob: (number | null)[];
  turns: number[][];
  image: number[][];
  chunk: number[];
  at: number[];
  /** By other reward. */
  others: { total: (number | null)[]; accuracy: (number | null)[] }[];
}

export interface Detail {
  id: string;
  candidates: string[];
  tokens: number[];
  /** Start and length of each stretch of sampled tokens. */
  sampled: number[];
  /** In units of -1e-4 nats. */
  logprobs: (number | null)[];
  turns: [number, number, string][];
  calls: { tool: string; argument: string; result: string; ok: boolean; ms: number; shared: boolean }[];
  calls_allowed: number;
  components: [string, number][];
  abstained: string | null;
  others: { reward: string; total: number | null; components: [string, number][]; abstained: string | null }[];
}

/** Width and height of the stored file, and the image in base 64; null where it is missing or left out. */
export type Picture = [number, number, string] | null;
