"""Whatever is asked gets an answer or one clear line: never a fault of the server."""

import json
import math
import threading
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.serving.server import JSON, Server

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CONDITIONS = st.sampled_from(
    [
        "price < 5",
        "name LIKE '%1%'",
        "1",
        "NULL",
        "price",
        "a.b = 1",
        "SELECT 1",
        "price < 5; DROP TABLE x",
        "''",
        "x = 'é",
    ]
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(max_size=40) | ANYTHING,
    "image": st.text(max_size=40) | st.binary(max_size=40).map(bytes.hex) | ANYTHING,
    "vector": st.lists(st.floats(), min_size=16, max_size=16) | ANYTHING,
    "key": st.text(max_size=40) | ANYTHING,
    "k": st.integers(-1, 2000) | ANYTHING,
    "offset": st.integers(-1, 2000) | ANYTHING,
    "where": CONDITIONS | st.text(max_size=40) | ANYTHING,
    "modality": st.sampled_from(["image", "text", "keyword", "any"]) | ANYTHING,
    "min_score": st.floats(-2, 2) | ANYTHING,
    "minus": st.lists(st.text(max_size=10), max_size=3) | ANYTHING,
    "group_by": st.sampled_from(["name", "price", "uri", "key", "id"]) | ANYTHING,
    "per_group": st.integers(0, 3) | ANYTHING,
    "dedup": st.just("content") | st.floats(-2, 2) | ANYTHING,
}
SOUND: Final = [{"text": "a b"}, {"vector": [1.0] * 16}, {"text": "a b", "where": "price < 5"}, {}]
FEW = st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.fixed_dictionaries({name: FIELDS[name]}))
QUESTIONS = st.builds(lambda sound, *others: {**sound, **{k: v for other in others for k, v in other.items()}},
                      st.sampled_from(SOUND), FEW, st.just({}) | FEW)  # fmt: skip


def is_json(text: bytes) -> bool:
    """Whether it is JSON as browsers read it, which has no NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    json.loads(text, parse_constant=refuse)
    return True


@given(question=QUESTIONS)
def test_a_question_gets_an_answer_or_a_line(question: dict[str, Any], server: Server) -> None:
    reply = server.ask("POST", "/api/search", json.dumps(question).encode(), JSON)
    assert reply.status in (200, 400), (question, reply.body)
    assert is_json(reply.body)
    if reply.status == 400:
        assert set(reply.json) == {"error"} and "\n" not in reply.json["error"]
    else:
        assert all(math.isfinite(hit["score"]) for hit in reply.json["results"])


@given(body=st.binary(max_size=200) | ANYTHING.map(json.dumps).map(str.encode))
def test_a_body_gets_a_line(body: bytes, server: Server) -> None:
    assert server.ask("POST", "/api/search", body, JSON).status == 400
    assert threading.active_count() < 100
