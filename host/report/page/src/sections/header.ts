// The top of the page: what is reported, in what state, and what is missing.

import { h } from '../dom';
import { moment, plural } from '../format';
import { visible } from '../text';
import type { PageData, Run, State } from '../types';

const STATES: Record<State, string> = { finished: 'finished', running: 'running', stopped: 'stopped early', empty: 'nothing recorded yet' };

function progress(run: Run): string {
  const last = run.steps.at(-1) ?? 0;
  const planned = run.planned_steps === null ? '' : ` of ${run.planned_steps}`;
  return run.state === 'finished' ? plural(last, 'step') : `step ${last}${planned}`;
}

export function badge(run: Run): HTMLElement {
  return h('span', { class: `badge ${run.state}` }, STATES[run.state], run.state === 'empty' ? '' : ` · ${progress(run)}`);
}

export function header(data: PageData, links: [id: string, title: string][], theme: HTMLElement): HTMLElement {
  return h('header', {},
    h('div', { class: 'bar' },
      h('div', { class: 'title' },
        h('h1', {}, data.runs.length === 1 ? visible(data.runs[0]?.name ?? '') : plural(data.runs.length, 'run')),
        data.runs.length === 1 && data.runs[0] !== undefined ? badge(data.runs[0]) : null),
      theme),
    h('p', { class: 'made' }, `Report of ${moment(data.made_ms)} by mmhost ${data.version}`,
      data.runs.some((run) => run.state === 'running') ? '; it shows the run as it stood then' : ''),
    h('nav', { 'aria-label': 'Parts of the report' }, links.map(([id, title]) => h('a', { href: `#${id}` }, title))));
}

/** What is missing or damaged, run by run; nothing where nothing is. */
export function problems(data: PageData): HTMLElement | null {
  const told = data.runs.map((run) => ({ run, sentences: [...explained(run), ...run.problems] })).filter(({ sentences }) => sentences.length > 0);
  if (told.length === 0) return null;
  return h('aside', { class: 'notice', 'aria-label': 'What is missing' },
    h('h2', {}, 'What is missing here'),
    told.map(({ run, sentences }) => [
      data.runs.length > 1 ? h('h3', {}, visible(run.name)) : null,
      h('ul', {}, sentences.map((sentence) => h('li', {}, visible(sentence)))),
    ]));
}

function explained(run: Run): string[] {
  const last = run.steps.at(-1) ?? 0;
  switch (run.state) {
    case 'finished': return [];
    case 'running': return [`The run is going on (${progress(run)}): the trained policy has not been evaluated yet.`];
    case 'empty': return ['The run was begun, and nothing has been recorded yet: neither an evaluation nor a step.'];
    case 'stopped': return [
      `The run stopped after step ${last}${run.planned_steps === null ? '' : ` of ${run.planned_steps}`} without its summary: it was killed, or it failed. ` +
      'The trained policy was not evaluated. `mmhost train --resume --run` with its directory goes on from the last complete checkpoint' +
      `${run.checkpoints.length === 0 ? ', but there is none.' : ` (step ${run.checkpoints.at(-1)}).`}`,
    ];
  }
}
