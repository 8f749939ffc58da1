"""What is said of a request that does not have the form of a question: the field, and what it takes, in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from transforms.nearest import guess
from transforms.serving import thumbnails
from transforms.serving.questions import MOST_LETTERS, MOST_NUMBERS, Question

_TEXT: Final = f"a text of at most {MOST_LETTERS:,} letters"
_MODALITIES: Final = ("image", "text", "keyword", "any")

TAKES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("text", "key", "where", "group_by"), _TEXT),
    **dict.fromkeys(("k", "offset", "per_group"), "a whole number"),
    "image": "a text, the file of a picture in base64",
    "vector": f"a list of at most {MOST_NUMBERS:,} numbers",
    "modality": f"one of {', '.join(_MODALITIES)}",
    "min_score": "a number, or auto",
    "minus": "a list of at most 16 texts",
    "dedup": "a number, or content",
    "id": "a whole number from 0 on",
    "size": f"a whole number from {thumbnails.LEAST} to {thumbnails.MOST}",
}
"""What each field of a question, and each part of an address, takes."""


def line_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """Returns one line about the first of the errors that pydantic found in a request.

    >>> line_of([{"type": "extra_forbidden", "loc": ("body", "wher"), "input": "a"}])
    'wher: there is no such field, did you mean where?'
    >>> line_of([{"type": "int_type", "loc": ("body", "k"), "input": "3"}])
    "k: it takes a whole number, and is given '3'"
    """
    first = errors[0]
    name = next((part for part in first["loc"][1:] if isinstance(part, str)), None)
    if name is None:
        return 'a question is a JSON object, as {"text": "a red circle"}; see /openapi.json'
    if first["type"] == "extra_forbidden":
        return f"{name:.80}: there is no such field{guess(name[:80], Question.model_fields) or '; see /openapi.json'}"
    given = first.get("input")
    told = f", and is given {given!r:.80}" if isinstance(given, str | int | float) and len(repr(given)) <= 80 else ""
    meant = guess(given[:80], _MODALITIES) if name == "modality" and isinstance(given, str) else ""
    return f"{name:.80}: it takes {TAKES.get(name, 'another value')}{told}{meant}"
