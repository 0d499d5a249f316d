// Makes a screenshot small: a PNG of 256 colours instead of true ones.

import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

/** The same picture with its 256 commonest colours; the others become the nearest of them. */
export function withPalette(png) {
  const { width, height, channels, rows } = decoded(png);
  const colours = new Map();
  const pixels = new Uint32Array(width * height);
  for (let at = 0; at < pixels.length; at++) {
    // The last two bits of a channel are seldom seen.
    const colour = ((rows[at * channels] & 0xfc) << 16) | ((rows[at * channels + 1] & 0xfc) << 8) | (rows[at * channels + 2] & 0xfc);
    pixels[at] = colour;
    colours.set(colour, (colours.get(colour) ?? 0) + 1);
  }
  const palette = [...colours].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => colour);
  const nearest = new Map(palette.map((colour, at) => [colour, at]));
  const distance = (a, b) => ((a >> 16) - (b >> 16)) ** 2 + (((a >> 8) & 255) - ((b >> 8) & 255)) ** 2 + ((a & 255) - (b & 255)) ** 2;
  const place = (colour) => {
    let best = 0;
    palette.forEach((other, at) => { if (distance(other, colour) < distance(palette[best], colour)) best = at; });
    nearest.set(colour, best);
    return best;
  };
  const indexed = Buffer.alloc((width + 1) * height);
  pixels.forEach((colour, at) => { indexed[Math.floor(at / width) * (width + 1) + 1 + (at % width)] = nearest.get(colour) ?? place(colour); });
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8);
  // White stays white though its last bits were dropped.
  const whole = (value) => value | (value >> 6);
  const entries = Buffer.from(palette.flatMap((colour) => [whole(colour >> 16), whole((colour >> 8) & 255), whole(colour & 255)]));
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('PLTE', entries), chunk('IDAT', deflateSync(indexed, { level: 9 })), chunk('IEND', Buffer.alloc(0))]);
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** The pixels of an 8-bit RGB or RGBA file without interlacing, as browsers write screenshots. */
function decoded(png) {
  const data = [];
  let [width, height, channels] = [0, 0, 0];
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const body = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') [width, height, channels] = [body.readUInt32BE(0), body.readUInt32BE(4), body[9] === 6 ? 4 : 3];
    if (type === 'IDAT') data.push(body);
    at += length + 12;
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const rows = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const left = x >= channels ? rows[y * stride + x - channels] : 0;
      const up = y > 0 ? rows[(y - 1) * stride + x] : 0;
      const corner = x >= channels && y > 0 ? rows[(y - 1) * stride + x - channels] : 0;
      const predicted = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      rows[y * stride + x] = raw[y * (stride + 1) + 1 + x] + predicted;
    }
  }
  return { width, height, channels, rows };
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
