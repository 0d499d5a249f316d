// Regenerates flags.png and facts.json, the raw material of the built-in atlas.
//
//   npm install --no-save flag-icons@7.5.0 circle-flags@2.8.3 countries-list@3.4.1 @resvg/resvg-js@2.6.2 pngjs@7.0.0
//   node generate.mjs
//
// flags.png  one sheet of TILE×TILE RGB tiles, COLUMNS to a row: first the entities in the order of facts.json, then the unnamed flags.
// facts.json entities with their facts, and the codes of the unnamed flags (flags that no entity of the atlas bears: territories,
//            regions, organisations, and flags too close to an entity's flag). They serve as flags whose name nobody is taught.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { continents, countries, languages } from 'countries-list';
import { Resvg } from '@resvg/resvg-js';
import { PNG } from 'pngjs';

const TILE = 72; // pixels; the 4:3 drawing is squeezed to a square
const COLUMNS = 17;
const ENTITIES = 180;
// Distances of two flags: root mean square over an 8×8 colour layout, colours in 0..1. Closer than the first, one is a drawing of the
// other; closer than the second, a camera of 56 pixels in poor light may confuse them, and only one of them is an entity.
const SAME = 0.1;
const ALIKE = 0.16;
// Dependent territories and other non-members come last, so that of two flags that look alike the sovereign state's is kept.
const LAST = new Set(('ac ai as aw ax bl bm bq bv cc ck cw cx eh fk fo gf gg gi gl gp gs gu hk im io je ky mf mo mp mq ms '
  + 'nc nf nu pf pm pn pr re sh sj sx tc tf tk um va vg vi wf yt aq hm').split(' '));

const here = path.dirname(new URL(import.meta.url).pathname);
const require = createRequire(import.meta.url);
const flagDir = path.join(path.dirname(require.resolve('flag-icons/package.json')), 'flags', '4x3');
const circleDir = path.join(path.dirname(require.resolve('circle-flags/package.json')), 'flags');
const currencyNames = new Intl.DisplayNames(['en'], { type: 'currency' });

/** ASCII spelling: the nano model's alphabet. */
const fold = (s) => s.replace(/ø/g, 'o').replace(/ß/g, 'ss').replace(/ı/g, 'i').replace(/đ/g, 'd').replace(/[’ʻ]/g, "'")
  .normalize('NFKD').replace(/[^\x20-\x7e]/g, '').trim().replace(/\.$/, '');

/** RGB tile of a flag on white, by box averaging of a four times finer drawing. */
function tile(svg) {
  const drawn = new Resvg(svg, { fitTo: { mode: 'width', value: TILE * 4 }, background: 'white' }).render();
  const { width, height, pixels } = drawn;
  const out = Buffer.alloc(TILE * TILE * 3);
  for (let y = 0; y < TILE; y++) {
    for (let x = 0; x < TILE; x++) {
      const x0 = Math.floor((x * width) / TILE), x1 = Math.floor(((x + 1) * width) / TILE);
      const y0 = Math.floor((y * height) / TILE), y1 = Math.floor(((y + 1) * height) / TILE);
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let v = y0; v < y1; v++) for (let u = x0; u < x1; u++) sum += pixels[(v * width + u) * 4 + c];
        out[(y * TILE + x) * 3 + c] = Math.round(sum / ((x1 - x0) * (y1 - y0)));
      }
    }
  }
  return out;
}

/** 8×8 colour layout, 192 values in 0..1. */
function layout(rgb) {
  const cells = new Float64Array(192), side = TILE / 8;
  for (let y = 0; y < TILE; y++) for (let x = 0; x < TILE; x++) for (let c = 0; c < 3; c++) {
    cells[(Math.floor(y / side) * 8 + Math.floor(x / side)) * 3 + c] += rgb[(y * TILE + x) * 3 + c] / 255 / (side * side);
  }
  return cells;
}
const distance = (a, b) => Math.sqrt(a.reduce((s, v, i) => s + (v - b[i]) ** 2, 0) / a.length);

