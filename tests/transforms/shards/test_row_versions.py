"""The version of a row of a table says what is embedded of it beside all that it has."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.shards import row_versions

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=5)


@given(st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.none() | TEXTS), max_size=5))
def test_what_is_joined_is_taken_apart(rows: list[tuple[str, str | None, str | None]]) -> None:
    whole = [f"row:{text}" for text, _, _ in rows]
    versions = row_versions.joined(
        pa.array(whole, pa.string()), [picture for _, picture, _ in rows], [words for _, _, words in rows]
    )
    apart = row_versions.taken_apart(versions)
    assert apart.whole.to_pylist() == whole
    assert (apart.picture != 0).tolist() == [bool(picture) for _, picture, _ in rows]
    assert (apart.words != 0).tolist() == [bool(words) for _, _, words in rows]


def test_equal_parts_and_no_others_have_equal_hashes() -> None:
    versions = row_versions.joined(pa.array(["row:1", "row:2", "row:3"]), ["a", "a", "b"], ["x", "y", "x"])
    apart = row_versions.taken_apart(versions)
    assert apart.picture[0] == apart.picture[1] != apart.picture[2]
    assert apart.words[0] == apart.words[2] != apart.words[1]


@given(st.lists(TEXTS.filter(lambda text: not text.startswith("row:")), max_size=5))
def test_versions_of_files_and_of_rows_of_before_are_whole(versions: list[str]) -> None:
    given_so = [*versions, "row:0123+etag:x", "etag:~12.34", "row:", "row:~", "row:~1", "row:~x.y"]
    apart = row_versions.taken_apart(pa.array(given_so, pa.string()))
    assert apart.whole.to_pylist() == given_so
    assert not apart.picture.any() and not apart.words.any()
