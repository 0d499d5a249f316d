// The list: only the rows in sight are in the page, however many there are.

import { h } from '../dom';
import { count, evaluation, signed, words } from '../format';
import { shortened, visible } from '../text';
import type { Store } from './store';

const ROW = 46;
const MARGIN = 8;

export class List {
  readonly element: HTMLElement;
  private readonly box = h('div', { class: 'rows', role: 'listbox', tabindex: 0, 'aria-label': 'Episodes' });
  private readonly space = h('div', { class: 'space' });
  private readonly status = h('p', { class: 'status', role: 'status' });
  private shown: number[] = [];
  private rows = new Map<number, HTMLElement>();
  private selected = -1;

  constructor(public store: Store, private readonly chosen: (episode: number) => void, private readonly manyRuns: boolean) {
    this.box.append(this.space);
    this.box.addEventListener('scroll', () => requestAnimationFrame(() => this.draw()), { passive: true });
    this.box.addEventListener('keydown', (event) => this.key(event));
    this.element = h('div', { class: 'list' }, this.status, this.box);
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Shows these episodes, with `episode` marked if it is among them. */
  show(episodes: number[], episode: number | null): void {
    this.shown = episodes;
    this.selected = episode === null ? -1 : episodes.indexOf(episode);
    this.tellLength();
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    if (this.selected >= 0) this.bringIntoSight();
    else this.box.scrollTop = 0;
    this.draw();
  }

  /** Shows a list that has grown: what is in sight stays where it is. */
  grow(episodes: number[], episode: number | null): void {
    const first = Math.floor(this.box.scrollTop / ROW);
    const [top, offset] = [this.shown[first], this.box.scrollTop - first * ROW];
    const scrolled = this.box.scrollTop;
    this.shown = episodes;
    this.selected = episode === null ? -1 : episodes.indexOf(episode);
    this.tellLength();
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    const now = top === undefined || scrolled === 0 ? -1 : episodes.indexOf(top);
    this.box.scrollTop = now < 0 ? scrolled : now * ROW + offset;
    this.draw();
  }

  private tellLength(): void {
    const { length } = this.shown;
    this.status.textContent = length === this.store.length ? `${count(length)} episodes` : `${count(length)} of ${count(this.store.length)} episodes`;
    this.space.style.height = `${length * ROW}px`;
  }

  private bringIntoSight(): void {
    const top = this.selected * ROW;
    if (top < this.box.scrollTop || top + ROW > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = Math.max(0, top - this.box.clientHeight / 3);
  }

  private draw(): void {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - MARGIN);
    const last = Math.min(this.shown.length - 1, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + MARGIN);
    for (const [at, row] of this.rows) if (at < first || at > last) { row.remove(); this.rows.delete(at); }
    for (let at = first; at <= last; at++) if (!this.rows.has(at)) {
      const row = this.row(at);
      this.rows.set(at, row);
      this.space.append(row);
    }
    this.mark();
  }

  private mark(): void {
    for (const [at, row] of this.rows) row.setAttribute('aria-selected', String(at === this.selected));
    const active = this.rows.get(this.selected);
    if (active === undefined) this.box.removeAttribute('aria-activedescendant');
    else this.box.setAttribute('aria-activedescendant', active.id);
  }

  private row(at: number): HTMLElement {
    const { store } = this;
    const { index } = store;
    const episode = this.shown[at] ?? 0;
    const outcome = store.outcome(episode);
    const reward = index.reward[episode] ?? null;
    const tools = store.text(index.tools[episode]);
    const flags = store.flags(episode).length;
    const row = h('div', { class: 'row', role: 'option', id: `row-${at}`, 'aria-setsize': this.shown.length, 'aria-posinset': at + 1, click: () => { this.selected = at; this.mark(); this.chosen(episode); } },
      h('span', { class: `outcome ${outcome}`, title: outcome }, { right: '✓', wrong: '✗', unscored: '?' }[outcome], h('span', { class: 'sr' }, ` ${outcome}, `)),
      h('span', { class: 'what', dir: 'auto' }, shortened(visible(store.text(index.question[episode]).slice(0, 200)), 160) || '(no question)'),
      h('span', { class: 'reward' }, h('span', { class: 'sr' }, ', reward '), reward === null ? '–' : signed(reward, 2)),
      h('span', { class: 'where' },
        h('span', { class: 'sr' }, ', '), this.manyRuns ? `run ${(index.run[episode] ?? 0) + 1} · ` : '', place(store, episode), ' · ', words(shortened(visible(store.text(index.class[episode])), 40)), ' · ',
        tools === '' ? 'no tool' : shortened(visible(tools), 60)),
      flags === 0 ? h('span', {}) : h('span', { class: store.faulty(episode) ? 'flags bad' : 'flags', title: store.flags(episode).map(([, text]) => text).join('; ') }, '⚑', h('span', { class: 'sr' }, `, ${store.flags(episode).map(([, text]) => text).join(', ')}`)));
    row.style.top = `${at * ROW}px`;
    return row;
  }

  private key(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const moves: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: page, PageUp: -page, Home: -this.shown.length, End: this.shown.length };
    const move = moves[event.key];
    if (move === undefined || this.shown.length === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.selected = Math.min(this.shown.length - 1, Math.max(0, this.selected + move));
    this.bringIntoSight();
    this.draw();
    const episode = this.shown[this.selected];
    if (episode !== undefined) this.chosen(episode);
  }
}

/** Where an episode stands, in words. */
export function place(store: Store, episode: number): string {
  const step = store.index.step[episode] ?? null;
  return step === null ? visible(evaluation(store.text(store.index.source[episode]))) : `step ${count(step)}, group ${store.index.group[episode]}, rollout ${store.index.rollout[episode]}`;
}
