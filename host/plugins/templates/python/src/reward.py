import json
import re

from wit_world.exports.scoring import Component, Description, Episode, Rating, Verdict, Verdict_Abstained, Verdict_Scored
from wit_world.imports import config


class Scoring:
    def describe(self) -> Description:
        return Description(summary="the right answer, cheaper", lowest=0.0, highest=1.0, components=["accuracy"])

    def score(self, batch: list[Episode]) -> list[Verdict]:
        penalty = json.loads(config.get())["search_penalty"]
        return [verdict(penalty, episode) for episode in batch]


def verdict(penalty: float, episode: Episode) -> Verdict:
    truths = [truth.strip().lower() for truth in [episode.ground_truth, *episode.candidate_answers] if truth.strip()]
    if not truths:
        return Verdict_Abstained("the sample has no reference answer")
    accuracy = float(bool(episode.turns) and answer(episode.turns[-1]) in truths)
    total = accuracy * (1.0 - penalty if episode.calls else 1.0)
    return Verdict_Scored(Rating(total=total, components=[Component("accuracy", accuracy)]))


def answer(turn: str) -> str | None:
    """The answer of a turn. Several answers are none, or a policy would learn to give them all."""
    if turn.count("<answer>") != 1 or turn.count("</answer>") != 1:
        return None
    found = re.search(r"<answer>(.*)</answer>", turn, re.DOTALL)
    return found.group(1).strip().lower() if found else None
