"""What lies where a source points and is not taken is counted by kind, and no listing leads in a circle."""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from transforms.errors import UsageError
from transforms.records import Source
from transforms.sources import left_out, pictures
from transforms.sources.left_out import Tally
from transforms.sources.pictures import PictureListing
from transforms.sources.ready import vectors

NAMES = [
    "a.png", "raw.DNG", "b.heic", "c.HEIC", "logo.svg", "no_ending", "sub/no_ending", "sub/x.jpg", "notes.txt",
    ".DS_Store", ".git/config", "sub/.cache/y.png", "long.a-very-long-ending",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    return tmp_path / "tree"


def met(pattern: object, *others: object, key_pattern: str | None = None) -> tuple[list[str], Tally]:
    """The names of the pictures of a source, and what was met beside them."""
    listing, *rest = (PictureListing(source_of(one, key_pattern)) for one in (pattern, *others))
    tally = Tally()
    tables = [table for name in listing.containers() for table in listing.batches(name, (), rest, tally)]
    return [Path(uri).name for table in tables for uri in table["uri"].to_pylist()], tally


def source_of(pattern: object, key_pattern: str | None = None) -> Source:
    location = str(pattern)
    return Source("images", location if "://" in location else f"file://{location}", key_pattern=key_pattern)


def special_files(folder: Path) -> None:
    """A pipe, a socket, a link to a device, one to a pipe and one to a folder, each named like a picture."""
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(folder)  # names of sockets are short
        listening.bind("socket.png")
        os.chdir(here)
    (folder / "device.png").symlink_to("/dev/null")
    (folder / "to-pipe.png").symlink_to("pipe.png")
    (folder / "to-folder.png").symlink_to("..")


# -- pictures


def test_what_a_folder_has_beside_pictures_is_counted_by_kind(folder: Path) -> None:
    names, tally = met(folder)

    assert names == ["a.png", "x.jpg"]
    assert tally.left_out == {
        "dng": 1, "heic": 2, "svg": 1, "txt": 1, "no ending": 2, "other": 1, "hidden": 1, "hidden folder": 2,
    }  # fmt: skip


@pytest.mark.parametrize("wanted", [1, 2, 64])
def test_counts_do_not_depend_on_how_a_tree_is_divided(
    folder: Path, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    special_files(folder / "sub")
    whole = met(folder)
    monkeypatch.setattr(pictures, "CONTAINERS_WANTED", wanted)

    assert met(folder) == whole


def test_what_is_no_file_is_counted_and_neither_item_nor_reject(folder: Path) -> None:
    special_files(folder / "sub")
    names, tally = met(folder)

    assert names == ["a.png", "x.jpg"]
    assert {kind: tally.left_out[kind] for kind in ("pipe", "socket", "device", "link to a folder")} == {
        "pipe": 2, "socket": 1, "device": 1, "link to a folder": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("sub/*.png", {"pipe": 2, "socket": 1, "device": 1, "folder": 1}),
        ("sub/p*", {"pipe": 1}),
        ("**/*.png", {"pipe": 2, "socket": 1, "device": 1, "link to a folder": 1}),
        ("*", {"folder": 2}),
        ("*.png", {}),
    ],
)
def test_of_a_glob_what_it_matches_and_is_no_file_is_counted(folder: Path, glob: str, expected: dict[str, int]) -> None:
    special_files(folder / "sub")

    assert met(folder / glob)[1].left_out == expected


def test_a_file_that_another_source_takes_is_not_left_out(folder: Path) -> None:
    _, tally = met(folder, folder / "*.svg", folder / "**" / "*.heic", folder / "notes.txt")

    assert not {"svg", "txt"} & set(tally.left_out)
    assert (tally.left_out["dng"], tally.left_out["heic"]) == (1, 1)  # a glob minds capitals


def test_what_an_earlier_source_leaves_out_is_counted_once(folder: Path) -> None:
    special_files(folder / "sub")
    whole, sub = (PictureListing(source_of(path)) for path in (folder, folder / "sub"))
    first, second = Tally(), Tally()
    for listing, earlier, later, tally in ((whole, [], [sub], first), (sub, [whole], [], second)):
        for name in listing.containers():
            list(listing.batches(name, earlier, later, tally))

    assert first.left_out == met(folder)[1].left_out
    assert not second.left_out
    notes = PictureListing(source_of(folder / "notes.txt"))
    list(whole.batches(f"{folder}/", [notes], [], third := Tally()))
    assert third.left_out == first.left_out - Counter(txt=1)


def test_one_file_leaves_nothing_out(folder: Path) -> None:
    assert met(folder / "no_ending") == (["no_ending"], Tally())


def test_a_link_that_leads_nowhere_is_counted_by_its_ending_unless_it_could_be_a_picture(folder: Path) -> None:
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "gone.svg").symlink_to("nowhere")
    names, tally = met(folder)

    assert names == ["a.png", "gone.png", "x.jpg"]
    assert tally.left_out["svg"] == 2


