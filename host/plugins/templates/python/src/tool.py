import json

from componentize_py_types import Err
from wit_world.exports.tool import (
    CallForm_Tag,
    CallInput,
    Description,
    Part,
    Part_Text,
    ToolError_BadArgument,
    ToolError_NothingFound,
    ToolError_Unavailable,
)
from wit_world.imports import config, corpus


class Tool:
    def describe(self) -> Description:
        return Description(
            name="{{name}}",
            description="search for a passage",
            # The policy writes <{{name}}>QUERY</{{name}}>.
            call=CallForm_Tag("{{name}}"),
            max_calls=json.loads(config.get())["max_calls"],
            instruction="Answer now.",
            needs_image=False,
        )

    def call(self, input: CallInput) -> list[Part]:
        # The policy in training writes anything, of any length.
        query = " ".join(input.argument.split())[:200]
        if not query:
            raise Err(ToolError_BadArgument("the query is empty"))
        try:
            hits = corpus.search_text(json.loads(config.get())["corpus"], query, 1)
        except Err as error:
            raise Err(ToolError_Unavailable(str(error.value)))
        if not hits or not hits[0].text.strip():
            raise Err(ToolError_NothingFound())
        return [Part_Text(" ".join(hits[0].text.split())[:1000])]
