// Run directories as `mmhost train` leaves them, made up: whole, killed, huge, hostile.

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';

const CLASSES = ['search_free', 'image_required', 'text_required', 'both_required'];
const DIGEST = 'ab'.repeat(32);

/** Strings that must stay text wherever they are shown. */
export const HOSTILE = {
  script: '</script><script>window.__owned = 1</script>',
  image: '<img src=x onerror="window.__owned = 2"><svg onload="window.__owned = 3">',
  comment: '<!--<script>',
  template: '${window.__owned = 4}{{constructor.constructor("window.__owned = 5")()}}',
  bidi: 'left \u202eright\u202c \u2066inside\u2069 \u200bzero\ufeff',
  control: 'bell\u0007 escape\u001b[31m null\u0000',
  url: 'javascript:window.__owned=6',
};

/** A flag of two colours as a PNG file. */
function png(seed) {
  const [width, height] = [56, 56];
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const at = y * (width * 3 + 1) + 1 + x * 3;
    const half = y < height / 2 ? seed : seed * 7 + 3;
    rows[at] = (half * 53) % 256; rows[at + 1] = (half * 97) % 256; rows[at + 2] = (half * 29) % 256;
  }
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0); body.copy(out, 4); out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0); header.writeUInt32BE(height, 4); header[8] = 8; header[9] = 2;
  return Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), chunk('IHDR', header), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}

const VOCABULARY = ['<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|image_pad|>', '<|vision_end|>', '<reason>', '</reason>', '<answer>', '</answer>',
  'user', 'assistant', ' flag', ' unsure', ' found', ' Paris', '\n'];

/** One episode; `odd` picks what is special about it. */
function episode(id, sample, category, index, image, say = (text) => text) {
  const searches = index % 3 !== 0;
  const right = index % 4 !== 1;
  const tokens = [0, 9, 15, 2, 3, 3, 3, 3, 4, 1, 0, 10, 15, 5, 11, 12, 6, ...(searches ? [1, 0, 9, 15, 13, 1, 0, 10, 15, 5, 13, 6] : []), 7, 14, 8, 1];
  const first = 13;
  const mask = tokens.map((_, at) => at >= first && !(searches && at >= 18 && at < 26));
  const sampled = mask.filter(Boolean).length;
  const turns = searches
    ? [{ start: 13, end: 18, text: say('<reason>flag unsure.</reason><search><img></search>') }, { start: 26, end: tokens.length, text: say('<reason>found.</reason><answer>Paris</answer>') }]
    : [{ start: 13, end: tokens.length, text: say('<reason>sure.</reason><answer>Paris</answer>') }];
  return {
    id, sample, category, question: say('What is the capital of this country?'), ground_truth: right ? 'Paris' : say('Lima'), candidate_answers: [say('City of Light')],
    workflow: 'on-demand', tokens, mask, logprobs: Array.from({ length: sampled }, (_, at) => (at === index % sampled ? -2.5 : -0.01)), turns,
    calls: searches ? [{ tool: 'image-search', digest: DIGEST, argument: '', result: index % 50 === 7 ? say('the index is gone') : say('1. Flag of France'), ok: index % 50 !== 7, elapsed_ms: 0.5 + (index % 40), shared: index % 8 > 1 }] : [],
    calls_allowed: 2, ending: 'answered',
    reward: index % 61 === 60 ? { abstained: say('late') } : { scored: { total: right ? 0.91 : 0.1, components: [['accuracy', right ? 1 : 0], ['format', 1]] } },
    image_digests: [image],
  };
}

/** The configuration of a made-up run. */
const config = (seed, steps) => `# mmhost 0.1.0; plugins by SHA-256:\n#   image-search ${DIGEST}\nseed = ${seed}\n\n[plugins]\ntools = ["image-search"]\n\n[train]\nsteps = ${steps}\n`;