const codes = fs.readdirSync(flagDir).filter((f) => f.endsWith('.svg')).map((f) => f.slice(0, -4)).sort();
const tiles = new Map(codes.map((code) => [code, tile(fs.readFileSync(path.join(flagDir, `${code}.svg`)))]));

const candidates = Object.entries(countries)
  .map(([key, c]) => ({ code: key.toLowerCase(), c }))
  .filter(({ code, c }) => tiles.has(code) && c.capital && c.currency[0] && c.languages[0] && c.continent)
  .sort((a, b) => LAST.has(a.code) - LAST.has(b.code) || (a.code < b.code ? -1 : 1));

const entities = [], layouts = [];
for (const { code, c } of candidates) {
  const currency = currencyNames.of(c.currency[0]);
  const entity = {
    code, name: fold(c.name), capital: fold(c.capital), currency: fold(currency), language: fold(languages[c.languages[0]].name),
    region: continents[c.continent], currency_code: c.currency[0],
  };
  // Spellings that folding changed are accepted answers too.
  const spellings = [c.name, c.capital, currency, languages[c.languages[0]].name]
    .map((s, i) => (s === [entity.name, entity.capital, entity.currency, entity.language][i] ? '' : s));
  if (spellings.some(Boolean)) entity.spellings = { name: spellings[0], capital: spellings[1], currency: spellings[2], language: spellings[3] };
  const cells = layout(tiles.get(code));
  const clash = layouts.some((other) => distance(cells, other) < ALIKE);
  const awkward = entity.name.length > 22 || entity.name.includes('(') || entity.currency.length > 24 || entity.capital.length > 20;
  if (clash || awkward || entities.length === ENTITIES || entities.some((e) => e.name === entity.name)) continue;
  entities.push(entity);
  layouts.push(cells);
}
if (entities.length < ENTITIES) throw new Error(`only ${entities.length} entities are left, ${ENTITIES} are wanted`);
const taken = new Set(entities.map((e) => e.code));
const unnamed = codes.filter((code) => !taken.has(code));
// Flags of regions, peoples and former states, without the circle that this collection cuts them to.
for (const file of fs.readdirSync(circleDir).sort()) {
  const code = file.slice(0, -4);
  if (!file.endsWith('.svg') || /^[a-z]{2}$/.test(code)) continue;
  const rgb = tile(fs.readFileSync(path.join(circleDir, file), 'utf8').replace(/ mask="url\(#a\)"/g, ''));
  const cells = layout(rgb);
  if (layouts.some((other) => distance(cells, other) < SAME)) continue;
  tiles.set(`circle/${code}`, rgb);
  unnamed.push(`circle/${code}`);
}

const order = [...entities.map((e) => e.code), ...unnamed];
const rows = Math.ceil(order.length / COLUMNS);
const sheet = new PNG({ width: COLUMNS * TILE, height: rows * TILE, colorType: 2 });
sheet.data.fill(255);
order.forEach((code, i) => {
  const rgb = tiles.get(code), x0 = (i % COLUMNS) * TILE, y0 = Math.floor(i / COLUMNS) * TILE;
  for (let y = 0; y < TILE; y++) for (let x = 0; x < TILE; x++) for (let c = 0; c < 3; c++) {
    sheet.data[((y0 + y) * sheet.width + x0 + x) * 4 + c] = rgb[(y * TILE + x) * 3 + c];
  }
});
fs.writeFileSync(path.join(here, 'flags.png'), PNG.sync.write(sheet, { colorType: 2, inputColorType: 6, deflateLevel: 9 }));
const lines = (list) => list.map((x) => `  ${JSON.stringify(x)}`).join(',\n');
fs.writeFileSync(path.join(here, 'facts.json'),
  `{"tile": ${TILE}, "columns": ${COLUMNS},\n"entities": [\n${lines(entities)}\n],\n"unnamed": ${JSON.stringify(unnamed)}}\n`);
console.log(`${entities.length} entities, ${unnamed.length} unnamed flags`);
