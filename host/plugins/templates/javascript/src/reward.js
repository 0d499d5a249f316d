import { get } from "mmhost:plugin/config@0.1.0";

export const scoring = {
  describe() {
    return { summary: "the right answer, cheaper", lowest: 0, highest: 1, components: ["accuracy"] };
  },

  score(batch) {
    const penalty = JSON.parse(get()).search_penalty;
    return batch.map((episode) => verdict(penalty, episode));
  },
};

function verdict(penalty, episode) {
  const truths = [episode.groundTruth, ...episode.candidateAnswers].map((t) => t.trim().toLowerCase()).filter(Boolean);
  if (truths.length === 0) return { tag: "abstained", val: "the sample has no reference answer" };
  const accuracy = truths.includes(answer(episode.turns.at(-1) ?? "")) ? 1 : 0;
  const total = accuracy * (episode.calls.length > 0 ? 1 - penalty : 1);
  return { tag: "scored", val: { total, components: [{ name: "accuracy", value: accuracy }] } };
}

// The answer of a turn. Several answers are none, or a policy would learn to give them all.
function answer(turn) {
  const [before, inside, ...more] = turn.split("<answer>");
  if (before === undefined || inside === undefined || more.length > 0) return undefined;
  const [answer, after, ...rest] = inside.split("</answer>");
  return after === undefined || rest.length > 0 ? undefined : answer.trim().toLowerCase();
}
