"""An export that was stopped anywhere goes on; its files appear whole; a folder with anything else is left alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.roots import make_root
from tests.tiers import mostly_gate
from tests.transforms.export.exported import content, made, root, shard, vector
from transforms.errors import PixdexError, UsageError
from transforms.export import run
from transforms.export.destination import FOLDER, Destination, folder_of
from transforms.export.run import LAYOUTS, Tally
from transforms.storage import atomic
from transforms.storage.store import Store

SHARDS = [shard(0, 20, texts=range(5, 12), keywords=2), shard(101, 15), shard(200, 0, texts=range(6))]
DEAD = {1, 2, 7, 22, (1 << 16) + 14}
TRAINED_ON = np.array([vector(seed) for seed in range(10_000, 10_060)], np.float32)
FILE_ROWS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return root(tmp_path_factory.mktemp("root"), "IVF3,SQ8", SHARDS, DEAD, train_on=TRAINED_ON)


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What each layout is when nothing stops it."""
    folder = tmp_path_factory.mktemp("whole")
    for layout in LAYOUTS:
        made(store, folder / layout, layout, rows_per_file=FILE_ROWS)
    return {layout: without_clocks(content(folder / layout)) for layout in LAYOUTS}


def without_clocks(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files but that of autofaiss which says how fast this machine was."""
    return {name: data for name, data in files.items() if name != "index_infos.json"}


class Stopped(BaseException):
    """Stands for whatever stops a process."""


@contextmanager
def stopping(patch: pytest.MonkeyPatch, moment: str, number: int) -> Iterator[None]:
    """Stops an export when it gives its `number`th file a name, or tells of rows for the `number`th time."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped

    replace, tell = atomic.replace, Tally.tell

    def replaced(file: Path, target: Path) -> None:
        if FOLDER not in target.parts:
            count()
        replace(file, target)

    def told(self: Tally, rows: int) -> None:
        count()
        tell(self, rows)

    with patch.context() as local:
        if moment == "named":
            local.setattr(atomic, "replace", replaced)
        else:
            local.setattr(Tally, "tell", told)
        with pytest.raises(Stopped):
            yield


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("moment", "number"),
    mostly_gate(
        [(moment, number) for moment in ("named", "told") for number in range(7)],
        quick=[("named", 0), ("named", 2), ("told", 0), ("told", 3)],
    ),
)
def test_the_same_command_goes_on_and_ends_with_the_same_bytes(
    store: Store,
    whole: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    moment: str,
    number: int,
) -> None:
    files = whole[layout]
    if moment == "named" and number > len(files):
        pytest.skip("there are not so many files")
    with stopping(monkeypatch, moment, number):
        made(store, tmp_path / "out", layout, rows_per_file=FILE_ROWS)
    there = without_clocks(content(tmp_path / "out"))
    assert there == {name: files[name] for name in there}
    kept = {name: (tmp_path / "out" / name).stat().st_ino for name in there}
    done = made(store, tmp_path / "out", layout, rows_per_file=FILE_ROWS)
    assert not done.was_there
    assert without_clocks(content(tmp_path / "out")) == files
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in kept} == kept
    again = made(store, tmp_path / "out", layout, rows_per_file=FILE_ROWS)
    assert (again.was_there, again.rows, again.files) == (True, done.rows, done.files)
    assert not list((tmp_path / "out" / FOLDER / "aside").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from transforms.export.run import Asked, export
from transforms.storage import atomic
from transforms.storage.store import Store

left, replace = int(sys.argv[3]), atomic.replace
def killing(file, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(file, target)
atomic.replace = killing
export(Store.at(sys.argv[1]), Asked("clip-retrieval", Path(sys.argv[2]), rows_per_file=8))
"""


@pytest.mark.parametrize("number", mostly_gate([1, 3, 8], quick=[3]))
def test_a_process_that_is_killed_leaves_what_another_goes_on_with(
    store: Store, whole: dict[str, dict[str, bytes]], tmp_path: Path, number: int
) -> None:
    argv = [sys.executable, "-c", KILLED, store.url, str(tmp_path / "out"), str(number)]
    killed = subprocess.run(argv, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    made(store, tmp_path / "out", "clip-retrieval", rows_per_file=FILE_ROWS)
    assert content(tmp_path / "out") == whole["clip-retrieval"]


def test_what_was_begun_is_ended_with_the_generation_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = root(tmp_path / "root", "IVF3,SQ8", SHARDS, DEAD, train_on=TRAINED_ON)
    made(first, tmp_path / "whole", "parquet", rows_per_file=FILE_ROWS)
    with stopping(monkeypatch, "named", 2):
        made(first, tmp_path / "out", "parquet", rows_per_file=FILE_ROWS)
    second = make_root(tmp_path / "root", SHARDS[0], key="IVF3,SQ8", train_on=TRAINED_ON, deltas=[[0]], number=2)
    assert made(second, tmp_path / "out", "parquet", rows_per_file=FILE_ROWS).generation == 1
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    with pytest.raises(UsageError, match=r"holds generation 1, the root is at 2: name a new or empty folder"):
        made(second, tmp_path / "out", "parquet", rows_per_file=FILE_ROWS)
    assert made(second, tmp_path / "new", "parquet", rows_per_file=FILE_ROWS).generation == 2


@pytest.mark.parametrize(
    ("layout", "asked", "why"),
    [
        ("parquet", {"rows_per_file": 8}, "holds an export with --layout faiss, not parquet"),
        ("faiss", {"rows_per_file": 9}, "holds an export with --rows-per-file 8, not 9"),
        ("faiss", {"rows_per_file": 8, "with_hidden": True}, "holds an export with --with-hidden False, not True"),
    ],
)
def test_a_folder_with_another_export_is_left_alone(
    store: Store, tmp_path: Path, layout: str, asked: dict[str, int], why: str
) -> None:
    made(store, tmp_path / "out", "faiss", rows_per_file=8)
    before = content(tmp_path / "out")
    with pytest.raises(UsageError, match=f"{why}: name a new or empty folder, or remove this one"):
        made(store, tmp_path / "out", layout, **asked)
    assert content(tmp_path / "out") == before


def test_a_folder_with_the_export_of_another_root_is_left_alone(store: Store, tmp_path: Path) -> None:
    made(store, tmp_path / "out", "faiss")
    other = root(tmp_path / "other", "IVF3,SQ8", SHARDS, {5}, train_on=TRAINED_ON)
    with pytest.raises(UsageError, match="holds an export of another root: name a new or empty folder"):
        made(other, tmp_path / "out", "faiss")


@pytest.mark.parametrize("name", ["index.faiss", ".hidden", "folder/x"])
def test_a_folder_with_files_of_somebody_else_is_left_alone(store: Store, tmp_path: Path, name: str) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(UsageError, match="holds files that are not of an export: name a new or empty folder"):
        made(store, tmp_path / "out", "faiss")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]


def test_a_record_that_cannot_be_read_is_said(store: Store, tmp_path: Path) -> None:
    made(store, tmp_path / "out", "faiss")
    (tmp_path / "out" / FOLDER / "export.json").write_text("{")
    with pytest.raises(UsageError, match=r"export.json is not a readable Export .*\): name a new or empty folder"):
        made(store, tmp_path / "out", "faiss")


def test_a_damaged_word_of_what_is_done_is_said_with_the_way_out(store: Store, tmp_path: Path) -> None:
    made(store, tmp_path / "out", "faiss")
    (tmp_path / "out" / FOLDER / "done.json").write_text("{")
    with pytest.raises(UsageError, match=r"done.json is not a readable Done .*\): name a new or empty folder"):
        made(store, tmp_path / "out", "faiss")


def test_an_empty_folder_is_taken(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert made(store, tmp_path / "out", "faiss").rows


def test_two_processes_do_not_export_to_one_folder(store: Store, tmp_path: Path) -> None:
    with Destination(tmp_path / "out").held(), pytest.raises(PixdexError, match="another process exports to"):
        made(store, tmp_path / "out", "faiss")


def test_only_a_folder_of_this_machine_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"s3://bucket/x is no folder of this machine: export to one"):
        folder_of("s3://bucket/x")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file: name a new or empty folder"):
        folder_of(str(tmp_path / "file"))
    assert folder_of(f"file://{tmp_path}/new") == tmp_path / "new"


def test_nothing_is_exported_into_the_root(store: Store) -> None:
    assert store.local is not None
    with pytest.raises(UsageError, match=r"/out is in the root: name a folder elsewhere"):
        made(store, store.local / "out", "faiss")


def test_a_damaged_list_is_said_and_nothing_gets_its_name(tmp_path: Path) -> None:
    store = root(tmp_path / "root", "IVF3,SQ8", SHARDS, DEAD, train_on=TRAINED_ON)
    (lists, *_) = sorted((tmp_path / "root/lists").rglob("*.ivf"))
    data = bytearray(lists.read_bytes())
    data[20] ^= 1
    lists.write_bytes(data)
    with pytest.raises(PixdexError, match="do not match their checksum"):
        made(store, tmp_path / "out", "faiss")
    assert not (tmp_path / "out/index.faiss").exists()


def test_lists_that_lack_a_living_row_are_no_index(tmp_path: Path) -> None:
    store = make_root(
        tmp_path / "root", *SHARDS, key="IVF3,SQ8", train_on=TRAINED_ON, deltas=[[0], [2]]
    )  # and shard 1 in a merged index that has no shard index any more
    with pytest.raises(PixdexError, match=r"its lists hold \d+ of the \d+ rows that generation 1 has: pixdex verify"):
        made(store, tmp_path / "out", "faiss")


def test_rows_are_counted_once_for_each_file_that_they_are_in(store: Store, tmp_path: Path) -> None:
    asked = run.Asked("faiss", tmp_path / "out", rows_per_file=FILE_ROWS)
    done = run.export(store, asked)
    assert (asked.tally.done, asked.tally.total) == (2 * done.rows, 2 * done.rows)
