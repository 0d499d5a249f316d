// The viewer: filters, the list, and the open episode. Its state stands in the address, so that a link restores it.

import { choice, h, section, select } from '../dom';
import { count, evaluation, evaluationOrder, plural, words } from '../format';
import { visible } from '../text';
import type { PageData } from '../types';
import { conversation } from './conversation';
import { fromHash, INITIAL, listed, toHash, type View } from './filter';
import { List, place } from './list';
import { sideBySide } from './side_by_side';
import { FLAGS, Store } from './store';
import { tokensView, type Shade } from './tokens';

let current: Viewer | null = null;

/** Puts the viewer where `frame` says that it is being unpacked. */
export async function viewer(data: PageData, opening: Promise<Store> = Store.open()): Promise<void> {
  const body = document.getElementById('viewer-body');
  if (body === null) return;
  try {
    const store = await opening;
    if (store.length === 0) {
      current = null;
      body.replaceChildren(h('p', {}, 'There is no episode to show.'));
    } else if (current === null) {
      current = new Viewer(data, store, body);
    } else {
      current.show(data, store);
    }
  } catch (error) {
    body.replaceChildren(h('p', { class: 'bad' }, `The episodes cannot be unpacked: ${visible(String(error))}.`));
  }
}

/** The section before its episodes are unpacked. */
export function frame(data: PageData): HTMLElement {
  return section('episodes', 'Episodes', selection(data), h('div', { id: 'viewer-body' }, h('p', {}, 'Unpacking the episodes …')));
}

/** Which episodes the viewer holds, in words. */
export function selection(data: PageData): string {
  const total = data.runs.reduce((n, run) => n + run.selection.episodes, 0);
  const shown = data.runs.reduce((n, run) => n + run.selection.shown, 0);
  if (shown === total) return `All ${plural(total, 'episode')} on record.`;
  const sum = (pick: (run: PageData['runs'][number]) => number): number => data.runs.reduce((n, run) => n + pick(run), 0);
  const questions = sum((run) => run.selection.questions_shown) === sum((run) => run.selection.questions)
    ? 'every episode of the evaluations'
    : `${count(sum((run) => run.selection.questions_shown))} of ${count(sum((run) => run.selection.questions))} questions of the evaluations, with every answer`;
  return `${count(shown)} of ${plural(total, 'episode')}: ${questions}, and ${count(sum((run) => run.selection.training_groups_shown))} of ${count(sum((run) => run.selection.training_groups))} training groups, ` +
    'whole, ' + (data.live === null ? 'spread over the run; up to a quarter of them are groups with faults' : 'spread over the run as it stood when it was first opened, and those of the steps since') + '. All figures above count every episode. Images are re-encoded to keep the page small.';
}

class Viewer {
  private view: View;
  private open: number | null = null;
  private readonly keys = new Map<string, number>();
  private readonly list: List;
  private readonly pane = h('div', { class: 'pane', role: 'region', 'aria-label': 'Episode' });
  private readonly filters = h('form', { class: 'filters', role: 'search', 'aria-label': 'Filter episodes' });
  private turn = 0;

  private choices = '';

  constructor(private data: PageData, private store: Store, body: HTMLElement) {
    this.addKeys();
    this.view = fromHash(location.hash) ?? { ...INITIAL };
    this.list = new List(store, (episode) => this.choose(episode), data.runs.length > 1);
    this.filters.addEventListener('submit', (event) => event.preventDefault());
    body.replaceChildren(this.filters, h('div', { class: 'viewer' }, this.list.element, this.pane));
    this.drawFilters();
    this.restore();
    if (fromHash(location.hash) !== null) document.getElementById('episodes')?.scrollIntoView();
    window.addEventListener('hashchange', () => {
      const view = fromHash(location.hash);
      if (view === null || toHash(view) === toHash(this.view)) return;
      this.view = view;
      this.drawFilters();
      this.restore();
      document.getElementById('episodes')?.scrollIntoView();
    });
  }

  private addKeys(): void {
    for (let at = this.keys.size; at < this.store.length; at++) this.keys.set(this.store.key(at), at);
  }

