// A whole group side by side: the rollouts of one question, or every answer that the evaluations gave to it.

import { h } from '../dom';
import { evaluation, milliseconds, number, signed } from '../format';
import { shortened, visible } from '../text';
import { picture } from './picture';
import type { Store } from './store';

export async function sideBySide(store: Store, at: number, open: (episode: number) => void): Promise<HTMLElement> {
  const { index } = store;
  const members = store.group(at);
  const details = await Promise.all(members.map((member) => store.detail(member)));
  const training = (index.step[at] ?? null) !== null;
  const cards = members.map((member, i) => {
    const detail = details[i];
    const reward = index.reward[member] ?? null;
    const advantage = index.advantage[member] ?? null;
    const name = training ? `Rollout ${index.rollout[member]}` : visible(evaluation(store.text(index.source[member])));
    return h('li', { class: `card ${store.outcome(member)} ${member === at ? 'here' : ''}` },
      h('button', { type: 'button', class: 'link', click: () => open(member), ...(member === at ? { 'aria-current': 'true' } : {}) }, name),
      h('p', { class: 'facts-line' }, `${{ right: '✓ right', wrong: '✗ wrong', unscored: '? not scored' }[store.outcome(member)]} · reward ${number(reward)}`,
        advantage === null ? '' : ` · advantage ${signed(advantage, 2)}`),
      h('ol', { class: 'steps' }, detail?.turns.flatMap(([, , text], turn) => {
        const call = detail.calls[turn];
        return [
          h('li', { class: 'policy', dir: 'auto' }, shortened(visible(text.slice(0, 1200)), 600)),
          call === undefined ? null : h('li', { class: call.ok ? 'call' : 'call failed', dir: 'auto' }, `${visible(call.tool)} (${call.shared ? 'shared' : milliseconds(call.ms)}): `, shortened(visible(call.result.slice(0, 1200).replace(/\[image sha256:[0-9a-f]{64}\]/g, '[image] ')), 240)),
        ];
      })));
  });
  const intro = training
    ? `The ${members.length} rollouts of this question in step ${index.step[at]}: their advantages are told against each other.`
    : `What the evaluations answered to this question (${members.length}).`;
  const shown = index.image[at]?.[0];
  const asked = h('div', { class: 'asked-once' }, shown === undefined ? null : picture(store, shown, 'First image of the question'),
    h('div', {}, h('p', { class: 'question', dir: 'auto' }, visible(store.text(index.question[at]))),
      h('p', { class: 'facts-line', dir: 'auto' }, `truth: ${visible(store.text(index.truth[at]))}`), h('p', { class: 'note' }, intro)));
  return h('div', {}, asked, h('ul', { class: 'cards' }, cards));
}
