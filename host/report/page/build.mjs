// Builds dist/page.js and dist/page.css, which the program carries.
// With --check nothing is written: it fails when the committed files are not what the sources give.
import { build } from 'esbuild';
import { mkdir, readFile, writeFile } from 'node:fs/promises';

const check = process.argv.includes('--check');
const here = (path) => new URL(path, import.meta.url);

// The chart library's licence goes where its code goes.
const licence = (await readFile(here('node_modules/uplot/LICENSE'), 'utf8')).trim();
const built = await build({
  entryPoints: { page: 'src/main.ts', style: 'src/style.css' },
  absWorkingDir: here('.').pathname.replace(/\/$/, ''),
  bundle: true,
  minify: true,
  format: 'iife',
  target: ['chrome109', 'firefox115', 'safari16.4'],
  banner: { js: `/*! uPlot: ${licence} */` },
  charset: 'ascii',
  outdir: 'dist',
  write: false,
});
const text = (end) => built.outputFiles.find((file) => file.path.endsWith(end)).text;
// A script that holds its own end tag would end early; esbuild escapes it, and the program's tests check it.
const files = { 'dist/page.js': text('page.js'), 'dist/page.css': text('style.css') };

let stale = false;
for (const [path, content] of Object.entries(files)) {
  if (check) {
    const committed = await readFile(here(path), 'utf8').catch(() => '');
    if (committed !== content) {
      console.error(`${path} is not what src/ gives; run \`npm ci && npm run build\` in host/report/page and commit dist/`);
      stale = true;
    }
  } else {
    await mkdir(here('dist'), { recursive: true });
    await writeFile(here(path), content);
    console.log(`${path} ${(content.length / 1024).toFixed(1)} kB`);
  }
}
process.exit(stale ? 1 : 0);
