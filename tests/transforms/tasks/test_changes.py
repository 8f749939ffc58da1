"""What a night counts is set arithmetic over keys, of every source; and a source that lost too much stops it.

Whatever is done to files between two nights: a few dozen pairs of states by default, hundreds with

    HYPOTHESIS_PROFILE=thorough python -m pytest tests/transforms/tasks/test_changes.py
"""

import os
import shutil
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import dear
from tests.transforms import nights
from transforms.errors import PixdexError, UsageError
from transforms.records import Changes, Reindex, Source
from transforms.runs import partitions
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import losses

Keys = dict[str, dict[str, str]]
"""By source: the version of every key."""


def write(file: Path, content: bytes, version: int | None = None) -> None:
    """Writes a file whose time says its version; by default that of its content."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    seconds = zlib.crc32(content) if version is None else version
    os.utime(file, (seconds, seconds))


@dataclass(frozen=True)
class State:
    """What lies on disk of five sources: two folders of pictures, and three CSVs.

    Attributes:
        first, second: versions of pictures by name.
        texts: text by primary key.
        pictured: text and version of the picture by primary key.
        nameless: texts without a primary key.
    """

    first: Mapping[str, int] = field(default_factory=dict)
    second: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    pictured: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    nameless: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Makes the folder hold this and nothing else."""
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("first", "second"):
            (folder / name).mkdir(parents=True)
            for picture, version in getattr(self, name).items():
                write(folder / name / f"{picture}.png", b"x", version)
        for key, (_, version) in self.pictured.items():
            write(folder / "row-pictures" / f"{key}.png", b"x", version)
        lines = {
            "texts": ["key,text", *(f"{key},{text}" for key, text in self.texts.items())],
            "pictured": [
                "key,text,image",
                *(f"{k},{text},row-pictures/{k}.png" for k, (text, _) in self.pictured.items()),
            ],
            "nameless": ["text", *self.nameless],
        }
        for name, some in lines.items():
            write(folder / f"{name}.csv", "\n".join([*some, ""]).encode())

    def keys(self) -> Keys:
        """What is listed of each source."""
        seen: Counter[str] = Counter()
        nameless = {}
        for text in self.nameless:
            nameless[f"{text}#{seen[text]}"] = ""
            seen[text] += 1
        return {
            "first": {name: str(version) for name, version in self.first.items()},
            "second": {name: str(version) for name, version in self.second.items()},
            "texts.csv": dict(self.texts),
            "pictured.csv": {key: f"{text} {version}" for key, (text, version) in self.pictured.items()},
            "nameless.csv": nameless,
        }


def sources(folder: Path) -> tuple[Source, ...]:
    at = f"file://{folder}"
    return (
        Source("images", f"{at}/first"),
        Source("images", f"{at}/second/*.png"),
        Source("csv", f"{at}/texts.csv", text_column="text", key_column="key"),
        Source("csv", f"{at}/pictured.csv", text_column="text", image_column="image", key_column="key"),
        Source("csv", f"{at}/nameless.csv", text_column="text"),
    )


def is_bad(key: str) -> bool:
    """The key of an item that the first build rejected."""
    name = key.rpartition("/")[2]
    return "bad" in name and "nameless" not in name


def arithmetic(before: Keys, now: Keys) -> Changes:
    """What became of all keys."""
    counts: Counter[str] = Counter()
    for source, known in before.items():
        listed = now[source]
        counts["gone"] += len(known.keys() - listed.keys())
        counts["new"] += len(listed.keys() - known.keys())
        for key in known.keys() & listed.keys():
            same = known[key] == listed[key]
            counts[
                ("rejected" if "bad" in key and source != "nameless.csv" else "unchanged") if same else "changed"
            ] += 1
    names = ("new", "changed", "gone", "unchanged", "rejected")
    return Changes(**{name: counts[name] for name in names}, retried=0)


def lost(before: Keys, now: Keys, ratio: float) -> set[str]:
    """The sources that lost more than a share of their keys."""
    return {source for source, known in before.items() if len(known.keys() - now[source].keys()) > ratio * len(known)}


NAMES = st.sampled_from(["a", "b", "c d", "ü", "bad", "bad too"])
PICTURES = st.dictionaries(NAMES, st.integers(1, 2), max_size=5)
TEXTS = st.sampled_from(["red", "green", "blue"])
STATES = st.builds(
    State,
    first=PICTURES,
    second=PICTURES,
    texts=st.dictionaries(NAMES, TEXTS, max_size=5),
    pictured=st.dictionaries(NAMES, st.tuples(TEXTS, st.integers(1, 2)), max_size=5),
    nameless=st.lists(TEXTS, max_size=5).map(tuple),
)


