"""Which setting a search takes that says nothing: that of its queries, of a file, or the one that goes furthest."""

import pytest

from transforms.generations.tuned import QueryKind, Setting, Tuned
from transforms.records import Modality


def setting(queries: QueryKind, nprobe: int, modality: Modality | None = "image") -> Setting:
    return Setting(queries, modality, nprobe, 0, None, 0.95, None, 100.0)


def tuned(*settings: Setting) -> Tuned:
    return Tuned(10, 0.95, None, settings)


PICTURES, TEXTS = setting("image", 4), setting("text", 9)


@pytest.mark.parametrize(
    ("queries", "expected"), [("image", PICTURES), ("text", TEXTS), (None, TEXTS), ("keyword", None)]
)
def test_queries_of_a_kind_take_theirs_and_unknown_ones_the_one_that_goes_furthest(
    queries: QueryKind | None, expected: Setting | None
) -> None:
    assert tuned(PICTURES, TEXTS).of(queries, "image") == expected


def test_a_setting_of_a_file_of_queries_is_for_all_that_have_none_of_their_own() -> None:
    of_file = setting("vector", 2)
    both = tuned(PICTURES, of_file)
    assert both.of("image", "image") == PICTURES
    assert both.of("text", "image") == both.of(None, "image") == of_file


def test_nothing_is_promised_of_what_was_not_looked_for() -> None:
    assert tuned(PICTURES, TEXTS).of("text", "text") is None
    assert tuned(PICTURES, TEXTS).of(None, None) is None
    of_any = setting("vector", 2, None)
    assert tuned(of_any).of(None, None) == of_any
