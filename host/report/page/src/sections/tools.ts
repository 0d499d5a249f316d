// Tools: how often, how fast, how they failed.

import { h, scrollable, section } from '../dom';
import { count, milliseconds, percent } from '../format';
import { visible } from '../text';
import type { PageData, Run, ToolCounts } from '../types';

export function tools(data: PageData): HTMLElement {
  const used = data.runs.filter((run) => run.counted.tools.length > 0);
  if (used.length === 0) return section('tools', 'Tools', 'No tool call is on record.');
  return section('tools', 'Tools', 'Calls of all episodes on record. A call that an equal one of its group answered is counted as shared and has no time of its own.',
    used.map((run) => oneRun(run, data.runs.length > 1)));
}

function oneRun(run: Run, named: boolean): HTMLElement {
  const failing = run.counted.tools.filter((tool) => tool.messages.length > 0);
  return h('div', {},
    named ? h('h3', {}, visible(run.name)) : null,
    scrollable('Tools', h('table', {},
      h('thead', {}, h('tr', {}, ['tool', 'calls', 'shared', 'failed', 'median', '90 %', '99 %', 'slowest', 'latency, 10 µs to 100 s'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, run.counted.tools.map((tool) => h('tr', {},
        h('th', { scope: 'row' }, visible(tool.name)),
        h('td', {}, count(tool.calls)),
        h('td', {}, percent(tool.calls === 0 ? null : tool.shared / tool.calls, 0)),
        h('td', { class: tool.failures > 0 ? 'bad' : '' }, tool.failures === 0 ? '0' : `${count(tool.failures)} (${percent(tool.failures / Math.max(1, tool.calls - tool.shared))})`),
        (tool.quantiles ?? [null, null, null, null]).map((ms) => h('td', {}, ms === null ? '–' : milliseconds(ms))),
        h('td', {}, histogram(tool))))))),
    failing.length === 0 ? null : h('details', {}, h('summary', {}, 'What failed calls said'),
      failing.map((tool) => [h('h4', {}, visible(tool.name)), h('ul', { class: 'messages' }, tool.messages.map(([text, n]) => h('li', {}, h('b', {}, `${count(n)}×`), ' ', h('code', { dir: 'auto' }, visible(text)))))])),
    Object.keys(run.counted.abstained).length === 0 ? null : h('details', {}, h('summary', {}, 'Why rewards abstained'),
      h('ul', { class: 'messages' }, Object.entries(run.counted.abstained).map(([text, n]) => h('li', {}, h('b', {}, `${count(n)}×`), ' ', h('code', { dir: 'auto' }, visible(text)))))));
}

function histogram(tool: ToolCounts): HTMLElement {
  const most = Math.max(1, ...tool.histogram);
  const bars = tool.histogram.map((n) => {
    const bar = h('span', {});
    bar.style.height = n === 0 ? '1px' : `${Math.max(8, (100 * n) / most)}%`;
    return bar;
  });
  const q = tool.quantiles;
  return h('span', { class: 'histogram', role: 'img', 'aria-label': q === null ? 'no calls' : `half of the calls within ${milliseconds(q[0])}, all within ${milliseconds(q[3])}` }, bars);
}
