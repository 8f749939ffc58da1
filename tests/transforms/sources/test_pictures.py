"""A folder means the pictures below it; a glob means exactly what it matches."""

import os
import random
import tempfile
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.records import Source
from transforms.sources import items, pictures
from transforms.sources.pictures import PictureListing
from transforms.storage import uris

TREE = [
    "a.png", "b.JPG", "notes.txt", ".hidden.png", "no_ending", "sub/c.png", "sub/deep/d.webp", "sub/b1.png",
    "sub/bx.png", ".git/e.png", "sub/.cache/f.png", "sub/[1].png",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return _make(tmp_path / "tree", TREE)


def _make(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def listing(pattern: object, key_pattern: str | None = None) -> PictureListing:
    return PictureListing(Source("images", uris.absolute(str(pattern)), key_pattern=key_pattern))


def rows(found: PictureListing) -> list[dict[str, Any]]:
    return [row for name in found.containers() for batch in found.batches(name) for row in batch.to_pylist()]


def names(found: PictureListing, base: Path) -> list[str]:
    return [row["uri"].removeprefix(f"file://{base}/") for row in rows(found)]


def _opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the folders that are listed from now on."""
    opened: list[str] = []
    entries = PictureListing._entries

    def remember(self: PictureListing, folder: str) -> list[dict[str, Any]]:
        opened.append(folder)
        return entries(self, folder)

    monkeypatch.setattr(PictureListing, "_entries", remember)
    return opened


def test_a_folder_means_every_file_with_a_pictures_ending_below_it_but_hidden_ones(tree: Path) -> None:
    assert names(listing(tree), tree) == [
        "a.png", "b.JPG", "sub/[1].png", "sub/b1.png", "sub/bx.png", "sub/c.png", "sub/deep/d.webp",
    ]  # fmt: skip


def test_a_slash_at_the_end_of_a_folder_means_the_same(tree: Path) -> None:
    assert rows(listing(f"{tree}/")) == rows(listing(tree))


@pytest.mark.parametrize(
    ("glob", "matches"),
    [
        ("*.png", ["a.png", ".hidden.png"]),
        ("*", ["a.png", "b.JPG", "notes.txt", ".hidden.png", "no_ending"]),
        ("*.txt", ["notes.txt"]),
        ("sub/b?.png", ["sub/b1.png", "sub/bx.png"]),
        ("sub/b[0-9].png", ["sub/b1.png"]),
        ("sub/b[!0-9].png", ["sub/bx.png"]),
        ("*/c.png", ["sub/c.png"]),
        ("**/c.png", ["sub/c.png"]),
        ("**/*.webp", ["sub/deep/d.webp"]),
        ("s*/*/d.*", ["sub/deep/d.webp"]),
    ],
)
def test_a_glob_means_exactly_what_it_matches(tree: Path, glob: str, matches: list[str]) -> None:
    assert sorted(names(listing(tree / glob), tree)) == sorted(matches)


@pytest.mark.parametrize("glob", ["**", "*", "*/*", "**/*.png", "sub/**", "?.png", "[ab]*", "**/deep/*", "*.[pJ]*"])
def test_a_glob_matches_what_fsspec_matches(tree: Path, glob: str) -> None:
    found = fsspec.filesystem("file").glob(str(tree / glob))

    assert sorted(names(listing(tree / glob), tree)) == sorted(
        path.removeprefix(f"{tree}/") for path in found if Path(path).is_file()
    )


def test_a_name_with_brackets_that_exists_is_taken_literally(tree: Path) -> None:
    _make(tree, ["sub/1.png", "[old]/x.png", "o/x.png"])

    assert names(listing(tree / "sub" / "[1].png"), tree) == ["sub/[1].png"]
    assert names(listing(tree / "[old]"), tree) == ["[old]/x.png"]


@pytest.mark.parametrize("name", ["a.png", "notes.txt", "no_ending", ".hidden.png"])
def test_a_single_file_is_taken_whatever_its_ending(tree: Path, name: str) -> None:
    assert names(listing(tree / name), tree) == [name]


@pytest.mark.parametrize("name", ["a#1", "100%", "a b", "a::b", "~", "한글", "x\ny"])
def test_folders_and_files_of_odd_names_are_listed(tmp_path: Path, name: str) -> None:
    _make(tmp_path / name, [f"{name}.png", f"{name}/{name}.png"])

    for pattern in (tmp_path, tmp_path / name, tmp_path / name / "**" / "*.png"):
        found = rows(listing(pattern))
        assert len(found) == 2
        assert {uris.read(row["uri"]) for row in found} == {f"{name}.png".encode(), f"{name}/{name}.png".encode()}


def test_a_name_that_is_no_text_is_listed_and_opens(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"b\xff.png")).write_bytes(b"content")
    (row,) = rows(listing(tmp_path))

    assert row["uri"] == f"file://{tmp_path}/b%FF.png" == row["key"]
    assert uris.read(row["uri"]) == b"content"


def test_links_to_files_are_followed_and_links_to_folders_are_not(tree: Path) -> None:
    (tree / "link.png").symlink_to(tree / "a.png")
    (tree / "sub" / "loop").symlink_to(tree)

    found = names(listing(tree), tree)

    assert "link.png" in found
    assert len(found) == 8


def test_a_glob_without_two_stars_follows_links_to_folders_and_looks_no_deeper_than_it_says(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "linked").symlink_to(tree / "sub")
    opened = _opened(monkeypatch)
    assert names(listing(tree / "*" / "c.png"), tree) == ["linked/c.png", "sub/c.png"]
    assert str(tree / "sub" / "deep") not in opened


def test_a_folder_does_not_claim_what_lies_behind_a_link(tree: Path) -> None:
    (tree / "linked").symlink_to(tree / "sub")
    assert listing(tree).accepts(str(tree / "sub" / "c.png"))
    assert not listing(tree).accepts(str(tree / "linked" / "c.png"))


def test_a_folder_named_by_a_link_is_listed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)

    assert len(rows(listing(tmp_path / "link"))) == 7


def test_a_dangling_link_becomes_an_item_that_can_be_rejected_by_name(tree: Path) -> None:
    (tree / "gone.png").symlink_to("nowhere.png")

    assert "gone.png" in names(listing(tree), tree)


def test_a_pipe_is_no_picture(tree: Path) -> None:
    os.mkfifo(tree / "pipe.png")

    assert "pipe.png" not in names(listing(tree), tree)


@pytest.mark.parametrize("pattern", ["gone", "sub/*.gif", "notes.d/*.png", "empty", "a.png/x"])
def test_a_source_without_a_picture_is_refused(tree: Path, pattern: str) -> None:
    (tree / "empty").mkdir()

    with pytest.raises(UsageError, match="matches no file: a glob means exactly what it matches"):
        pictures.check(listing(tree / pattern).source)


@pytest.mark.parametrize(("pattern", "reason"), [("nonsense://a/*.png", "nonsense"), ("/a/b**c/*.png", r"\*\*")])
def test_a_pattern_that_cannot_work_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        pictures.check(listing(pattern).source)


def test_a_folder_that_may_not_be_read_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = listing(tree)
    filesystem = found._filesystem[0]
    allowed = filesystem.ls

    def ls(path: str, **options: Any) -> Any:
        if path.endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return allowed(path, **options)

    monkeypatch.setattr(filesystem, "ls", ls)
    with pytest.raises(UsageError, match=r"sub/deep may not be read: mend its permissions"):
        rows(found)


def test_the_order_does_not_depend_on_the_filesystem(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = rows(listing(tree))
    found = listing(tree)
    filesystem = found._filesystem[0]
    allowed = filesystem.ls

    def shuffled(path: str, **options: Any) -> Any:
        return random.Random(0).sample(entries := allowed(path, **options), len(entries))

    monkeypatch.setattr(filesystem, "ls", shuffled)
    assert rows(found) == expected


def test_an_object_store_is_listed_like_a_folder() -> None:
    root = f"memory://{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    for name in TREE:
        memory.pipe_file(f"{root}/{name}", b"content")

    everything = [row["uri"] for row in rows(listing(root))]

    assert [uri.rpartition("/")[2] for uri in everything] == [
        "a.png", "b.JPG", "[1].png", "b1.png", "bx.png", "c.png", "d.webp",
    ]  # fmt: skip
    assert {uris.read(uri) for uri in everything} == {b"content"}
    assert [row["uri"] for row in rows(listing(f"{root}/sub/b?.png"))] == everything[3:5]


def test_an_item_is_a_picture_with_its_own_version(tree: Path) -> None:
    before = {row["key"]: row["version"] for row in rows(listing(tree))}
    os.utime(tree / "a.png", ns=(0, 10**18))
    after = {row["key"]: row["version"] for row in rows(listing(tree))}

    assert {key for key in before if before[key] != after[key]} == {f"file://{tree}/a.png"}
    for row in rows(listing(tree)):
        assert row[items.IMAGE] == row["uri"] == row["key"]
        assert (row[items.ROWS], row[items.PROBLEM], row[items.TEXT]) == (1, None, None)


# --- what one source has, another can ask about ---


def test_a_source_accepts_exactly_what_it_lists(tree: Path) -> None:
    everything = [str(path) for path in tree.rglob("*") if path.is_file()]
    for pattern in (tree, tree / "sub", tree / "*.png", tree / "**" / "*.png", tree / "a.png", tree / ".git"):
        found = listing(pattern)

        assert sorted(path for path in everything if found.accepts(path)) == sorted(
            row["uri"].removeprefix("file://") for row in rows(found)
        )


# --- containers ---

SEGMENT = st.sampled_from(["a", "b", "c.png", ".h", "d"])
PATHS = st.lists(st.lists(SEGMENT, min_size=0, max_size=3).map(lambda path: "/".join([*path, "p.png"])), max_size=8)


@given(PATHS, st.sampled_from(["", "/*", "/**/*.png", "/a/**", "/*/*.png"]), st.sampled_from([1, 2, 3, 5, 64]))
def test_containers_cover_every_file_exactly_once_in_the_order_of_a_walk(
    paths: list[str], glob: str, wanted: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "CONTAINERS_WANTED", wanted)
        folder = _make(Path(name), paths)
        folder.joinpath("outside.txt").touch()
        found = listing(f"{folder}{glob}")
        every = sorted(str(path) for path in folder.rglob("*") if path.is_file())
        listed = [row["uri"].removeprefix("file://") for row in rows(found)]

        assert sorted(listed) == [path for path in every if found.accepts(path)]
        assert len(set(listed)) == len(listed)
        assert listed == sorted(listed, key=lambda path: (path.split("/")[:-1], path))


def test_a_tree_that_begins_as_one_folder_in_another_is_divided_where_it_spreads(tmp_path: Path) -> None:
    base = _make(tmp_path / "tree", [f"one/two/{number:03d}/deep/p.png" for number in range(100)])

    containers = listing(base).containers()

    assert containers[:4] == [str(base), f"{base}/one", f"{base}/one/two", f"{base}/one/two/000/"]
    assert len(containers) == 3 + 100


def test_folders_are_opened_no_further_than_it_takes_to_have_enough_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = _make(tmp_path / "tree", [f"{number:03d}/{deep}/p.png" for number in range(70) for deep in range(3)])
    opened = _opened(monkeypatch)

    assert len(listing(base).containers()) == 1 + 70
    assert opened == [str(base)]


def test_one_look_at_the_base_tells_that_a_source_has_a_picture(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = _opened(monkeypatch)
    pictures.check(listing(tree).source)

    assert opened == [str(tree)]


def test_the_root_of_a_filesystem_is_listed_once() -> None:
    memory = fsspec.filesystem("memory")
    one, two = uuid.uuid4().hex, uuid.uuid4().hex
    memory.pipe_file(f"/{one}.png", b"1")
    memory.pipe_file(f"/{two}/{one}.png", b"2")

    found = [row["uri"] for row in rows(listing(f"memory:///**/{one}.png"))]

    assert sorted(found) == sorted([f"memory:///{one}.png", f"memory:///{two}/{one}.png"])


# --- columns from names ---


def test_named_groups_of_a_file_name_become_columns(tmp_path: Path) -> None:
    _make(tmp_path, ["cat_tom.png", "개_바둑이.png", "x/dog_rex.v2.png", "other.png", "new\nline_a.png"])
    found = rows(listing(tmp_path, r"(?P<group>[^_]+)_(?P<name>.+)"))

    assert {(row["group"], row["name"]) for row in found} == {
        ("cat", "tom"), ("개", "바둑이"), ("dog", "rex.v2"), (None, None), ("new\nline", "a"),
    }  # fmt: skip


def test_a_decomposed_name_gives_composed_columns(tmp_path: Path) -> None:
    _make(tmp_path, [unicodedata.normalize("NFD", "개_바둑이.png")])

    assert rows(listing(tmp_path, r"(?P<group>[^_]+)_.*"))[0]["group"] == "개"


def test_a_group_named_like_a_column_of_a_shard_gets_a_prefix(tmp_path: Path) -> None:
    _make(tmp_path, ["a_b.png"])
    (row,) = rows(listing(tmp_path, r"(?P<key>.)_(?P<embedding>.)"))

    assert (row["source_key"], row["source_embedding"]) == ("a", "b")
    assert row["key"] == f"file://{tmp_path}/a_b.png"


@pytest.mark.parametrize("pattern", ["(?P<a>", "(?P<a>x)(y)", "(?P<a>(?=b))", "no group", "(a)"])
def test_a_key_pattern_that_gives_no_columns_is_refused(tree: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match=r"--key-pattern .*\(\?P<name>"):
        pictures.check(listing(tree, pattern).source)
