"""Pictures come in order, whatever one of them does to the thread or the process that loads it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests import corpora, deadly
from tests.encoders import TinyEncoder
from tests.transforms.embedded import SETTINGS
from transforms.errors import PixdexError
from transforms.pictures import decode
from transforms.pictures.budget import DecodeBudget
from transforms.rejects import Failure
from transforms.storage import uris
from transforms.storage.uris import Located
from transforms.tasks.embed import fetch, load_picture, picture_loader
from transforms.tasks.embed.limits import FETCH_THREADS, ItemLimits
from transforms.tasks.embed.picture_loader import PictureLoader

COUNT = 3 * FETCH_THREADS
SLOW = 5
"""The place of the picture that is waited for in vain."""


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    return [f"file://{path}" for path in corpora.write_pictures(tmp_path / "i", COUNT)]


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What a thread that hangs waits for; it comes when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def load(names: list[str], limits: ItemLimits, *, is_guarded: bool = False) -> list[Any]:
    with PictureLoader(TinyEncoder(), SETTINGS, limits, is_guarded=is_guarded) as loader:
        batches = list(loader.batches(names, 4))
    assert [start for start, _ in batches] == list(range(0, len(names), 4))
    return [picture for _, loaded in batches for picture in loaded]


def bits(loaded: list[Any]) -> list[Any]:
    return [picture if isinstance(picture, Failure) else (picture[0].tobytes(), picture[1]) for picture in loaded]


def test_a_guarded_loader_makes_the_same_bits(names: list[str]) -> None:
    assert bits(load(names, ItemLimits(), is_guarded=True)) == bits(load(names, ItemLimits()))


def test_more_threads_load_while_the_encoder_waits_for_pictures(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_loader, "FIRST_THREADS", 2)
    slowly = threading.Event()

    def locate(uri: str, limit: int) -> Located | None:
        slowly.wait(0.1)
        return fetch.locate(uri, limit)

    with PictureLoader(TinyEncoder(), SETTINGS, ItemLimits(), locate) as loader:
        threads = [len(loader._threads) for _ in loader.batches(names, 4)]
    assert threads[0] == 2 and threads[-1] == FETCH_THREADS

    slowly.set()
    with PictureLoader(TinyEncoder(), SETTINGS, ItemLimits(), locate) as loader:
        for _ in loader.batches(names, 4):
            while any(loader._in_flight()):  # an encoder that is slower
                time.sleep(0.05)
            time.sleep(0.1)
        assert len(loader._threads) == 2


@pytest.mark.gate
def test_a_fetch_that_hangs_costs_its_item(
    names: list[str], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = bits(load(names, ItemLimits()))
    locate = uris.locate

    def hang(uri: str) -> uris.Located:
        if uri == names[SLOW]:
            never.wait()
        return locate(uri)

    monkeypatch.setattr(uris, "locate", hang)
    loaded = bits(load(names, ItemLimits(seconds=20)))

    assert loaded[SLOW] == Failure("fetch", "timeout", "fetching takes longer than --item-timeout allows")
    assert [*loaded[:SLOW], *loaded[SLOW + 1 :]] == [*sound[:SLOW], *sound[SLOW + 1 :]]


def test_a_decoder_that_hangs_here_gets_a_last_try_elsewhere(
    names: list[str], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = bits(load(names, ItemLimits()))
    slow = Path(names[SLOW].removeprefix("file://")).read_bytes()
    decoded = decode.decode

    def hang(data: bytes, **how: Any) -> PIL.Image.Image:
        if data == slow:
            never.wait()
        return decoded(data, **how)

    monkeypatch.setattr(decode, "decode", hang)
    assert bits(load(names, ItemLimits(seconds=10))) == sound


@pytest.mark.gate
def test_a_picture_that_hangs_gives_back_the_memory_that_others_wait_for(
    names: list[str], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_picture, "BUDGET", DecodeBudget(1 << 10))
    later, read = names[SLOW + 4], uris.Located.read

    def hang(located: uris.Located, limit: int) -> bytes:
        if later.endswith(located.path):
            never.wait()
        return read(located, limit)

    monkeypatch.setattr(uris.Located, "read", hang)
    loaded = load(names, ItemLimits(seconds=10))

    assert [place for place, picture in enumerate(loaded) if isinstance(picture, Failure)] == [SLOW + 4]
    assert load_picture.BUDGET._fits(1 << 10)


def test_all_threads_may_hang_at_once(
    names: list[str], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(uri: str) -> uris.Located:
        never.wait()
        raise AssertionError("nobody waits any more")

    monkeypatch.setattr(uris, "locate", hang)
    loaded = load(names, ItemLimits(seconds=0.05))

    assert {(failure.stage, failure.type) for failure in loaded} == {("fetch", "timeout")}


@pytest.mark.gate
def test_pictures_that_end_or_stop_a_process_are_rejects_of_a_guarded_loader(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = bits(load(names, ItemLimits()))
    for place, order in ((2, "abort"), (9, "sleep"), (10, "abort")):
        Path(names[place].removeprefix("file://")).write_bytes(deadly.picture(order))  # type: ignore[arg-type]
    deadly.arm(monkeypatch)
    loaded = bits(load(names, ItemLimits(seconds=10), is_guarded=True))

    assert [loaded[place].type for place in (2, 9, 10)] == ["crash", "timeout", "crash"]
    assert [bit for place, bit in enumerate(loaded) if place not in (2, 9, 10)] == [
        bit for place, bit in enumerate(sound) if place not in (2, 9, 10)
    ]


def test_a_file_with_too_many_bytes_is_not_read(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    large = Path(names[SLOW].removeprefix("file://"))
    with large.open("r+b") as file:
        file.truncate(1 << 40)  # sparse: reading it would take all memory
    loaded = load(names, ItemLimits(file_bytes=1 << 20))

    assert loaded[SLOW] == Failure(
        "fetch",
        "ObjectTooLargeError",
        "the file has 1099511627776 bytes, the limit is 1048576: raise --max-file-bytes or leave it out",
    )
    assert not any(isinstance(picture, Failure) for place, picture in enumerate(loaded) if place != SLOW)


def test_storage_that_never_answers_ends_the_loading(
    names: list[str], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uris, "locate", lambda uri: never.wait())
    monkeypatch.setattr(picture_loader, "LOST_THREADS", 4)
    with pytest.raises(PixdexError, match="see whether their storage answers"):
        load(names, ItemLimits(seconds=0.05))


def test_a_machine_at_fault_ends_the_loading(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(uri: str) -> uris.Located:
        raise MemoryError

    monkeypatch.setattr(uris, "locate", fail)
    with pytest.raises(PixdexError, match="cannot be fetched on this machine"):
        load(names, ItemLimits())