  /** Goes on with a store that has grown, or with another one; what is being looked at stays. */
  show(data: PageData, store: Store): void {
    const another = store !== this.store;
    const open = this.open === null ? '' : this.store.key(this.open);
    this.data = data;
    this.store = store;
    this.list.store = store;
    if (another) this.keys.clear();
    this.addKeys();
    this.open = another ? this.keys.get(open) ?? null : this.open;
    // Filters are not exchanged under the hands of someone who uses them.
    if (this.optionsOf() !== this.choices && !this.filters.contains(document.activeElement)) this.drawFilters();
    this.list.grow(listed(store, this.view), this.open);
    if (another || this.open === null) void this.draw();
  }

  /** What the filters offer. */
  private optionsOf(): string {
    const { index } = this.store;
    return [index.source, index.class, index.tools].map((column) => [...new Set(column)].join()).join(';') + this.data.others.join();
  }

  /** Lists and opens what the view says. */
  private restore(): void {
    const episodes = listed(this.store, this.view);
    // Nothing asked for: the first one listed shows what an episode is.
    this.open = this.keys.get(this.view.episode) ?? (this.view.episode === '' ? episodes[0] ?? null : null);
    this.list.show(episodes, this.open);
    void this.draw();
  }

  private change(part: Partial<View>): void {
    this.view = { ...this.view, ...part };
    // Not a place of its own in the browser's history: one step back leaves the page, not the last letter typed.
    history.replaceState(null, '', toHash(this.view));
  }

  private choose(episode: number): void {
    this.open = episode;
    this.change({ episode: this.store.key(episode) });
    void this.draw();
  }

  private filter(part: Partial<View>): void {
    this.change(part);
    this.list.show(listed(this.store, this.view), this.open);
  }

  private drawFilters(): void {
    const { store, view } = this;
    const { index } = store;
    this.choices = this.optionsOf();
    const unique = (column: number[]): string[] => [...new Set(column)].map((text) => store.text(text)).sort();
    const sources = unique(index.source.filter((_, at) => index.step[at] === null)).sort((a, b) => evaluationOrder(a).localeCompare(evaluationOrder(b)));
    const drop = (label: string, key: keyof View, options: [string, string][]): HTMLElement => select(label, options, view[key], (value) => this.filter({ [key]: value })).element;
    const field = (label: string, key: keyof View, type: string, attributes: Record<string, string> = {}): HTMLElement => {
      const input = h('input', { type, value: view[key], ...attributes });
      let waiting = 0;
      input.addEventListener('input', () => { clearTimeout(waiting); waiting = window.setTimeout(() => this.filter({ [key]: input.value }), 120); });
      return h('label', { class: 'field' }, h('span', {}, label), input);
    };
    const names = (list: string[], shown: (name: string) => string): [string, string][] => list.map((name) => [name, visible(shown(name)).slice(0, 80)]);
    this.filters.replaceChildren(
      field('Search', 'q', 'search', { placeholder: 'question, answer or words of a turn' }),
      this.data.runs.length < 2 ? '' : drop('Run', 'run', [['all', 'all runs'], ...this.data.runs.map((run, at): [string, string] => [String(at), `${at + 1}: ${visible(run.name)}`])]),
      drop('From', 'source', [['all', 'training and evaluations'], ['training', 'training'], ['evaluation', 'all evaluations'], ...names(sources, evaluation)]),
      field('First step', 'from', 'number', { min: '0' }), field('Last step', 'to', 'number', { min: '0' }),
      drop('Class', 'class', [['all', 'all classes'], ...names(unique(index.class), words)]),
      drop('Tools', 'tools', [['all', 'any or none'], ['none', 'none'], ...names(unique(index.tools).filter((name) => name !== ''), (name) => name)]),
      drop('Outcome', 'outcome', [['all', 'right or wrong'], ['right', 'right'], ['wrong', 'wrong'], ['unscored', 'not scored']]),
      field('Lowest reward', 'low', 'number', { step: 'any' }), field('Highest reward', 'high', 'number', { step: 'any' }),
      drop('Worth a look', 'flag', [['all', 'with or without'], ['any', 'anything'], ...FLAGS]),
      this.data.others.length === 0 ? '' : drop('Other rewards', 'other', [['all', 'whatever they say'], ...this.data.others.flatMap((name, at): [string, string][] => {
        const told = visible(name).slice(0, 60);
        return [[`${at}:outcome`, `${told}: right against wrong`], [`${at}:stored`, `${told}: wrong, stored right`], [`${at}:other`, `${told}: right, stored wrong`], [`${at}:differ`, `${told}: totals differ`]];
      })]),
      drop('Order', 'sort', [['order', 'as recorded'], ['reward', 'lowest reward'], ['reward-down', 'highest reward'], ['advantage', 'largest advantage'], ['unlikely', 'least likely token'], ['slow', 'slowest tools']]),
      h('button', { type: 'button', click: () => { this.view = { ...INITIAL, episode: view.episode }; this.filter({}); this.drawFilters(); } }, 'Clear'));
  }

