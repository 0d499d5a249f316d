// Making elements. Text only ever becomes a text node; there is no way here to hand over markup.

type Child = Node | string | number | null | undefined | false | Child[];
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

function fill(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
}

export function append(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** An element: `h('p', { class: 'note' }, 'text', other)`. A function as an attribute listens to the event of that name. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

/** The same in SVG. */
export function svg<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  fill(element, attributes, children);
  return element;
}

/** A part of the page with a heading that links can point to. */
export function section(id: string, title: string, lead: string | null, ...children: Child[]): HTMLElement {
  return h('section', { id, 'aria-labelledby': `${id}-title` },
    h('h2', { id: `${id}-title` }, title),
    lead === null ? null : h('p', { class: 'lead' }, lead),
    ...children);
}

/** A table in a box that scrolls by itself on narrow screens, and can be scrolled by keyboard. */
export function scrollable(label: string, table: HTMLTableElement): HTMLElement {
  return h('div', { class: 'scroll', role: 'group', 'aria-label': label, tabindex: 0 }, table);
}

/** A drop-down with its label. */
export function select(
  label: string, options: [value: string, text: string][], value: string, changed: (value: string) => void,
): { element: HTMLElement; input: HTMLSelectElement } {
  const input = h('select', {}, options.map(([key, text]) => h('option', { value: key }, text)));
  input.value = value;
  input.addEventListener('change', () => changed(input.value));
  return { element: h('label', { class: 'field' }, h('span', {}, label), input), input };
}

/** Choices of which one holds, as buttons. */
export function choice(
  label: string, options: [value: string, text: string][], value: string, changed: (value: string) => void,
): { element: HTMLElement; set: (value: string) => void } {
  const buttons = options.map(([key, text]) => h('button', { type: 'button', value: key, click: () => { set(key); changed(key); } }, text));
  const set = (chosen: string): void => buttons.forEach((button) => button.setAttribute('aria-pressed', String(button.value === chosen)));
  set(value);
  return { element: h('div', { class: 'choice', role: 'group', 'aria-label': label }, buttons), set };
}
