"""What a person sees: one line for an error that was foreseen, a traceback for a bug, and exit codes."""

import errno
import io
import json
import os
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import NoReturn

import aiohttp
import apache_beam as beam
import gcsfs.retry
import pytest
from botocore.exceptions import NoCredentialsError
from google.auth.exceptions import DefaultCredentialsError

from pipelines.terminal import console
from tests.transforms.small_runs import pipeline
from transforms.errors import PixdexError, UsageError

Capture = pytest.CaptureFixture[str]


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def job() -> NoReturn:
        raise error

    return job


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("bad\n  flag"), console.BAD_USAGE),
        (PixdexError("bad\n  flag"), console.FAILED),
    ],
)
def test_a_foreseen_error_is_one_line(capsys: Capture, error: PixdexError, code: int) -> None:
    assert console.run(raising(error)) == code
    assert capsys.readouterr() == ("", "pixdex: bad flag\n")


def test_an_interrupt_says_how_to_go_on(capsys: Capture) -> None:
    assert console.run(raising(KeyboardInterrupt())) == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_machine_refuses_is_one_line(capsys: Capture, number: int) -> None:
    assert console.run(raising(OSError(number, os.strerror(number), "/index/x"))) == console.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert os.strerror(number) in line and "/index/x" in line and "run the same command again" in line


@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "gone")])
def test_an_error_that_nobody_foresaw_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        console.run(raising(error))


@pytest.mark.parametrize(("columns", "live"), [(0, False), (5, False), (80, True)])
@pytest.mark.parametrize("lines", [0, 24])
def test_a_terminal_without_room_for_a_bar_is_none(
    monkeypatch: pytest.MonkeyPatch, columns: int, lines: int, live: bool
) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (lines, columns))
    with os.fdopen(ours, "rb", buffering=0), os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert console.is_live() == live


def test_many_rows_are_one_object_on_one_line(capsys: Capture) -> None:
    console.show_json_list({"generation": 3}, "rejects", ({"key": name} for name in ("a", "é\n")))
    console.show_json_list({"generation": 4}, "rejects", ())
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"generation": 3, "rejects": [{"key": "a"}, {"key": "é\n"}]},
        {"generation": 4, "rejects": []},
    ]


def test_a_reader_that_stops_reading_is_no_error() -> None:
    code = (
        "from pipelines.terminal import console\n"
        "console.run(lambda: [console.show('x' * 1000) for _ in range(1000)] and 0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&- 1>&-"])
def test_an_exit_code_needs_no_reader_of_stderr(stderr: str) -> None:
    command = f'"{sys.executable}" -m pipelines search x -k 0 {stderr}'
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (console.BAD_USAGE, b"")


def test_a_stderr_that_was_closed_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    assert console.run(raising(UsageError("bad flag"))) == console.BAD_USAGE


def test_a_line_is_written_whole_beside_those_of_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Pieces(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return super().write(text)

    monkeypatch.setattr("sys.stderr", Pieces())
    console.say('{"event": "progress"}')
    assert [piece for piece in written if piece] == ['{"event": "progress"}\n']


def test_json_is_one_line_in_the_order_given_with_letters_as_they_are(capsys: Capture) -> None:
    console.show_json({"name": "동그라미\n", "a": 1})
    assert capsys.readouterr().out == '{"name": "동그라미\\n", "a": 1}\n'


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stdout_without_the_letters_of_a_name_gets_their_numbers(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    record = {"path": "동그라미/\udce9.png"}  # the last is a byte of a name that is no UTF-8
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))

    def job() -> int:
        console.show(record["path"])
        console.show_json(record)
        return console.DONE

    assert console.run(job) == console.DONE
    sys.stdout.seek(0)
    assert json.loads(sys.stdout.read().splitlines()[-1]) == record


NOT_REACHED: list[Exception] = [
    NoCredentialsError(),
    aiohttp.ClientPayloadError("Cannot connect to host storage.example:443"),
    gcsfs.retry.HttpError({"code": 401, "message": "Invalid Credentials"}),
    DefaultCredentialsError("Your default credentials were not found."),  # type: ignore[no-untyped-call]
]


@pytest.mark.parametrize("error", NOT_REACHED, ids=lambda error: type(error).__name__)
def test_a_store_that_is_not_reached_is_one_line_in_a_worker_too(capsys: Capture, error: Exception) -> None:
    assert console.run(raising(error)) == console.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith(f"pixdex: {type(error).__name__}: {str(error).rstrip('.')}: the store")
        and "credentials, then run" in line
    )
    assert f"pixdex: {worker_raises(error)}" == line


# --- errors of workers ---------------------------------------------------------------------------------------------


def worker_raises(error: BaseException) -> BaseException | None:
    """Runs a pipeline whose worker raises an error and returns what the console makes of it."""

    def fail(_: int) -> NoReturn:
        try:
            raise ValueError("cause: transforms.errors of another kind")
        except ValueError as cause:
            raise error from cause

    p = pipeline()
    _ = p | beam.Create([1]) | "Plan/Commit" >> beam.Map(fail)
    with pytest.raises(Exception) as caught:
        p.run().wait_until_finish()
    return console.from_worker(caught.value)


@pytest.mark.parametrize("kind", [UsageError, PixdexError])
@pytest.mark.parametrize("text", ["row 'x' [1]: mend it", "ends with a bracket [a]", '그림: "q"'])
def test_a_workers_error_comes_back_as_it_was_raised(kind: type[PixdexError], text: str) -> None:
    error = worker_raises(kind(text))
    assert type(error) is kind and str(error) == text


def test_a_workers_full_disk_is_one_line() -> None:
    error = worker_raises(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert type(error) is PixdexError and str(error).startswith(os.strerror(errno.ENOSPC))
    assert "while running" not in str(error)


def test_an_interrupt_that_a_worker_was_hit_by_is_one() -> None:
    assert isinstance(worker_raises(KeyboardInterrupt()), KeyboardInterrupt)


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), ValueError("no KeyboardInterrupt"), OSError(errno.ENOENT, "gone")]
)
def test_a_workers_bug_stays_one(error: Exception) -> None:
    assert worker_raises(error) is None


@pytest.mark.parametrize(
    "text",
    [
        # Another process: only text comes back.
        (
            "Traceback (most recent call last):\n  File x\ntransforms.errors.UsageError: no such column: a, b\n\n"
            "During handling of the above exception, another exception occurred:\n\nTraceback\n"
            "transforms.errors.UsageError: no such column: a, b [while running 'Plan/ListContainer-ptransform-7']\n"
        ),
        # A runner that wraps it in one more.
        "RuntimeError: transforms.errors.UsageError: no such column: a, b [while running 'Plan/ListContainer']",
    ],
)
def test_text_of_a_remote_worker_is_enough(text: str) -> None:
    error = console.from_worker(RuntimeError(text))
    assert type(error) is UsageError and str(error) == "no such column: a, b"
