import json

from wit_world.exports.filtering import Decision, Decision_Drop, Decision_Keep, Description, Sample
from wit_world.imports import config


class Filtering:
    def describe(self) -> Description:
        return Description(summary="drops samples with long answers", tags=["image"])

    def filter(self, batch: list[Sample]) -> list[Decision]:
        max_bytes = json.loads(config.get())["max_bytes"]
        return [decision(max_bytes, sample) for sample in batch]


def decision(max_bytes: int, sample: Sample) -> Decision:
    if len(sample.ground_truth.encode()) > max_bytes:
        return Decision_Drop(f"the answer has more than {max_bytes} bytes")
    return Decision_Keep(["image"] if sample.images else [])
