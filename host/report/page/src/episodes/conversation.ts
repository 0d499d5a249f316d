// An episode as a conversation: question, turns, tool calls with their raw results, reward.

import { h } from '../dom';
import { milliseconds, number, signed, words } from '../format';
import { visible } from '../text';
import type { Detail } from '../types';
import { picture } from './picture';
import type { Store } from './store';

/** Characters of a result shown at first. */
const LONG = 4000;

/** Text of any length: what is long is cut until it is asked for. */
export function long(text: string, most = LONG): HTMLElement {
  const box = h('pre', { dir: 'auto' }, visible(text.slice(0, most)));
  if (text.length <= most) return box;
  const more = h('button', { type: 'button', class: 'more' }, `Show all ${text.length.toLocaleString('en')} characters`);
  more.addEventListener('click', () => { box.textContent = visible(text); more.remove(); });
  return h('div', {}, box, more);
}

export function conversation(store: Store, at: number, detail: Detail): HTMLElement {
  const { index } = store;
  const images = index.image[at] ?? [];
  const shown = imagesByCall(detail, images.length);
  const own = images.slice(0, images.length - shown.reduce((sum, n) => sum + n, 0));
  let next = own.length;
  const parts: HTMLElement[] = [
    h('div', { class: 'turn asked' }, h('h4', {}, 'Question'),
      own.length === 0 ? null : h('p', { class: 'pictures' }, own.map((image, i) => picture(store, image, `Image ${i + 1} of the question`))),
      h('p', { class: 'question', dir: 'auto' }, visible(store.text(index.question[at])))),
  ];
  detail.turns.forEach(([, , text], turn) => {
    parts.push(h('div', { class: 'turn policy' }, h('h4', {}, `Turn ${turn + 1}`), marked(text)));
    const call = detail.calls[turn];
    if (call !== undefined) {
      const count = shown[turn] ?? 0;
      parts.push(callView(store, call, images.slice(next, next + count)));
      next += count;
    }
  });
  detail.calls.slice(detail.turns.length).forEach((call) => parts.push(callView(store, call, [])));
  parts.push(ending(store, at, detail));
  return h('div', { class: 'conversation' }, parts);
}

/** How many images each call brought: as many as its result names, as far as the episode has them. */
function imagesByCall(detail: Detail, images: number): number[] {
  const named = detail.calls.map((call) => (call.ok ? (call.result.match(/\[image sha256:[0-9a-f]{64}\]/g) ?? []).length : 0));
  const most = Math.max(0, images - 1);
  return named.reduce((sum, n) => sum + n, 0) <= most || images === 0 ? named.map((n) => (images === 0 ? 0 : n)) : named.map(() => 0);
}

/** A turn's text with the protocol's tags told apart from what is said. */
function marked(text: string): HTMLElement {
  if (text.length > LONG) return long(text);
  return h('p', { class: 'said', dir: 'auto' }, text.split(/(<[^<>]{1,40}>)/).map((part, i) => (i % 2 === 1 ? h('code', { class: 'tag' }, visible(part)) : visible(part))));
}

function callView(store: Store, call: Detail['calls'][number], images: number[]): HTMLElement {
  return h('div', { class: `turn call ${call.ok ? '' : 'failed'}` },
    h('h4', {}, visible(call.tool), h('span', { class: 'facts-line' },
      call.ok ? '' : ' failed', call.shared ? ' · answered by an equal call of the group' : '', ` · ${milliseconds(call.ms)}`)),
    call.argument === '' ? null : h('p', { class: 'argument', dir: 'auto' }, visible(call.argument.slice(0, LONG))),
    images.length === 0 ? null : h('p', { class: 'pictures' }, images.map((image, i) => picture(store, image, `Image ${i + 1} of the result`))),
    long(call.result));
}

function ending(store: Store, at: number, detail: Detail): HTMLElement {
  const { index } = store;
  const reward = index.reward[at] ?? null;
  const advantage = index.advantage[at] ?? null;
  const facts: [string, string][] = [
    ['answer', visible(store.text(index.answer[at])) || 'none'],
    ['truth', [store.text(index.truth[at]), ...detail.candidates].map(visible).join(' / ') || 'unknown'],
    ['ended', words(store.text(index.ending[at])) || 'unknown'],
    ['reward', reward === null ? detail.abstained === null ? 'none' : `abstained: ${visible(detail.abstained)}` : number(reward)],
    ...detail.components.map(([name, value]): [string, string] => [`· ${visible(name)}`, number(value)]),
    ...detail.others.flatMap((other): [string, string][] => [
      [`by ${visible(other.reward)}`, other.abstained === null ? number(other.total) : `abstained: ${visible(other.abstained)}`],
      ...other.components.map(([name, value]): [string, string] => [`· ${visible(name)} by ${visible(other.reward)}`, number(value)]),
    ]),
    ...(advantage === null ? [] : [['advantage', signed(advantage, 3)] as [string, string]]),
    ['calls', `${detail.calls.length} of ${detail.calls_allowed} allowed`],
  ];
  return h('div', { class: `turn outcome-box ${store.outcome(at)}` }, h('h4', {}, { right: 'Right', wrong: 'Wrong', unscored: 'Not scored' }[store.outcome(at)]),
    h('dl', { class: 'facts' }, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', { dir: 'auto' }, value)))),
    store.flags(at).length === 0 ? null : h('ul', { class: 'flag-list' }, store.flags(at).map(([, text]) => h('li', {}, `⚑ ${text}`))));
}
