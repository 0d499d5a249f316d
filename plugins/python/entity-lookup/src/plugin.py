"""Entity look-up: the policy names an entity in JSON and gets the facts that a corpus holds about it, its own page first."""

import json

import facts
from componentize_py_types import Err
from wit_world.exports.tool import (
    CallForm_Json,
    CallInput,
    Description,
    Part,
    Part_Text,
    ToolError_BadArgument,
    ToolError_NothingFound,
    ToolError_Unavailable,
)
from wit_world.imports import config, corpus

# Longer names and arguments are runaway generations; and brackets that nest without end would exhaust the parser's stack.
MAX_NAME_CHARS = 200
MAX_ARGUMENT_CHARS = 1000
MAX_FACT_CHARS = 300

ARGUMENTS = {
    "type": "object",
    "properties": {
        "entity": {"type": "string", "description": "name of the entity", "examples": ["Peru"]},
        "property": {"type": "string", "description": "what to know of it, e.g. capital", "default": ""},
    },
    "required": ["entity"],
}


class Tool:
    def describe(self) -> Description:
        return Description(
            name="entity-lookup",
            description="facts about an entity",
            call=CallForm_Json(json.dumps(ARGUMENTS)),
            max_calls=json.loads(config.get())["max_calls"],
            instruction="Answer now.",
            needs_image=False,
        )

    def call(self, input: CallInput) -> list[Part]:
        entity, wanted = arguments(input.argument)
        settings = json.loads(config.get())
        try:
            hits = corpus.search_text(settings["corpus"], f"{entity} {wanted}".strip(), settings["k"])
        except Err as error:
            raise Err(ToolError_Unavailable(f"corpus {settings['corpus']}: {error.value}"))
        pages = [(facts.rank(entity, hit.title, hit.text), hit) for hit in hits]
        told: list[str] = []
        for _, hit in sorted((page for page in pages if page[0] > 0), key=lambda page: -page[0]):
            told += [fact[:MAX_FACT_CHARS] for fact in facts.about(entity, hit.title, hit.text) if fact[:MAX_FACT_CHARS] not in told]
        # Facts that name the property come first; the sort keeps the order of pages among the others.
        key = facts.normalise(wanted)
        told.sort(key=lambda fact: key == "" or key not in facts.normalise(fact))
        if not told:
            raise Err(ToolError_NothingFound())
        lines = [f"{number}. {fact}" for number, fact in enumerate(told[: settings["max_facts"]], 1)]
        return [Part_Text("\n".join(lines))]


def arguments(text: str) -> tuple[str, str]:
    """Entity and property of a call."""
    if len(text) > MAX_ARGUMENT_CHARS:
        raise Err(ToolError_BadArgument(f"expected at most {MAX_ARGUMENT_CHARS} characters"))
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Err(ToolError_BadArgument('expected {"entity": NAME}'))
    entity, wanted = given.get("entity"), given.get("property", "")
    if not isinstance(entity, str) or not isinstance(wanted, str) or not facts.normalise(entity):
        raise Err(ToolError_BadArgument("`entity` must be the name of an entity, `property` a text"))
    return entity[:MAX_NAME_CHARS], wanted[:MAX_NAME_CHARS]
