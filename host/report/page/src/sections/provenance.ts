// Where the figures come from: program, plugins, configuration, seed, times, and what this page holds.

import { h, section } from '../dom';
import { bytes, count, duration, moment, number, words } from '../format';
import { visible } from '../text';
import type { PageData, Run } from '../types';

export function provenance(data: PageData): HTMLElement {
  return section('provenance', 'Provenance', 'With what the figures were made, so that they can be made again.',
    data.runs.map((run) => h('div', { class: 'provenance' }, data.runs.length > 1 ? h('h3', {}, visible(run.name)) : null, oneRun(run))));
}

function oneRun(run: Run): HTMLElement[] {
  const selection = run.selection;
  const facts: [string, string][] = [
    ['directory', visible(run.path)],
    ['program', run.version === null ? 'unknown' : `mmhost ${visible(run.version)}`],
    ['seed', visible(run.seed ?? 'unknown')],
    ['begun', moment(run.started_ms)],
    ['last written', moment(run.written_ms)],
    ['checkpoints', run.checkpoints.length === 0 ? 'none' : run.checkpoints.map((step) => `step ${count(step)}`).join(', ')],
    ...Object.entries(run.summary.timing).map(([phase, seconds]): [string, string] => [`time, ${words(phase)}`, duration(seconds)]),
    ...(run.summary.peak_memory_bytes === null ? [] : [['most memory', bytes(run.summary.peak_memory_bytes)] as [string, string]]),
    ...Object.entries(run.summary.invariants).map(([name, value]): [string, string] => [words(name), number(value)]),
    ['episodes', `${count(selection.episodes)} on record, ${count(selection.shown)} in this page`],
  ];
  const plugins = Object.entries(run.plugins);
  return [
    h('dl', { class: 'facts' }, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))),
    plugins.length === 0 ? h('p', {}, 'The plugins’ digests are not on record.')
      : h('dl', { class: 'facts plugins' }, plugins.map(([name, digest]) => h('div', {}, h('dt', {}, `plugin ${visible(name)}`), h('dd', {}, h('code', {}, visible(digest)))))),
    run.config_text === null ? h('p', {}, 'The configuration is not on record.')
      : h('details', {}, h('summary', {}, 'Configuration (run.toml)'), h('pre', { tabindex: 0, 'aria-label': 'run.toml' }, visible(run.config_text))),
  ];
}
