// The images of an episode.

import { h } from '../dom';
import { count } from '../format';
import type { Picture } from '../types';
import type { Store } from './store';

/** The image in its place; what is missing says so. */
export function picture(store: Store, image: number, name: string): HTMLElement {
  const found = store.picture(image);
  if (!(found instanceof Promise)) return shown(found, name);
  const place = h('span', { class: 'no-picture' }, `${name} …`);
  found.then((picture) => place.replaceWith(shown(picture, name)), () => place.replaceWith(shown(null, name)));
  return place;
}

function shown(found: Picture, name: string): HTMLElement {
  if (found === null) return h('span', { class: 'no-picture' }, `${name}: not in this page`);
  const [width, height, data] = found;
  const type = data.startsWith('/9j/') ? 'jpeg' : data.startsWith('UklG') ? 'webp' : 'png';
  const size = `${count(width)} × ${count(height)} pixels`;
  const element = h('img', { alt: `${name}, ${size}`, title: `${name}, ${size}`, src: `data:image/${type};base64,${data}` });
  // Small images are shown larger, with their pixels visible as such.
  const zoom = Math.max(1, Math.min(2, Math.floor(160 / Math.max(width, height, 1))));
  element.style.width = `${Math.min(width * zoom, 240)}px`;
  return element;
}