def test_very_many_kinds_are_told_by_the_commonest() -> None:
    counts = {f"e{number:03d}": 1 + (number < 5) for number in range(100)}

    kinds = left_out.most(counts)

    assert sum(kinds.values()) == 105
    assert len(kinds) == left_out.KINDS_KEPT + 1
    assert kinds["e000"] == 2


# -- listings that lead in a circle


class Circle(MemoryFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """A filesystem whose listing of a folder names the folder itself, those above it, and others of other trees."""

    protocol = "circle"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its parent has it
    pseudo_dirs = [""]  # noqa: RUF012 - likewise
    more: tuple[str, ...] = ()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("circle://", "memory://"))
        return stripped

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        path = self._strip_protocol(path)
        entries = super().ls(path, detail=True, **options) if self.exists(path) else []
        extra = {name.format(path=path, above=path.rpartition("/")[0] or "/") for name in self.more}
        entries += [{"name": name, "type": "directory", "size": 0} for name in sorted(extra)]
        return entries if detail else [entry["name"] for entry in entries]


@pytest.fixture
def circle() -> Iterator[type[Circle]]:
    fsspec.register_implementation("circle", Circle, clobber=True)
    for name in ("pics/a.png", "pics/deep/b.png", "pics/c.svg"):
        fsspec.filesystem("circle").pipe_file(f"/{name}", b"content")
    yield Circle
    Circle.store.clear()
    Circle.more = ()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("{path}/",), {"folder without a name": 2}),  # keys with two slashes of an object store
        (("{path}",), {"folder without a name": 2}),
        (("{above}",), {"listed elsewhere": 2}),
        (("/other", "{path}/x/y"), {"listed elsewhere": 4}),
        (("{path}//",), {"folder without a name": 2}),
    ],
)
@pytest.mark.parametrize("pattern", ["circle:///pics", "circle:///pics/**/*.png"])
def test_a_listing_that_names_its_own_folder_or_another_ends(
    circle: type[Circle], more: tuple[str, ...], expected: dict[str, int], pattern: str
) -> None:
    circle.more = more
    names, tally = met(pattern)

    assert sorted(names) == ["a.png", "b.png"]
    if "*" not in pattern:
        assert tally.left_out == {**expected, "svg": 1}


def test_folders_without_end_are_left_at_the_length_that_a_path_may_have(
    circle: type[Circle], monkeypatch: pytest.MonkeyPatch
) -> None:
    circle.more = ("{path}/again",)
    monkeypatch.setattr(pictures, "_PATH_LIMIT", 60)
    names, tally = met("circle:///pics")

    assert sorted(names) == ["a.png", "b.png"]
    assert tally.left_out["listed elsewhere"] > 0


def test_an_object_that_stands_for_a_folder_is_not_counted(circle: type[Circle], monkeypatch: Any) -> None:
    listed = MemoryFileSystem.ls

    def with_placeholder(self: Circle, path: str, detail: bool = True, **options: Any) -> Any:
        return [*listed(self, path, detail, **options), {"name": f"{path}/", "type": "file", "size": 0}]

    monkeypatch.setattr(Circle, "ls", with_placeholder)

    assert met("circle:///pics")[1].left_out == {"svg": 1}


# -- names


def test_names_that_a_pattern_matches_are_counted(folder: Path) -> None:
    _, tally = met(folder, key_pattern="(?P<letter>a)")

    assert (tally.named, tally.unnamed) == (1, 1)


# -- ready embeddings


def test_what_a_folder_has_beside_embeddings_is_counted(tmp_path: Path) -> None:
    for name in ("a.npy", "b.parquet", "stats.json", "readme", ".hidden.npy", "d/.x/c.npy", "d/e.npy"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).touch()
    os.mkfifo(tmp_path / "v" / "pipe.npy")
    source = Source("vectors", f"file://{tmp_path}/v")

    assert vectors.left_out(source) == {"json": 1, "no ending": 1, "hidden": 2, "pipe": 1}
    assert [Path(file.uri).name for file in vectors.files_of([source])] == ["a.npy", "b.parquet", "e.npy"]


def test_a_pipe_is_no_file_of_embeddings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "link.npy").symlink_to("pipe.npy")

    assert vectors.left_out(Source("vectors", f"file://{tmp_path}/*.npy")) == {"pipe": 2}
    for pattern in ("*.npy", ""):
        with pytest.raises(UsageError, match="matches no file"):
            vectors.files_of([Source("vectors", f"file://{tmp_path}/{pattern}")])


def test_metadata_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").touch()
    os.mkfifo(tmp_path / "m.parquet")
    source = Source("vectors", f"file://{tmp_path}/a.npy", metadata=f"file://{tmp_path}/*.parquet")

    with pytest.raises(UsageError, match=r"--metadata .* matches no file"):
        vectors.files_of([source])
