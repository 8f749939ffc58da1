"""`pixdex gc` beside unfinished runs, damage, interrupts and others who write."""

from pathlib import Path

import pytest

from tests.end_to_end import reindexing
from tests.end_to_end.builds import every_file
from tests.end_to_end.reindexing import Collection
from tests.pipelines.gc.collected import (
    Capture,
    collect,
    files_of,
    make_old,
    manifest,
    said,
    stop_before_publishing,
    verified,
)
from transforms.generations import published
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import garbage, lease

# --- unfinished runs ---


@pytest.mark.gate
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="delta"),
        pytest.param(("--max-deltas", "0"), id="merge", marks=pytest.mark.slow),
        pytest.param(("--retrain", "always"), id="train", marks=pytest.mark.slow),
    ],
)
def test_an_unfinished_run_is_spared_and_can_be_finished(
    items: Collection, root: Path, capsys: Capture, flags: tuple[str, ...]
) -> None:
    items.pictures["fourth"] = 504
    items.write()
    stop_before_publishing(root, *flags)
    own = ("plans/000004/", "index/000004/")
    before = {path: stat for path, stat in every_file(root).items() if path.startswith(own)}
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert {path: stat for path, stat in every_file(root).items() if path.startswith(own)} == before

    verified(root, capsys)
    capsys.readouterr()
    assert reindexing.run(root, *flags) == 0, capsys.readouterr().err
    last = said(capsys)
    assert (last["generation"], last["new"], last["embedded"]) == (4, 1, 1)
    verified(root, capsys)


@pytest.mark.gate
def test_the_base_of_an_unfinished_run_is_spared_however_old(items: Collection, root: Path, capsys: Capture) -> None:
    items.pictures["fourth"] = 504
    items.write()
    stop_before_publishing(root)
    make_old(root)
    assert collect(root, "--keep", "1") == 0
    assert reindexing.run(root) == 0
    verified(root, capsys)


# --- what goes wrong ---


@pytest.mark.parametrize(
    "removals",
    [pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 5)] + [pytest.param(2, marks=pytest.mark.gate), 20],
)
def test_whoever_is_interrupted_leaves_a_root_that_works_and_the_next_one_finishes(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    needed, remove, left = files_of(root, 3), Store.remove, list(range(removals))

    def remove_some(store: Store, path: str) -> None:
        if path.startswith(layout.LEASE):
            return remove(store, path)
        if not left:
            raise OSError(5, "connection lost")
        left.pop()
        return remove(store, path)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", remove_some)
        assert collect(root, "--keep", "1", "--older-than", "0s") == 1
    for number in published.numbers(Store.at(str(root))):
        verified(root, capsys, "--generation", str(number))

    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    verified(root, capsys)
    numbers = {f"plans/000003/{name}.json" for name in ("request", "plan", "stages/publish")}
    reports = {f"reports/000003/{name}" for name in ("index.html", "index_infos.json")}
    assert set(every_file(root)) == needed | numbers | reports


def test_manifests_go_before_their_files_the_oldest_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, remove = [], Store.remove

    def note(store: Store, path: str) -> None:
        gone.append(path)
        remove(store, path)

    monkeypatch.setattr(Store, "remove", note)
    assert collect(root, "--keep", "1", "--older-than", "0s") == 0
    assert gone[:2] == [layout.generation(1), layout.generation(2)]


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_damaged_table_of_a_kept_generation_removes_nothing(
    root: Path, capsys: Capture, number: int, damage: str
) -> None:
    table = root / manifest(root, number).tables.shards.path
    if damage == "removed":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:-20])
    before = every_file(root)
    capsys.readouterr()
    assert collect(root, "--keep", "2", "--older-than", "0s") == 1
    assert table.name in capsys.readouterr().err
    assert every_file(root) == before


def test_a_root_that_is_being_written_is_left_alone(root: Path, capsys: Capture) -> None:
    before = every_file(root)
    with lease.held(Store.at(str(root)), "reindex"):
        capsys.readouterr()
        assert collect(root, "--keep", "1", "--older-than", "0s") == 1
        assert "pixdex reindex" in capsys.readouterr().err
    assert every_file(root) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "no generation"),
        (("--keep", "0"), "--keep"),
        (("--older-than", "soon"), "24h"),
        (("--nonsense", "1"), "--nonsense"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, capsys: Capture, flags: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert collect(tmp_path / "empty", *flags) == 2
    error = capsys.readouterr().err
    assert words in error


def test_every_folder_of_a_root_is_looked_at(root: Path) -> None:
    assert {path.name for path in root.iterdir() if not path.name.startswith(".")} <= set(garbage.FOLDERS)
