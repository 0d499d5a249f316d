// Line charts over training steps: uPlot draws, this file gives them names, legends, bands, smoothing and a table for those who cannot see.

import uPlot from 'uplot';
import { h } from './dom';
import { count } from './format';
import { visible } from './text';
import { colour, onTheme } from './theme';

export interface Line {
  label: string;
  /** A colour of style.css. */
  colour: string;
  values: (number | null)[];
  /** Lowest and highest around the line. */
  band?: { low: (number | null)[]; high: (number | null)[] } | undefined;
  dash?: number[] | undefined;
}

export interface ChartOptions {
  title: string;
  /** What the figure means, in a few words. */
  note?: string;
  steps: number[];
  lines: Line[];
  format: (value: number) => string;
  /** Ends of the vertical axis that always show. */
  range?: [number | null, number | null];
  /** Draw the areas between the lines, first line uppermost. */
  stacked?: boolean;
  /** What legend and table tell instead of the lines' own values: of stacked lines, the heights of the areas. */
  shown?: (number | null)[][];
}

const HEIGHT = 190;
const drawn = new Set<Chart>();
const sync = uPlot.sync('steps');
let smoothing = 0;

/** Steps on each side that every line is averaged over. */
export function setSmoothing(steps: number): void {
  if (steps === smoothing) return;
  smoothing = steps;
  drawn.forEach((chart) => chart.redraw());
}

/** Draws charts that have not been looked at yet: paper shows them all. */
export const drawAll = (): void => drawn.forEach((chart) => chart.draw());

onTheme(() => drawn.forEach((chart) => chart.redraw()));

/** The mean over a window, of what is there. */
export function smoothed(values: (number | null)[], reach: number): (number | null)[] {
  if (reach === 0) return values;
  return values.map((value, at) => {
    if (value === null) return null;
    let sum = 0;
    let n = 0;
    for (let i = Math.max(0, at - reach); i <= Math.min(values.length - 1, at + reach); i++) {
      const other = values[i];
      if (other !== null && other !== undefined) { sum += other; n++; }
    }
    return sum / n;
  });
}

export class Chart {
  readonly element: HTMLElement;
  private readonly plot = h('div', { class: 'plot', role: 'img' });
  private legend: HTMLElement[] = [];
  private readonly legends = h('ul', { class: 'legend', 'aria-hidden': 'true' });
  private readonly figures: HTMLDetailsElement;
  private readonly where = h('span', { class: 'where' });
  private chart: uPlot | null = null;

  private options: ChartOptions;