  private async draw(): Promise<void> {
    const turn = ++this.turn;
    const at = this.open;
    if (at === null) {
      this.pane.replaceChildren(h('p', { class: 'hint' }, this.view.episode === '' ? 'Choose an episode to see what happened in it. In the list, ↑ ↓ or j k move from one to the next.'
        : `This page holds no episode ${visible(this.view.episode.slice(0, 200))}; the link may belong to another report.`));
      return;
    }
    const { store, view } = this;
    const detail = await store.detail(at);
    const tab = view.tab;
    const content = tab === 'tokens' ? tokensView(store, at, detail, this.shade())
      : tab === 'group' ? await sideBySide(store, at, (episode) => { this.choose(episode); this.list.show(listed(store, this.view), episode); })
      : conversation(store, at, detail);
    // Another episode was chosen while this one was unpacked.
    if (turn !== this.turn) return;
    const tabs = choice('Show as', [['conversation', 'Conversation'], ['tokens', 'Tokens'], ['group', 'Side by side']], tab, (value) => { this.change({ tab: value }); void this.draw(); });
    const shades = choice('Shade by', [['mask', 'Mask'], ['logprob', 'Log-probability'], ['advantage', 'Advantage']], this.shade(), (value) => { this.change({ shade: value }); void this.draw(); });
    const focused = document.activeElement instanceof HTMLButtonElement && this.pane.contains(document.activeElement) ? document.activeElement.value : null;
    this.pane.replaceChildren(
      h('div', { class: 'pane-head' },
        h('h3', {}, place(store, at), this.data.runs.length > 1 ? h('span', { class: 'faint' }, ` · ${visible(this.data.runs[store.index.run[at] ?? 0]?.name ?? '')}`) : null),
        h('p', { class: 'facts-line' }, h('code', {}, visible(detail.id.slice(0, 200))), ' · ', visible(store.text(store.index.sample[at]).slice(0, 200)), ' · ', words(visible(store.text(store.index.class[at]).slice(0, 80)))),
        h('div', { class: 'controls' }, tabs.element, tab === 'tokens' ? shades.element : null, this.linkButton())),
      content);
    if (focused !== null && focused !== '') this.pane.querySelector<HTMLButtonElement>(`button[value="${focused}"]`)?.focus();
    this.pane.scrollTop = 0;
  }

  private shade(): Shade {
    return this.view.shade === 'mask' || this.view.shade === 'advantage' ? this.view.shade : 'logprob';
  }

  private linkButton(): HTMLElement {
    const button = h('button', { type: 'button', class: 'copy' }, 'Copy link');
    button.addEventListener('click', () => {
      // The clipboard is closed to pages in some settings; the address bar holds the same link.
      const told = (text: string): void => { button.textContent = text; setTimeout(() => { button.textContent = 'Copy link'; }, 2000); };
      const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject(new Error('no clipboard'));
      copied.then(() => told('Copied'), () => told('It is in the address bar'));
    });
    return button;
  }
}
