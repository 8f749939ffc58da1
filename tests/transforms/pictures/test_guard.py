"""A process of its own decodes as this one does, and what ends or stops it costs one picture."""

import dataclasses
import errno
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import PIL.Image
import psutil
import pytest

from tests import deadly
from transforms import interpreter
from transforms.errors import PixdexError
from transforms.pictures import decode
from transforms.pictures.guard import Guard, How
from transforms.rejects import Failure

HOW = How(pixel_limit=100_000, target=16, mode="pad", seconds=30)


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with pytest.MonkeyPatch.context() as patch:
        deadly.arm(patch)
        guarded = Guard(HOW)
        yield guarded
        guarded.close()


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(("width", "height", "kind"), [(100, 40, "JPEG"), (7, 200, "PNG"), (16, 16, "BMP")])
def test_it_makes_the_picture_that_is_made_here(guard: Guard, width: int, height: int, kind: str) -> None:
    data = encoded(width, height, kind)
    here = decode.decode(data, pixel_limit=HOW.pixel_limit, target=HOW.target, mode=HOW.mode)
    there = guard.decode(data)

    assert isinstance(there, PIL.Image.Image)
    assert there.tobytes() == decode.fit(here, HOW.mode).tobytes()
    assert (there.mode, there.info["size"]) == ("RGB", (width, height))


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(9, 9)[:60], encoded(400, 400)])
def test_what_it_cannot_decode_fails_as_it_does_here(guard: Guard, data: bytes) -> None:
    with pytest.raises(Exception) as raised:
        decode.decode(data, pixel_limit=HOW.pixel_limit, target=HOW.target, mode=HOW.mode)

    assert guard.decode(data) == Failure.of("decode", raised.value)


def test_a_picture_that_ends_the_process_is_a_crash_and_the_next_is_decoded(guard: Guard) -> None:
    assert guard.decode(deadly.picture("abort")) == Failure("decode", "crash", "the decoder was ended by SIGABRT")
    assert isinstance(guard.decode(encoded(10, 10)), PIL.Image.Image)


def test_a_picture_that_never_ends_is_a_timeout_and_the_next_is_decoded(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(guard.decode(encoded(10, 10)), PIL.Image.Image)
    monkeypatch.setattr(guard, "_how", dataclasses.replace(HOW, seconds=0.2))
    failure = guard.decode(deadly.picture("sleep"))
    monkeypatch.undo()

    assert failure == Failure("decode", "timeout", "decoding takes longer than --item-timeout allows")
    assert isinstance(guard.decode(encoded(10, 10)), PIL.Image.Image)


def test_a_process_that_was_ended_between_two_pictures_is_no_crash_of_the_next(guard: Guard) -> None:
    assert isinstance(guard.decode(encoded(10, 10)), PIL.Image.Image)
    assert guard._process is not None
    guard._process.kill()
    guard._process.wait()

    assert isinstance(guard.decode(encoded(10, 10)), PIL.Image.Image)


def test_a_machine_without_descriptors_blames_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(PixdexError, match="Too many open files"):
        Guard(HOW).decode(encoded(10, 10))


def test_a_process_that_cannot_start_blames_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])

    with pytest.raises(PixdexError, match=r"could not be started on this machine \(it ended with exit code 3"):
        Guard(HOW).decode(encoded(10, 10))


def test_it_ends_with_the_process_that_asked() -> None:
    script = (
        "from transforms.pictures.guard import Guard, How\n"
        "guard = Guard(How(100, None, 'crop', 30))\n"
        "guard.decode(b'')\n"
        "print(guard._process.pid, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run(
        interpreter.command("-c", script), env=interpreter.environment(), capture_output=True, text=True, check=True
    )
    until = time.monotonic() + 60
    while _lives(int(done.stdout)):
        assert time.monotonic() < until
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
