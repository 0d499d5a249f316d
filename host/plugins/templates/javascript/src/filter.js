import { get } from "mmhost:plugin/config@0.1.0";

export const filtering = {
  describe() {
    return { summary: "drops samples with long answers", tags: ["image"] };
  },

  filter(batch) {
    const maxBytes = JSON.parse(get()).max_bytes;
    return batch.map((sample) => decision(maxBytes, sample));
  },
};

function decision(maxBytes, sample) {
  if (bytes(sample.groundTruth) > maxBytes) return { tag: "drop", val: `the answer has more than ${maxBytes} bytes` };
  return { tag: "keep", val: sample.images.length > 0 ? ["image"] : [] };
}

// The length of a text in UTF-8.
function bytes(text) {
  let length = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    length += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return length;
}
