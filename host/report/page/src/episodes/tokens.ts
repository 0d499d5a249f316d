// The tokens of an episode as the model read and wrote them: what was sampled is shaded, the rest is context.

import { h } from '../dom';
import { number, signed } from '../format';
import { visible } from '../text';
import { picture } from './picture';
import type { Store } from './store';
import type { Detail } from '../types';

export type Shade = 'mask' | 'logprob' | 'advantage';

/** Tokens drawn at first; the rest on demand. */
const FIRST = 3000;
/** The probability at which the shading is full. */
const FULL_AT = 0.01;
const LOGPROB_UNIT = -1e-4;

export function tokensView(store: Store, at: number, detail: Detail, shade: Shade): HTMLElement {
  const pieces = store.index.pieces[store.index.run[at] ?? 0] ?? {};
  const advantage = store.index.advantage[at] ?? null;
  const sampled = logprobs(detail);
  const readout = h('p', { class: 'readout', 'aria-live': 'polite' }, hint(detail, sampled.size));
  const text = h('div', { class: `tokens ${shade}`, tabindex: 0, role: 'group', 'aria-label': 'Tokens; arrow keys move from one to the next' });
  let images = 0;
  let current: HTMLElement | null = null;

  const tell = (element: HTMLElement): void => {
    current?.classList.remove('current');
    current = element;
    element.classList.add('current');
    const position = Number(element.dataset['at']);
    readout.textContent = said(position);
  };
  const said = (position: number): string => {
    const id = detail.tokens[position] ?? 0;
    const piece = pieces[id];
    const name = piece === undefined ? `token ${id}` : `“${visible(piece.replaceAll('\n', '↵'))}” (token ${id})`;
    const logprob = sampled.get(position);
    if (!sampled.has(position)) return `${position}: ${name}, context: not sampled, not trained on`;
    const known = logprob === null || logprob === undefined ? 'its log-probability is no number' : `log-probability ${signed(logprob, 4)}, probability ${number(Math.exp(logprob))}`;
    return `${position}: ${name}, sampled, ${known}${advantage === null ? '' : `, advantage ${signed(advantage, 2)}`}`;
  };

  const draw = (from: number, to: number): void => {
    const fragment = document.createDocumentFragment();
    for (let position = from; position < to; position++) {
      const id = detail.tokens[position] ?? 0;
      const piece = pieces[id];
      if (piece === '<|image_pad|>') {
        let end = position;
        while (end < to && detail.tokens[end] === id) end++;
        const image = store.index.image[at]?.[images];
        fragment.append(h('span', { class: 'token context image', 'data-at': position }, image === undefined ? '' : picture(store, image, `Image ${images + 1}`), `▦×${end - position}`));
        images++;
        position = end - 1;
        continue;
      }
      const logprob = sampled.get(position);
      const element = h('span', { class: sampled.has(position) ? 'token sampled' : 'token context', 'data-at': position }, piece === undefined ? `[${id}]` : visible(piece));
      if (sampled.has(position)) shadeIt(element, shade, logprob ?? null, advantage);
      fragment.append(element);
    }
    text.append(fragment);
    if (to < detail.tokens.length) {
      const more = h('button', { type: 'button', class: 'more' }, `Show the other ${detail.tokens.length - to} tokens`);
      more.addEventListener('click', () => { more.remove(); draw(to, detail.tokens.length); });
      text.append(more);
    }
  };
  draw(0, Math.min(FIRST, detail.tokens.length));
  text.addEventListener('mouseover', (event) => { const token = (event.target as HTMLElement).closest<HTMLElement>('.token'); if (token !== null) tell(token); });
  text.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowRight' && event.key !== 'ArrowLeft') return;
    event.preventDefault();
    const next = current === null ? text.querySelector<HTMLElement>('.token.sampled') : (event.key === 'ArrowRight' ? current.nextElementSibling : current.previousElementSibling) as HTMLElement | null;
    if (next?.classList.contains('token')) { tell(next); next.scrollIntoView({ block: 'nearest' }); }
  });
  return h('div', {}, legend(shade, advantage), readout, text);
}

/** Log-probability by position, of the sampled tokens. */
function logprobs(detail: Detail): Map<number, number | null> {
  const found = new Map<number, number | null>();
  let n = 0;
  for (let i = 0; i + 1 < detail.sampled.length; i += 2) {
    const [start, length] = [detail.sampled[i] ?? 0, detail.sampled[i + 1] ?? 0];
    for (let position = start; position < start + length; position++) {
      const units = detail.logprobs[n++];
      found.set(position, units === null || units === undefined ? null : units * LOGPROB_UNIT);
    }
  }
  return found;
}

function shadeIt(element: HTMLElement, shade: Shade, logprob: number | null, advantage: number | null): void {
  const strength = shade === 'mask' ? 0.35
    : shade === 'logprob' ? Math.min(1, (logprob ?? 0) / Math.log(FULL_AT))
    : Math.min(1, Math.abs(advantage ?? 0) / 2);
  element.style.setProperty('--strength', `${Math.round(70 * strength)}%`);
  if (shade === 'advantage' && (advantage ?? 0) < 0) element.classList.add('negative');
}

function legend(shade: Shade, advantage: number | null): HTMLElement {
  const explained = shade === 'mask' ? 'Shaded: tokens that the policy sampled and is trained on. Plain: prompt, forced text and tool results.'
    : shade === 'logprob' ? 'Shaded by how unlikely the sampled token was: none at probability 1, full at 0.01 and below.'
    : advantage === null ? 'The episode has no advantage: it belongs to no training group, or was not scored.'
    : `Shaded by the episode’s advantage, ${signed(advantage, 2)}: ${advantage < 0 ? 'these tokens are made less likely' : advantage > 0 ? 'these tokens are made more likely' : 'all of its group earned the same, so it teaches nothing'}.`;
  return h('p', { class: 'note' }, explained);
}

function hint(detail: Detail, sampled: number): string {
  return `${detail.tokens.length} tokens, ${sampled} of them sampled. Point at one, or use the arrow keys, to see its figures.`;
}