  constructor(given: ChartOptions) {
    const options = this.options = safe(given);
    this.fillLegend();
    this.figures = this.table();
    this.plot.style.height = `${HEIGHT}px`;
    this.element = h('figure', { class: 'chart' },
      h('figcaption', {}, h('span', { class: 'chart-title' }, options.title), options.note === undefined ? null : h('span', { class: 'chart-note' }, options.note)),
      this.legends, this.plot, this.figures);
    drawn.add(this);
    new IntersectionObserver((entries, observer) => {
      if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); this.draw(); }
    }, { rootMargin: '400px' }).observe(this.plot);
    new ResizeObserver(() => this.chart?.setSize({ width: this.plot.clientWidth, height: HEIGHT })).observe(this.plot);
  }

  /** Goes on with other values: the drawing, an open table and where it is scrolled to stay. */
  update(given: ChartOptions): void {
    this.options = safe(given);
    this.fillLegend();
    const table = this.figures.children[1];
    if (table !== undefined) {
      const fresh = this.rows();
      table.replaceWith(fresh);
      [fresh.scrollTop, fresh.scrollLeft] = [table.scrollTop, table.scrollLeft];
    }
    if (this.chart === null) return;
    const { series, data } = this.content();
    if (series.length === this.chart.series.length) this.chart.setData(data as uPlot.AlignedData);
    else this.redraw();
  }

  private fillLegend(): void {
    const { options } = this;
    this.legend = options.lines.map(() => h('b', {}));
    const legend = options.lines.map((line, at) =>
      h('li', {}, h('span', { class: 'swatch' }), line.label, ' ', this.legend[at]));
    legend.forEach((item, at) => {
      const swatch = item.firstElementChild as HTMLElement;
      swatch.style.background = `var(${options.lines[at]?.colour})`;
    });
    this.plot.setAttribute('aria-label', this.description());
    this.legends.replaceChildren(...legend, h('li', {}, this.where));
    this.showValues(null);
  }

  private shown(line: number): (number | null)[] {
    return this.options.shown?.[line] ?? this.options.lines[line]?.values ?? [];
  }

  /** From where to where each line goes, in words. */
  private description(): string {
    const { title, lines, steps, format } = this.options;
    const parts = lines.map((line, at) => {
      const there = this.shown(at).filter((value): value is number => value !== null);
      const [first, last] = [there[0], there.at(-1)];
      if (first === undefined || last === undefined) return `${line.label}: no values`;
      return `${line.label}: from ${format(first)} to ${format(last)}, lowest ${format(Math.min(...there))}, highest ${format(Math.max(...there))}`;
    });
    return `${title}, steps ${steps[0] ?? 0} to ${steps.at(-1) ?? 0}. ${parts.join('. ')}.`;
  }

  /** The same figures in a table, made when it is opened. */
  private table(): HTMLDetailsElement {
    const details = h('details', { class: 'figures' }, h('summary', {}, 'Figures', h('span', { class: 'sr' }, ` of ${this.options.title}`)));
    details.addEventListener('toggle', () => { if (details.childElementCount === 1) details.append(this.rows()); });
    return details;
  }

  private rows(): HTMLElement {
    const { lines, steps, format, title } = this.options;
      const every = Math.max(1, Math.ceil(steps.length / 60));
      const rows = steps.flatMap((step, at) => (at % every === 0 || at === steps.length - 1 ? [[step, at] as const] : []));
      const cell = (value: number | null | undefined): string => (value === null || value === undefined ? '–' : format(value));
      const columns = lines.map((_, at) => this.shown(at));
      return h('div', { class: 'scroll', role: 'group', tabindex: 0, 'aria-label': `Figures of ${title}` },
        h('table', {},
          h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'step'), lines.map((line) => h('th', { scope: 'col' }, line.label)))),
          h('tbody', {}, rows.map(([step, at]) => h('tr', {}, h('th', { scope: 'row' }, count(step)), columns.map((values) => h('td', {}, cell(values[at]))))))));
  }

  private showValues(at: number | null): void {
    const { lines, steps, format } = this.options;
    lines.forEach((_, i) => {
      const values = this.shown(i);
      const value = at === null ? values.findLast((v) => v !== null) : values[at];
      const element = this.legend[i];
      if (element !== undefined) element.textContent = value === null || value === undefined ? '–' : format(value);
    });
    this.where.textContent = at === null ? '' : `step ${count(steps[at] ?? 0)}`;
  }

  /** What uPlot draws. */
  private content(): { series: uPlot.Series[]; data: (number | null)[][]; bands: uPlot.Band[] } {
    const { lines, steps } = this.options;
    const series: uPlot.Series[] = [{}];
    const data: (number | null)[][] = [steps];
    const bands: uPlot.Band[] = [];
    for (const line of lines) {
      const stroke = colour(line.colour);
      if (line.band !== undefined) {
        series.push({ stroke: 'transparent', points: { show: false } }, { stroke: 'transparent', points: { show: false } });
        data.push(smoothed(line.band.high, smoothing), smoothed(line.band.low, smoothing));
        bands.push({ series: [data.length - 2, data.length - 1], fill: translucent(stroke, 0.18) });
      } else if (smoothing > 0 && lines.length <= 2 && this.options.stacked !== true) {
        // Single steps behind their mean; with more lines they would only hide each other.
        series.push({ stroke: translucent(stroke, 0.22), width: 1, points: { show: false } });
        data.push(line.values);
      }
      const single = line.values.filter((value) => value !== null).length === 1;
      series.push({
        stroke, width: this.options.stacked === true ? 0 : 1.75, points: { show: single, fill: stroke },
        ...(line.dash === undefined ? {} : { dash: line.dash }), ...(this.options.stacked === true ? { fill: stroke } : {}),
      });
      data.push(this.options.stacked === true ? line.values : smoothed(line.values, smoothing));
    }
    return { series, data, bands };
  }

  draw(): void {
    if (this.chart !== null || this.options.steps.length === 0) return;
    const { series, data, bands } = this.content();
    const ink = colour('--muted');
    const grid = colour('--grid');
    const axis: uPlot.Axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    const format = this.options.format;
    this.chart = new uPlot({
      width: this.plot.clientWidth || 320, height: HEIGHT, series, bands, padding: [8, 16, 0, 0],
      scales: { x: { time: false }, y: { range: (_, low, high) => extent(low, high, this.options.range) } },
      axes: [{ ...axis, size: 26, space: 70 }, { ...axis, size: 48, space: 34, values: (_, splits) => splits.map((value) => format(value)) }],
      legend: { show: false },
      cursor: { sync: { key: sync.key }, points: { show: false }, drag: { x: false, y: false }, y: false },
      hooks: { setCursor: [(chart) => this.showValues(chart.cursor.idx ?? null)] },
    }, data as uPlot.AlignedData, this.plot);
  }

  redraw(): void {
    if (this.chart === null) return;
    this.chart.destroy();
    this.chart = null;
    this.draw();
  }
}

/** Names of runs and classes come from outside. */
const safe = (given: ChartOptions): ChartOptions => ({ ...given, title: visible(given.title), lines: given.lines.map((line) => ({ ...line, label: visible(line.label) })) });

const kept = new Map<string, Chart>();

/** The chart of this name with these values: the one that stands already, where the page goes on. */
export function chart(options: ChartOptions): Chart {
  const there = kept.get(options.title);
  if (there !== undefined) {
    there.update(options);
    return there;
  }
  const made = new Chart(options);
  kept.set(options.title, made);
  return made;
}

function extent(low: number | null, high: number | null, fixed: [number | null, number | null] | undefined): [number, number] {
  let from = low ?? 0;
  let to = high ?? 1;
  if (from === to) { from -= Math.abs(from) * 0.1 || 0.5; to += Math.abs(to) * 0.1 || 0.5; }
  const margin = (to - from) * 0.06;
  return [fixed?.[0] ?? from - margin, fixed?.[1] ?? to + margin];
}

function translucent(hex: string, alpha: number): string {
  const value = Number.parseInt(hex.slice(1), 16);
  return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${alpha})`;
}
