"""From a question to its answer: what `pixdex search --json` prints of the same query."""

import base64
import binascii
import json
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.pictures.guards import Decoders
from transforms.queries.answer import Wanted, answers, vectors_of_keys
from transforms.queries.root import kind_of, modality_of
from transforms.rejects import Failure
from transforms.search.hits import told
from transforms.search.rules import KEY, Rules
from transforms.search.trace import Trace
from transforms.serving.faults import TooLargeError
from transforms.serving.limits import Limits
from transforms.serving.opened import Opened
from transforms.serving.questions import Question


def answer(opened: Opened, question: Question, decoders: Decoders, limits: Limits, trace: Trace) -> bytes:
    """Returns the answer as JSON; `trace` is told how long each step took.

    Raises:
        UsageError: it cannot be answered so.
        TooLargeError: its picture is too large.
        PixdexError: the root is damaged, or the encoder failed.
    """
    question.check(limits.results)
    searcher = opened.searcher
    modality = modality_of(searcher, question.modality, is_vector=question.vector is not None)
    wanted = Wanted(
        k=question.k + question.offset,
        modality=modality,
        rules=Rules(question.group_by or KEY, question.per_group, question.dedup, question.min_score),
        where=question.where,
        query_kind=kind_of(
            texts=question.text is not None, pictures=question.image is not None or question.key is not None
        ),
        minus=tuple(question.minus),
    )
    with trace.step("encode"):
        vector, kind = _vector_of(opened, question, decoders, limits)
    hits = answers(searcher, opened.encoder, vector, wanted, trace, [kind])[0]
    return as_json({"generation": opened.number, "results": told(hits[question.offset :])})


def _vector_of(
    opened: Opened, question: Question, decoders: Decoders, limits: Limits
) -> tuple[NDArray[np.float32], Literal["text", "image"] | None]:
    """The vector of a question, float32 `(1, d)`, and what it is of, where that is a text or a picture."""
    if question.text is not None:
        return opened.encoder.texts([question.text]), "text"
    if question.image is not None:
        how = opened.encoder.how(limits.seconds)
        picture = decoders.decode(how, file_of(question.image, limits.upload_bytes))
        if isinstance(picture, Failure):
            raise UsageError(f"the picture cannot be read ({picture.type}): {picture.message}")
        return opened.encoder.decoded_pictures([picture]), "image"
    if question.key is not None:
        return vectors_of_keys(opened.searcher, [question.key]), None
    with np.errstate(over="ignore"):
        return np.array(question.vector, np.float64).astype(np.float32)[None], None


def file_of(text: str, most: int) -> bytes:
    """Returns the file that is sent in base64.

    Raises:
        UsageError: it is no base64, or nothing.
        TooLargeError: it has more bytes than `most`.
    """
    try:
        file = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"image is no base64 ({error}): send the file of a picture so") from error
    if not file:
        raise UsageError("image is empty: send the file of a picture, in base64")
    if len(file) > most:
        raise TooLargeError(f"the picture has {len(file):,} bytes: send one of {most:,} at most")
    return file


def as_json(record: dict[str, Any]) -> bytes:
    """Returns JSON as browsers read it, which has no number that is none: there it says null."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "replace")
    except ValueError:
        return json.dumps(_finite(record), ensure_ascii=False, default=str).encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
