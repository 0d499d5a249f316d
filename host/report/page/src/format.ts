// Figures as people read them.

import type { Estimate } from './types';

const DASH = '–';
const SUPERSCRIPTS = '⁰¹²³⁴⁵⁶⁷⁸⁹';
const integer = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const count = (n: number): string => integer.format(n);
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

/** A number with as many digits as it deserves. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 1e-3 || size >= 1e6) return powerOfTen(value);
  if (size >= 100) return integer.format(value).replace('-', '−');
  return signed(value, size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

function powerOfTen(value: number): string {
  const [digits, exponent] = value.toExponential(1).split('e');
  const raised = [...String(Number(exponent))].map((digit) => (digit === '-' ? '⁻' : SUPERSCRIPTS[Number(digit)])).join('');
  return `${digits}·10${raised}`.replace(/^-/, '−');
}

export const percent = (share: number | null | undefined, digits = 1): string =>
  share === null || share === undefined || !Number.isFinite(share) ? DASH : `${(100 * share).toFixed(digits)}\u202f%`;

export const interval = (e: Estimate): string => `${(100 * e.low).toFixed(0)}–${(100 * e.high).toFixed(0)}`;

/** A difference of shares, in points. */
export function points(difference: number): string {
  const text = Math.abs(100 * difference).toFixed(1);
  return text === '0.0' ? '±0.0' : `${difference < 0 ? '−' : '+'}${text}`;
}

export function signed(value: number, digits: number): string {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 ? `−${text}` : text;
}

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return DASH;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export const milliseconds = (ms: number): string =>
  ms >= 1000 ? `${(ms / 1000).toFixed(ms >= 10_000 ? 0 : 1)} s` : ms >= 10 ? `${ms.toFixed(0)} ms` : ms >= 1 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(2)} ms`;

export const bytes = (n: number | null | undefined): string =>
  n === null || n === undefined ? DASH : n >= 2 ** 30 ? `${(n / 2 ** 30).toFixed(2)} GiB` : `${(n / 2 ** 20).toFixed(0)} MiB`;

export const moment = (ms: number | null | undefined): string =>
  ms === null || ms === undefined ? DASH : new Date(ms).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** `both_required` as words. */
export const words = (name: string): string => (name === '' ? 'without a class' : name.replaceAll('_', ' '));

const WORKFLOWS: Record<string, string> = { direct: 'direct', rag: 'RAG', on_demand: 'on-demand', 'on-demand': 'on-demand', on_demand_sampled: 'on-demand, sampled' };
export const workflow = (name: string): string => WORKFLOWS[name] ?? words(name);
export const split = (name: string): string => (name === 'test' ? 'test' : name === 'held_out' ? 'held out' : words(name));

/** Orders evaluations so that base and trained policy stand beside each other: by split, then workflow. */
export function evaluationOrder(label: string): string {
  const [who, how] = label.split('/', 2);
  const parts = /^(base|trained)-(.*)$/.exec(who ?? '');
  if (parts === null) return `3${label}`;
  const rank = Object.keys(WORKFLOWS).indexOf(how ?? '');
  return [parts[2] === 'test' ? 1 : 2, parts[2], rank < 0 ? 9 : rank, how, parts[1]].join('/');
}

/** An evaluation's label, `base-test/on_demand`, in words. */
export function evaluation(label: string): string {
  const [who, how] = label.split('/', 2);
  const parts = /^(base|trained)-(.*)$/.exec(who ?? '');
  if (parts === null || how === undefined) return label;
  return `${parts[1]}, ${split(parts[2] ?? '')}, ${workflow(how)}`;
}
