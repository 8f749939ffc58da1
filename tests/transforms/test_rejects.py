"""A reject says the same on every run and machine."""

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transforms.rejects import MESSAGE_LIMIT, Failure, normalised_message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("image file is truncated (3 bytes not processed)", "image file is truncated (3 bytes not processed)"),
        ("cannot identify <_io.BytesIO object at 0x7f3a2b1c>", "cannot identify <_io.BytesIO object>"),
        ("bad pointer 0x7ffe12345678 in header", "bad pointer <address> in header"),
        ("marker 0xffd8 is missing", "marker 0xffd8 is missing"),
        ("two\nlines\r\n\tand\x00more", "two lines and more"),
        ("failed at 2026-11-20T20:27:41.123+01:00 again", "failed at <time> again"),
        ("failed at 2026-11-20 20:27:41,5", "failed at <time>"),
        ("Date: Fri, 20 Nov 2026 20:27:41 GMT", "Date: <time>"),
        ("gave up after 3.21 seconds", "gave up after <duration>"),
        ("gave up after 80ms", "gave up after <duration>"),
        ("request 123e4567-e89b-12d3-a456-426614174000 failed", "request <uuid> failed"),
        ("<Thread(ThreadPoolExecutor-0_3, started 139712)>", "<Thread(ThreadPoolExecutor, started <number>)>"),
        ("worker pid=4711 died", "worker pid <number> died"),
        ("no file 'gs://bucket/2024-01-02/a.png'", "no file 'gs://bucket/2024-01-02/a.png'"),
        ("no file '/data/tmp/a.png'", "no file '/data/tmp/a.png'"),
        ("no file '/tmp/tmpab12/a.png': gone", "no file '<temporary file>': gone"),
        ("a lone \ud800 surrogate", "a lone ? surrogate"),
    ],
)
def test_what_differs_between_runs_is_replaced_and_the_rest_stays(message: str, expected: str) -> None:
    assert normalised_message(ValueError(message)) == expected


def test_a_file_in_this_machines_temporary_folder_is_not_named() -> None:
    path = Path(tempfile.gettempdir()) / "tmp8f2k" / "picture.png"

    assert normalised_message(OSError(2, "No such file", str(path))) == "[Errno 2] No such file: '<temporary file>'"


def test_a_file_that_could_not_be_fetched_is_named_by_its_item_alone(tmp_path: Path) -> None:
    messages = set()
    for file in (tmp_path / "a.png", Path("/nowhere/b.png")):
        with pytest.raises(FileNotFoundError) as raised:
            file.read_bytes()
        messages.add(str(Failure.of("fetch", raised.value)))
        assert normalised_message(raised.value, is_named=True) == "No such file or directory"
        assert str(Failure.of("encode", raised.value)).startswith("FileNotFoundError: [Errno 2] No such file")
    assert messages == {"FileNotFoundError: No such file or directory"}


@pytest.mark.parametrize("error", [OSError(5, "broken"), OSError("gone"), OSError(2, None, "/a"), OSError(2, "", "/a")])
def test_an_error_of_no_file_or_without_words_stays_as_it_is(error: OSError) -> None:
    assert normalised_message(error, is_named=True) == normalised_message(error)


@pytest.mark.parametrize("error", [EOFError(), ValueError(""), ValueError(" \n "), MemoryError()])
def test_an_error_without_a_message_gives_its_type(error: BaseException) -> None:
    assert normalised_message(error) == type(error).__name__


def test_an_error_that_cannot_be_printed_gives_its_type() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert normalised_message(UnprintableError()) == "UnprintableError"


def test_a_long_message_is_cut() -> None:
    message = normalised_message(ValueError("word " * 100_000))

    assert len(message) == MESSAGE_LIMIT
    assert message.endswith("…")


def test_pillows_message_about_a_file_object_is_the_same_for_two_objects() -> None:
    messages = set()
    files = [io.BytesIO(b"junk") for _ in range(2)]
    for file in files:
        with pytest.raises(OSError) as raised:
            Image.open(file)
        messages.add(normalised_message(raised.value))

    assert len(messages) == 1


@given(st.text())
def test_any_message_is_one_short_printable_line(text: str) -> None:
    message = normalised_message(ValueError(text))

    assert 0 < len(message) <= MESSAGE_LIMIT
    assert message.isprintable()
    message.encode("utf-8")


@given(st.text())
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalised_message(ValueError(text))

    assert normalised_message(ValueError(once)) == once
