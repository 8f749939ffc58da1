"""`pixdex rollback`: an earlier generation is published anew, and the nights after it go on from there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, rollback, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import every_file
from tests.end_to_end.reindexing import Collection, assert_same, collection, found, generation_of
from transforms.generations import manifest, published
from transforms.generations.manifest import Generation
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import publish
from transforms.upkeep import lease

Capture = pytest.CaptureFixture[str]


def _items(folder: Path) -> Collection:
    """The collection as the second night left it."""
    made = collection(folder / "sources", pictures=60, rows=10)
    made.pictures |= {"second": 502, "worse": -2}
    del made.pictures["p003"], made.rows["k003"]
    made.write()
    return made


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and a root of two generations, and what a search finds in the first."""
    folder = tmp_path_factory.mktemp("nights")
    made = collection(folder / "sources", pictures=60, rows=10)
    root = folder / "root"
    assert build.main(["--root", str(root), *made.arguments, "--index-key", "IVF1,Flat"]) == 0
    (folder / "found.json").write_text(json.dumps(found(root)))
    _items(folder)
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    return folder


@pytest.fixture
def root(nights: Path, tmp_path: Path) -> Path:
    shutil.copytree(nights / "root", tmp_path / "root")
    return tmp_path / "root"


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def back(root: Path, *flags: str) -> int:
    return rollback.main(["--root", str(root), *flags])


def refused(root: Path, capsys: Capture, *flags: str, code: int) -> str:
    """The line of a command that changes nothing."""
    before = every_file(root)
    capsys.readouterr()
    assert back(root, *flags) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert every_file(root) == before
    return err


def test_searches_find_what_the_earlier_generation_found(nights: Path, root: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert back(root, "--to", "1") == 0
    assert said(capsys) == {"generation": 3, "rolled_back_to": 1}
    assert_same(found(root), json.loads((nights / "found.json").read_text()))
    assert verify.main(["--root", str(root)]) == 0


def test_nothing_of_what_was_there_changes(root: Path) -> None:
    before = every_file(root)
    assert back(root, "--to", "1") == 0
    after = every_file(root)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {layout.generation(3), layout.rolled_back(3)}


def test_the_manifest_is_that_of_before_under_a_new_number_and_sealed(root: Path) -> None:
    store = Store.at(str(root))
    first, second = manifest.read(store, 1), manifest.read(store, 2)
    assert back(root, "--to", "1") == 0
    again = manifest.read(store, 3)
    assert (again.totals, again.tables, again.index, again.trained) == (
        first.totals, first.tables, first.index, first.trained,
    )  # fmt: skip
    assert again.next_shard == second.next_shard > first.next_shard
    assert manifest.seal(again) == again


@pytest.mark.gate
def test_what_was_added_since_is_new_again_and_its_shard_numbers_are_not_used_again(
    nights: Path, root: Path, capsys: Capture
) -> None:
    _items(nights)
    used, before = Run(Store.at(str(root)), 2).plan, found(root)
    assert back(root, "--to", "1") == 0
    capsys.readouterr()
    assert reindexing.run(root, "--max-tombstones", "1") == 0

    last = said(capsys)
    assert (last["generation"], last["new"], last["gone"], last["changed"]) == (4, 2, 2, 0)
    assert Run(Store.at(str(root)), 4).plan.first_shard == used.first_shard + used.shards
    assert_same(found(root), before)
    assert verify.main(["--root", str(root)]) == 0


def test_a_rollback_can_be_rolled_back(root: Path) -> None:
    before = found(root)
    assert back(root, "--to", "1") == 0
    assert back(root, "--to", "2") == 0
    assert generation_of(root).generation == 4
    assert_same(found(root), before)


def test_the_current_generation_is_left_as_it_is(root: Path, capsys: Capture) -> None:
    before = every_file(root)
    capsys.readouterr()
    assert back(root, "--to", "2") == 0
    assert said(capsys) == {"generation": 2, "rolled_back_to": 2}
    assert every_file(root) == before


def test_a_generation_that_is_not_there_is_refused_with_those_that_are(root: Path, capsys: Capture) -> None:
    line = refused(root, capsys, "--to", "7", code=2)
    assert "7" in line
    assert "1" in line
    assert "2" in line


def test_where_to_must_be_said(root: Path, capsys: Capture) -> None:
    assert "--to" in refused(root, capsys, code=2)


@pytest.mark.gate
def test_an_unfinished_run_stands_in_the_way(nights: Path, root: Path, capsys: Capture) -> None:
    def fail(_: Run) -> Generation:
        raise OSError(28, "No space left on device")

    items = _items(nights)
    items.pictures["third"] = 503
    items.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "publish", fail)
        assert reindexing.run(root) == 1
    line = refused(root, capsys, "--to", "1", code=2)
    assert "unfinished run of generation 3" in line
    assert "--abandon-plan" in line


def test_a_file_that_is_gone_or_cut_short_is_named(root: Path, capsys: Capture) -> None:
    store = Store.at(str(root))
    for path in published.files(store, manifest.read(store, 1)):
        if path == layout.generation(1):
            continue
        file = root / path
        content = file.read_bytes()
        for damage in ("removed", "cut"):
            if damage == "removed":
                file.unlink()
            else:
                file.write_bytes(content[:-1])
            assert path in refused(root, capsys, "--to", "1", code=1), damage
            file.write_bytes(content)
    assert back(root, "--to", "1") == 0


def test_a_generation_that_somebody_else_published_meanwhile_is_left_as_it_is(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, next_shard = Store.at(str(root)), beginning.next_shard

    def publish_meanwhile(where: Store) -> int:
        store.create(layout.generation(3), b"of somebody else")
        monkeypatch.setattr(beginning, "next_shard", next_shard)
        return 99

    monkeypatch.setattr(beginning, "next_shard", publish_meanwhile)
    capsys.readouterr()
    assert back(root, "--to", "1") == 1
    assert "generation 3 was published meanwhile" in capsys.readouterr().err
    assert store.read(layout.generation(3)) == b"of somebody else"


def test_a_root_that_is_being_written_is_left_alone(root: Path, capsys: Capture) -> None:
    with lease.held(Store.at(str(root)), "reindex"):
        assert "pixdex reindex" in refused(root, capsys, "--to", "1", code=1)
    assert published.numbers(Store.at(str(root))) == [1, 2]
