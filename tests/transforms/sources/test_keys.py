"""One object has one key, however its name is stored."""

import unicodedata
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.sources import keys


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_korean_name_has_one_key_in_either_form(form: Literal["NFC", "NFD"]) -> None:
    stored = f"file:///{unicodedata.normalize(form, '한글')}.png"

    assert keys.nfc(pa.array([stored])).to_pylist() == [f"file:///{unicodedata.normalize('NFC', '한글')}.png"]


@given(st.lists(st.none() | st.text()))
def test_a_key_is_composed_and_composing_again_changes_nothing(texts: list[str | None]) -> None:
    once = keys.nfc(pa.array(texts, pa.string()))

    assert once.to_pylist() == [text and unicodedata.normalize("NFC", text) for text in texts]
    assert keys.nfc(once).equals(once)
