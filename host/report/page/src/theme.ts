// Light, dark, or as the system says; charts are told when it changes, and print is always light.

import { choice } from './dom';

const listeners: (() => void)[] = [];
const dark = window.matchMedia('(prefers-color-scheme: dark)');
let chosen = 'auto';
let printing = false;

function apply(): void {
  const isDark = !printing && (chosen === 'dark' || (chosen === 'auto' && dark.matches));
  document.documentElement.dataset['theme'] = isDark ? 'dark' : 'light';
  listeners.forEach((listener) => listener());
}

/** Calls `listener` after every change of colours. */
export const onTheme = (listener: () => void): void => void listeners.push(listener);

/** The value of a colour of style.css, e.g. `--ink`. */
export const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function startTheme(beforePrint: () => void): HTMLElement {
  dark.addEventListener('change', apply);
  window.addEventListener('beforeprint', () => { printing = true; beforePrint(); apply(); });
  window.addEventListener('afterprint', () => { printing = false; apply(); });
  apply();
  return choice('Colours', [['auto', 'Auto'], ['light', 'Light'], ['dark', 'Dark']], chosen, (value) => { chosen = value; apply(); }).element;
}
