"""A column that a table does not have: the nearest one, and those that it has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.nearest import guess, no_column


@pytest.mark.parametrize(
    ("column", "columns", "said"),
    [
        ("imge", ["image", "name"], "has no column imge; did you mean image? it has image, name"),
        ("Image", ["image", "name"], "has no column Image; did you mean image? it has image, name"),
        ("price", ["Preis", "PRICE"], "has no column price; did you mean PRICE? it has Preis, PRICE"),
        ("title", ["txt"], "has no column title; it has txt"),
        ("zzz", ["image", "name"], "has no column zzz; it has image, name"),
        ("image", [], "has no column image; it has none"),
    ],
)
def test_a_missing_column_is_told_with_those_that_there_are(column: str, columns: list[str], said: str) -> None:
    assert no_column(column, columns) == said


def test_of_very_many_columns_some_are_listed() -> None:
    said = no_column("column-1", [f"c{number}" for number in range(10_000)] + ["column1"])
    assert said.startswith("has no column column-1; did you mean column1? it has c0, c1,")
    assert said.endswith("c39 and 9961 more") and len(said) < 400


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=8))
def test_what_is_proposed_is_one_of_those_that_there_are(name: str, known: list[str]) -> None:
    said = guess(name, known)
    assert said == "" or said in {f", did you mean {each}?" for each in known}
