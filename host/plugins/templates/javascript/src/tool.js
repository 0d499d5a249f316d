import { get } from "mmhost:plugin/config@0.1.0";
import { searchText } from "mmhost:plugin/corpus@0.1.0";

// An error of the contract is thrown as its value.
const fail = (tag, val) => {
  throw { tag, val };
};

export const tool = {
  describe() {
    return {
      name: "{{name}}",
      description: "search for a passage",
      // The policy writes <{{name}}>QUERY</{{name}}>.
      call: { tag: "tag", val: "{{name}}" },
      maxCalls: JSON.parse(get()).max_calls,
      instruction: "Answer now.",
      needsImage: false,
    };
  },

  call(input) {
    // The policy in training writes anything, of any length.
    const query = input.argument.trim().replace(/\s+/g, " ").slice(0, 200);
    if (!query) fail("bad-argument", "the query is empty");
    let hits;
    try {
      hits = searchText(JSON.parse(get()).corpus, query, 1);
    } catch (error) {
      fail("unavailable", JSON.stringify(error.payload ?? String(error)));
    }
    const text = (hits[0]?.text ?? "").trim().replace(/\s+/g, " ").slice(0, 1000);
    if (!text) fail("nothing-found");
    return [{ tag: "text", val: text }];
  },
};