const estimate = (value) => ({ value, low: Math.max(0, value - 0.03), high: Math.min(1, value + 0.03) });
const metrics = (accuracy, searches) => ({
  accuracy: estimate(accuracy), searches_per_question: { value: searches, low: searches, high: searches }, share_searching: estimate(searches / 2),
  calls_over_allowed: estimate(searches / 2), format: estimate(1), image_search_ratio: estimate(searches / 2), text_search_ratio: estimate(searches / 3), n: 40,
});
const policy = (accuracy, searches) => Object.fromEntries(['direct', 'rag', 'on_demand'].map((workflow) => [workflow, {
  test: { ...metrics(accuracy, workflow === 'direct' ? 0 : searches), abstained: 0, ...Object.fromEntries(CLASSES.map((name) => [name, metrics(accuracy, searches)])) },
}]));

/** Writes a run directory; returns its path. */
export function writeRun(dir, { name = 'run', seed = 0, steps = 12, groups = 4, rollouts = 8, questions = 20, finished = true, text = {}, say } = {}) {
  const run = join(dir, name);
  const episodes = join(run, 'episodes');
  mkdirSync(join(episodes, 'images'), { recursive: true });
  writeFileSync(join(run, 'run.toml'), config(seed, finished ? steps : steps * 2) + (text.config ?? ''));
  writeFileSync(join(run, '.lock'), '');
  const images = Array.from({ length: 12 }, (_, at) => {
    const file = png(at + 1);
    const digest = createHash('sha256').update(file).digest('hex');
    writeFileSync(join(episodes, 'images', `${digest}.png`), file);
    return digest;
  });
  const lines = [];
  let n = 0;
  for (let step = 1; step <= steps; step++) {
    const written = [];
    for (let group = 0; group < groups; group++) for (let rollout = 0; rollout < rollouts; rollout++) {
      written.push(JSON.stringify(episode(`step=${step}/group=${group}/rollout=${rollout}`, `atlas/train/${group}`, text.category ?? CLASSES[group % 4], n++ + (rollout % 3), images[group % 12], say)));
    }
    writeFileSync(join(episodes, `step-${String(step).padStart(6, '0')}.jsonl`), written.join('\n') + '\n');
    const share = step / steps;
    lines.push(JSON.stringify({
      step, reward: 0.4 + 0.5 * share + 0.02 * Math.sin(step * 3 + seed), accuracy: 0.5 + 0.4 * share, searches_per_question: 1.2, kl: 0.01 * share, entropy: 0.2 - 0.1 * share,
      image_search_ratio: Object.fromEntries(CLASSES.map((key, at) => [key, Math.min(1, 0.2 * at + share / 2)])), rollout_seconds: 0.3, learner_seconds: 0.6,
    }));
  }
  writeFileSync(join(run, 'metrics.jsonl'), lines.join('\n') + '\n');
  for (const who of finished ? ['base', 'trained'] : ['base']) for (const how of ['direct', 'on_demand']) {
    const written = Array.from({ length: questions }, (_, at) => JSON.stringify(episode(`eval=${who}-test/${how}/group=${at}/rollout=0`, `atlas/test/${at}`, text.category ?? CLASSES[at % 4], at, images[at % 12], say)));
    writeFileSync(join(episodes, `${who}-test-${how}.jsonl`), written.join('\n') + '\n');
  }
  writeFileSync(join(run, 'base.json'), JSON.stringify(policy(0.36, 0.6)));
  const checkpoint = join(run, 'checkpoints', `step-${String(steps).padStart(6, '0')}`);
  mkdirSync(checkpoint, { recursive: true });
  writeFileSync(join(checkpoint, 'tokenizer.json'), JSON.stringify({
    model: { vocab: Object.fromEntries(VOCABULARY.map((piece, id) => [piece.replaceAll(' ', 'Ġ').replaceAll('\n', 'Ċ'), id])) }, added_tokens: [], decoder: { type: 'ByteLevel' },
  }));
  if (finished) {
    writeFileSync(join(run, 'summary.json'), JSON.stringify({
      base: policy(0.36, 0.6), trained: policy(0.92, 1.2), timing: { rollout: 12.5, learner: 30, total: 42.5 }, peak_memory_bytes: 1.2e9, invariants: { logprob_diff_max: 1.9e-6 },
    }));
  }
  return run;
}
