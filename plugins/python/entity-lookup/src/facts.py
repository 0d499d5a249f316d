"""What can be told of an entity from pages: no page is quoted whole, and nothing is told of another entity."""

import re
import unicodedata


def normalise(text: str) -> str:
    """Letters and digits in one case, without accents, words separated by single spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^\w]+", " ", plain).split())


def sentences(text: str) -> list[str]:
    """The sentences of a page, each on one line."""
    parts = re.split(r"(?<=[.!?。！？])\s+|[\r\n]+", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def rank(entity: str, title: str, text: str) -> int:
    """How much a page is about the entity: 3 for its own page, 2 for a title that names it, 1 for a mention, 0 for neither."""
    wanted, titled = normalise(entity), normalise(title)
    if not wanted:
        return 0
    if titled == wanted:
        return 3
    if f" {wanted} " in f" {titled} ":
        return 2
    return int(f" {wanted} " in f" {normalise(text)} ")


def about(entity: str, title: str, text: str) -> list[str]:
    """The sentences of a page that tell of the entity: all of its own page, elsewhere those that name it."""
    found = sentences(text)
    if rank(entity, title, "") >= 2:
        return found
    wanted = f" {normalise(entity)} "
    return [sentence for sentence in found if wanted in f" {normalise(sentence)} "]
