// Exchanging parts of the page under the eyes of a reader: what is open stays open, what has the focus keeps it, nothing jumps.

const FOCUSABLE = 'button, a, input, select, summary, [tabindex]';

/** Puts `fresh` where `old` stands, unless it is the same; returns what stands there then. */
export function exchange(old: ChildNode, fresh: ChildNode): ChildNode {
  if (old.isEqualNode(fresh)) return old;
  if (!(old instanceof HTMLElement) || !(fresh instanceof HTMLElement)) {
    old.replaceWith(fresh);
    return fresh;
  }
  // What is being marked to be copied is exchanged when that is over.
  const marked = getSelection();
  if (marked !== null && !marked.isCollapsed && old.contains(marked.anchorNode)) return old;
  const before = [...old.querySelectorAll('details')].map((details) => details.open);
  const scrolled = [...old.querySelectorAll('.scroll')].map((box): [number, number] => [box.scrollLeft, box.scrollTop]);
  const focus = old.contains(document.activeElement) ? [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement as Element) : -1;
  old.replaceWith(fresh);
  fresh.querySelectorAll('details').forEach((details, at) => { if (before[at] === true) details.open = true; });
  fresh.querySelectorAll('.scroll').forEach((box, at) => { const [left, top] = scrolled[at] ?? [0, 0]; box.scrollLeft = left; box.scrollTop = top; });
  if (focus >= 0) (fresh.querySelectorAll(FOCUSABLE)[focus] as HTMLElement | undefined)?.focus({ preventScroll: true });
  return fresh;
}

/** Keeps the part at the top of the window where it is while `change` changes what stands around it. */
export function holdStill(change: () => void): void {
  const parts = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>('main > *')];
  const at = scrollY < 1 ? -1 : parts().findIndex((part) => part.getBoundingClientRect().bottom > 0);
  const id = parts()[at]?.id ?? '';
  const before = parts()[at]?.getBoundingClientRect().top ?? 0;
  change();
  const now = id === '' ? undefined : document.getElementById(id);
  const moved = now === undefined || now === null ? 0 : now.getBoundingClientRect().top - before;
  if (Math.abs(moved) >= 1) scrollBy({ top: moved, behavior: 'instant' });
}
