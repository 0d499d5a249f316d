// Unit conversion: `<convert>5 km to miles</convert>`.

import { get } from "mmhost:plugin/config@0.1.0";
import { convert } from "./units.js";

export const tool = {
  describe() {
    return {
      name: "unit-convert",
      description: "unit conversion, e.g. 5 km to miles",
      call: { tag: "tag", val: "convert" },
      maxCalls: JSON.parse(get()).max_calls,
      instruction: "Go on.",
      needsImage: false,
    };
  },

  call(input) {
    let text;
    try {
      text = convert(input.argument, JSON.parse(get()).digits);
    } catch (error) {
      // An error of the contract is thrown as its value.
      throw { tag: "bad-argument", val: error.message };
    }
    return [{ tag: "text", val: text }];
  },
};