@dear
@given(before=STATES, now=STATES, ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_the_counts_of_a_night_are_set_arithmetic_over_keys(
    tmp_path_factory: pytest.TempPathFactory, before: State, now: State, ratio: float
) -> None:
    folder = tmp_path_factory.mktemp("night")
    data, root = folder / "data", folder / "root"
    before.write(data)
    nights.publish(root, sources(data), is_bad)
    now.write(data)
    known, listed = before.keys(), now.keys()
    too_much = lost(known, listed, ratio)
    if too_much:
        with pytest.raises(UsageError, match="nothing is changed") as refused:
            nights.plan(nights.begin_night(root), ratio)
        assert any(f"/{source} " in str(refused.value).replace("/*.png", "") for source in too_much)
        assert not Store.at(str(root)).exists(layout.plan(2))
    count = sum(map(len, listed.values()))
    if not count:
        with pytest.raises(UsageError, match="hold no item"):
            nights.plan(nights.begin_night(root))
        return
    plan = nights.plan(nights.begin_night(root), 1.0 if too_much else ratio)
    found = plan.changes
    assert found == arithmetic(known, listed)
    assert found.new + found.changed + found.unchanged + found.rejected == count
    assert plan.items == found.new + found.changed


def test_a_retried_reject_is_counted_once_and_nothing_else_is(tmp_path: Path) -> None:
    state = State(first={"a": 1, "bad": 1, "bad too": 1}, texts={"a": "red", "bad": "red"})
    state.write(tmp_path / "data")
    nights.publish(tmp_path / "root", sources(tmp_path / "data"), is_bad)
    state.write(tmp_path / "data")
    plan = nights.plan(nights.begin_night(tmp_path / "root", Reindex(1, retry=())))
    assert plan.changes == Changes(0, 0, 0, 2, 0, 3)


def test_of_very_many_gone_items_some_are_asked_of_which_source_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "ASKED", 20)
    State(first={f"p{number}": 1 for number in range(60)}, second={"a": 1, "b": 1}).write(tmp_path / "data")
    nights.publish(tmp_path / "root", sources(tmp_path / "data"), is_bad)
    State(first={"p0": 1}, second={"a": 1, "b": 1}).write(tmp_path / "data")
    with pytest.raises(UsageError, match=r"/first lost [3-8]\d of the "):
        nights.plan(nights.begin_night(tmp_path / "root"), 0.5)


def test_a_night_that_repairs_asks_nothing_of_a_damaged_shard(tmp_path: Path) -> None:
    State(first={f"p{number}": 1 for number in range(9)}, second={"a": 1, "b": 1}).write(tmp_path / "data")
    markers = nights.publish(tmp_path / "root", sources(tmp_path / "data"), is_bad)
    State(first={"p0": 1}, second={"a": 1, "b": 1}).write(tmp_path / "data")
    for marker in markers:
        assert marker.embeddings is not None
        (tmp_path / "root" / marker.embeddings.path).write_bytes(b"damaged")
    with pytest.raises(PixdexError, match="damaged"):
        nights.plan(nights.begin_night(tmp_path / "root"), 0.5)
    plan = nights.plan(nights.begin_night(tmp_path / "root", Reindex(1, repair=True)), 0.5)
    assert plan.changes is not None and plan.changes.gone == 8


# --- ready embeddings ---


@dataclass(frozen=True)
class File:
    """A file of ready embeddings: its rows, its version, and whether every third row is bad."""

    rows: int
    version: int
    bad: bool = False


Files = dict[tuple[str, str], File]


def write_files(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("first", "second"):
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "always.npy", np.ones((3, 16), np.float16))
        os.utime(folder / name / "always.npy", (1, 1))
    for (source, name), file in files.items():
        np.save(folder / source / f"{name}.npy", np.ones((file.rows, 16), np.float16))
        os.utime(folder / source / f"{name}.npy", (file.version, file.version))


def keys_of(files: Files) -> Keys:
    """Every row of every file is a key; its version is the file's."""
    keys: Keys = {name: {f"always#{row}": "1" for row in range(3)} for name in ("first", "second")}
    for (source, name), file in files.items():
        keys[source] |= {f"{name}#{row}": f"{file.version}-{file.rows}" for row in range(file.rows)}
    return keys


def ready_sources(folder: Path) -> tuple[Source, ...]:
    at = f"file://{folder}"
    return tuple(
        Source("vectors", pattern, vector_column="embedding") for pattern in (f"{at}/first", f"{at}/second/*.npy")
    )


ALL_FILES = st.dictionaries(
    st.tuples(st.sampled_from(["first", "second"]), st.sampled_from(["a", "b", "bad"])),
    st.builds(File, rows=st.sampled_from([0, 1, 3, 4, 5, 9]), version=st.integers(1, 2)),
    max_size=6,
)


@dear
@given(before=ALL_FILES, now=ALL_FILES, ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_the_counts_of_ready_embeddings_are_set_arithmetic_over_their_rows(
    tmp_path_factory: pytest.TempPathFactory, before: Files, now: Files, ratio: float
) -> None:
    folder = tmp_path_factory.mktemp("ready")
    data, root = folder / "data", folder / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "ROWS_PER_SHARD", 4)  # so that files are of several shards
        write_files(data, before)
        nights.publish(root, ready_sources(data), is_bad)
        write_files(data, now)
        known, listed = keys_of(before), keys_of(now)
        too_much = lost(known, listed, ratio)
        if too_much:
            with pytest.raises(UsageError, match="nothing is changed") as refused:
                nights.plan(nights.begin_night(root), ratio)
            assert any(f"/{source} " in str(refused.value).replace("/*.npy", "") for source in too_much)
        plan = nights.plan(nights.begin_night(root), 1.0 if too_much else ratio)
    found = plan.changes
    assert found == arithmetic(known, listed)
    assert found.new + found.changed + found.unchanged + found.rejected == sum(map(len, listed.values()))
    assert plan.items == found.new + found.changed


def test_a_file_that_came_back_with_its_old_time_is_planned_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "ROWS_PER_SHARD", 4)
    write_files(tmp_path / "data", {("first", "back"): File(10, 7)})
    dead = {1, 2, 3}  # the shards of that file
    markers = nights.publish(tmp_path / "root", ready_sources(tmp_path / "data"), is_bad, dead)
    assert {marker.shard for marker in markers if marker.ready and marker.ready.uri.endswith("back.npy")} == dead
    plan = nights.plan(nights.begin_night(tmp_path / "root"))
    assert plan.changes == Changes(10, 0, 0, 6, 0, 0)
    assert (plan.items, plan.shards) == (10, 3)
