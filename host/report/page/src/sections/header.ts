// The top of the page: what is reported, in what state, and what is missing.

import { h } from '../dom';
import { moment, plural } from '../format';
import type { Connection } from '../live';
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

export interface Header {
  element: HTMLElement;
  /** Goes on with what is new. */
  update: (data: PageData, links: [id: string, title: string][]) => void;
  /** Tells how the connection of a live page is. */
  connection: (connection: Connection) => void;
}

const CONNECTIONS: Record<Connection, string> = {
  live: 'Live: what is new appears by itself.',
  lost: 'The connection to mmhost watch is lost; trying again.',
  over: 'mmhost watch has ended. The page shows what was there last.',
};

export function header(data: PageData, links: [id: string, title: string][], theme: HTMLElement): Header {
  const title = h('div', { class: 'title' });
  const made = h('p', { class: 'made' });
  const status = h('p', { class: 'connection', role: 'status' });
  const nav = h('nav', { 'aria-label': 'Parts of the report' });
  let told = '';
  const update = (fresh: PageData, parts: [id: string, title: string][]): void => {
    const [run] = fresh.runs;
    title.replaceChildren(
      h('h1', {}, fresh.runs.length === 1 ? visible(run?.name ?? '') : plural(fresh.runs.length, 'run')),
      fresh.runs.length === 1 && run !== undefined ? badge(run) : '');
    made.textContent = fresh.live === null
      ? `Report of ${moment(fresh.made_ms)} by mmhost ${fresh.version}${fresh.runs.some((one) => one.state === 'running') ? '; it shows the run as it stood then' : ''}`
      : `Watched by mmhost ${fresh.version}; last written ${moment(run?.written_ms)}`;
    // Links are exchanged only when there are others: one of them may have the focus.
    if (parts.join() === told) return;
    told = parts.join();
    nav.replaceChildren(...parts.map(([id, name]) => h('a', { href: `#${id}` }, name)));
  };
  update(data, links);
  return {
    element: h('header', {}, h('div', { class: 'bar' }, title, theme), made, data.live === null ? null : status, nav),
    update,
    connection: (connection) => {
      if (status.textContent !== CONNECTIONS[connection]) status.textContent = CONNECTIONS[connection];
      status.classList.toggle('bad', connection !== 'live');
    },
  };
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
