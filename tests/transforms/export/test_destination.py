"""Folders that cannot be written to are told in one line; a finished export is left as it is, and asks for no more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transforms.export.exported import made, root, shard
from transforms.errors import UsageError
from transforms.export.destination import FOLDER, Destination, Done, folder_of
from transforms.storage.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return root(tmp_path_factory.mktemp("root"), "IVF1,SQ8", [shard(0, 6)])


def is_file(folder: Path) -> None:
    folder.touch()


def is_dangling(folder: Path) -> None:
    folder.symlink_to("nowhere")


def is_loop(folder: Path) -> None:
    folder.symlink_to(folder)


@pytest.mark.parametrize(
    ("make", "below", "why"),
    [
        (is_file, "", "is a file: name a new or empty folder"),
        (is_file, "below/it", r"\(Not a directory\): name another folder"),
        (is_dangling, "", "is a link to what is not there: name a new or empty folder"),
        (is_loop, "", "link"),
        (Path.mkdir, "x" * 300, r"\(File name too long\): name another folder"),
        (Path.mkdir, "\udcff", "has characters that no text has: name another folder"),
        (Path.mkdir, "a\0b", "has characters that no text has: name another folder"),
        (Path.mkdir, "a\nb", "has characters that no text has: name another folder"),
    ],
)
def test_a_name_that_no_folder_can_have(
    store: Store, tmp_path: Path, make: Callable[[Path], None], below: str, why: str
) -> None:
    make(tmp_path / "out")
    with pytest.raises(UsageError, match=why) as caught:
        made(store, folder_of(str(tmp_path / "out" / below)), "faiss")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this machine has no /proc")
def test_a_folder_in_which_none_can_be_made(store: Store) -> None:
    with pytest.raises(UsageError, match=r"^/proc/xyz cannot be written \(.*\): name another folder$"):
        made(store, folder_of("/proc/xyz"), "faiss")


@pytest.mark.parametrize("name", ["", "export.json", "done.json", "lock", "aside"])
def test_hidden_files_of_another_kind_than_an_exports(store: Store, tmp_path: Path, name: str) -> None:
    place = tmp_path / "out" / FOLDER / name
    if name in ("", "aside"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    else:
        place.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"/out cannot be written \(.*\): name another folder$"):
        made(store, tmp_path / "out", "faiss")


def test_a_folder_that_was_left_aside_is_taken_away(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out" / FOLDER / "aside/left/more").mkdir(parents=True)
    assert made(store, tmp_path / "out", "faiss").rows
    assert Destination(tmp_path / "out").done() == Done(6, 2)
    assert not [*(tmp_path / "out" / FOLDER / "aside").iterdir()]


def test_a_finished_export_is_only_read(store: Store, tmp_path: Path) -> None:
    made(store, tmp_path / "out", "faiss")
    (tmp_path / "out" / FOLDER / "lock").unlink()
    (tmp_path / "out" / FOLDER / "lock").mkdir()  # as on a file system that is read only, opening it for writing fails
    assert made(store, tmp_path / "out", "faiss").was_there
