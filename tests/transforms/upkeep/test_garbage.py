"""What may go of a root: nothing that a kept generation or an unfinished run needs, and nothing that is young."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.roots import Row, make_root, unit
from transforms.errors import PixdexError
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.markers import ListsMarker, ShardMarker
from transforms.record_json import encode
from transforms.records import EncoderSettings, FileReference, IndexSettings, Plan, Reindex, Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.backend import StoredFile
from transforms.storage.store import Store
from transforms.upkeep import garbage as collecting
from transforms.upkeep.garbage import Garbage, find_garbage

DAY = 24 * 3600
ROWS = (Row("a", unit(1)), Row("b", unit(2)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root of two generations: the second has rows that the first has not."""
    make_root(tmp_path / "root", ROWS)
    return make_root(tmp_path / "root", ROWS, (Row("c", unit(3)),), number=2)


def garbage_of(store: Store, keep: int = 1, grace: float = 0, later: float = 1) -> Garbage:
    """What may go, looked at so many seconds from now."""
    return find_garbage(store, keep, grace, time.time() + later)


def paths(garbage: Garbage) -> set[str]:
    return {file.path for file in garbage.files}


def needed(store: Store, number: int) -> set[str]:
    return set(published.files(store, store.read_record(layout.generation(number), Generation)))


def begin(store: Store) -> Run:
    request = Request((Source("images", "file:///new"),), EncoderSettings("demo", "f", 2, ("image",)), IndexSettings())
    return beginning.begin(store, request)


def test_what_only_an_earlier_generation_needs_may_go(store: Store) -> None:
    garbage = garbage_of(store)
    assert (garbage.kept, garbage.generations) == ((2,), (1,))
    assert paths(garbage) == needed(store, 1) - needed(store, 2) - {layout.generation(1)}
    assert garbage.bytes == sum(len(store.read(path)) for path in paths(garbage))


def test_what_two_kept_generations_need_stays(store: Store) -> None:
    garbage = garbage_of(store, keep=2)
    assert (garbage.kept, garbage.generations, garbage.files) == ((1, 2), (), ())


@pytest.mark.parametrize("keep", [0, -1])
def test_the_current_generation_always_stays(store: Store, keep: int) -> None:
    assert garbage_of(store, keep=keep).kept == (2,)


def test_more_than_there_are_can_be_kept(store: Store) -> None:
    assert garbage_of(store, keep=99).kept == (1, 2)


def test_what_was_current_within_the_grace_period_stays_until_it_is_over(store: Store) -> None:
    assert garbage_of(store, grace=DAY, later=DAY - 60).kept == (1, 2)
    assert garbage_of(store, grace=DAY, later=DAY + 60).kept == (2,)


def test_young_files_are_spared_and_counted(store: Store) -> None:
    store.create("embeddings/0000/left", b"behind")
    young, old = garbage_of(store, keep=2, grace=DAY), garbage_of(store, keep=2, grace=DAY, later=DAY + 60)
    assert ([file.path for file in young.spared], young.files) == (["embeddings/0000/left"], ())
    assert ([file.path for file in old.files], old.spared) == (["embeddings/0000/left"], ())


@pytest.mark.parametrize("folder", collecting.FOLDERS)
def test_files_that_nothing_needs_are_found_in_every_folder_but_that_of_manifests(store: Store, folder: str) -> None:
    store.create(f"{folder}/stray", b"x")
    store.create(f"{folder}/deep/er/stray", b"x")
    found = paths(garbage_of(store, keep=2))
    assert f"{folder}/deep/er/stray" in found
    assert (f"{folder}/stray" in found) == (folder != layout.GENERATIONS)


@pytest.mark.parametrize("path", ["notes", "elsewhere/x", "tables/.half", "index/000001/.mine", "lease.json"])
def test_files_elsewhere_and_hidden_ones_are_not_looked_at(store: Store, path: str) -> None:
    store.create(path, b"x")
    assert path not in paths(garbage_of(store))


def test_of_the_run_of_a_generation_that_stays_its_numbers_stay_and_of_others_nothing(store: Store) -> None:
    numbers = ("request.json", "plan.json", "stages/publish.json")
    others = ("embed/0000000000.json", "items/plan.json", "items/x", "stages/embed.json")
    for number in (1, 2):
        for name in (*numbers, *others):
            store.create(f"plans/{number:06d}/{name}", b"{}")
    garbage = garbage_of(store)
    found = {path for path in paths(garbage) if path.startswith("plans/")}
    assert found == {f"plans/000001/{name}" for name in (*numbers, *others)} | {f"plans/000002/{n}" for n in others}
    assert (garbage.numbers, garbage.needed) == (3, len(needed(store, 2)) - 1)


def given_up(store: Store, first_shard: int, shards: int) -> Run:
    """A run that was planned, and given up."""
    run = begin(store)
    table = FileReference("tables/p", 1, f"sha256:{0:064}")
    store.commit(
        layout.plan(run.generation), Plan(run.generation, "0", table, first_shard, shards, 1, 1, 1, "IVF1,Flat")
    )
    beginning.abandon(run)
    return run


def test_runs_that_were_given_up_leave_the_highest_numbers_only(store: Store) -> None:
    first = beginning.next_shard(store)
    for number in range(20):  # the third has the highest shards, the last the highest number
        given_up(store, first, 5 if number == 3 else 1)
    number, shard = beginning.next_number(store), beginning.next_shard(store)
    garbage = garbage_of(store, keep=2)
    collecting.remove(store, garbage)

    left = {file.path for file in store.walk(layout.PLANS)}
    assert left == {f"plans/{kept:06d}/{name}.json" for kept in (6, 22) for name in ("request", "plan", "abandoned")}
    assert (beginning.next_number(store), beginning.next_shard(store)) == (number, shard) == (23, first + 5)
    assert beginning.unfinished(store) is None


def test_a_run_that_was_given_up_never_looks_as_if_it_went_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        given_up(store, 0, 1)
    removed, remove = [], Store.remove

    def note(where: Store, path: str) -> None:
        remove(where, path)
        removed.append(path)
        assert beginning.unfinished(store) is None, removed

    monkeypatch.setattr(Store, "remove", note)
    collecting.remove(store, garbage_of(store, keep=2))
    assert layout.abandoned(3) in removed


def test_that_a_run_was_given_up_stays_known_while_its_request_is_too_young_to_go(store: Store) -> None:
    old = given_up(store, 9, 1)
    given_up(store, 9, 1)
    then = time.time() - 2 * DAY
    os.utime(store.local_path(layout.abandoned(old.generation)), (then, then))
    collecting.remove(store, garbage_of(store, keep=2, grace=DAY))
    assert beginning.unfinished(store) is None


def test_of_an_unfinished_run_everything_stays_that_its_markers_name(store: Store) -> None:
    run = begin(store)
    named = [f"{folder}/named" for folder in ("embeddings/0000", "rejects/0000", "lists/f", "tables", "trained/f")]
    files = [FileReference(path, 1, f"sha256:{0:064}") for path in named]
    for path in [*named, "embeddings/0000/unnamed", f"{layout.items_folder(3)}/x.parquet"]:
        store.create(path, b"x")
    store.commit(layout.plan(3), Plan(3, "0", files[3], 2, 1, 1, 1, 1, "IVF1,Flat"))
    store.commit(layout.marker(3, "embed", 2), ShardMarker(2, 1, "", 1, 0, 1, 1, 0, 0, files[0], files[1], 0.0))
    store.commit(layout.marker(3, "add", 1), ListsMarker(1, "", 1, files[2]))
    store.create(layout.marker(3, "train", 0), encode({"deep": [{"trained": {"index": files[4]}}]}))

    garbage = garbage_of(store, keep=2)
    assert paths(garbage) == {"embeddings/0000/unnamed"}
    assert set(collecting.needed_by(run)) >= {*named, f"{layout.items_folder(3)}/x.parquet"}


def test_a_beacon_that_goes_while_it_is_looked_at_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lit = begin(store), layout.beacon(3, "embed", 7)
    store.create(layout.marker(3, "embed", 0), b"{}")
    store.overwrite(lit, b"{}")
    walk = Store.walk

    def walk_while_a_task_ends(where: Store, folder: str, *, hidden: bool = False) -> Iterator[StoredFile]:
        files = list(walk(where, folder, hidden=hidden))
        if folder == layout.plan_folder(3):
            where.remove(lit)
        yield from files

    monkeypatch.setattr(Store, "walk", walk_while_a_task_ends)
    assert layout.marker(3, "embed", 0) in set(collecting.needed_by(run))


def test_beacons_stay_while_their_run_is_unfinished(store: Store) -> None:
    run = begin(store)
    store.overwrite(layout.beacon(3, "embed", 7), b"{}")
    assert paths(garbage_of(store, keep=2)) == set()
    beginning.abandon(run)
    assert layout.beacon(3, "embed", 7) in paths(garbage_of(store, keep=2))


def test_the_merged_index_of_an_unfinished_run_stays_though_no_marker_names_it(store: Store) -> None:
    begin(store)
    store.create(layout.merged_index(3), b"x")
    assert paths(garbage_of(store, keep=2)) == set()


def test_the_base_of_an_unfinished_run_stays_with_its_manifest(store: Store) -> None:
    request = store.read_record(layout.generation(1), Generation).request
    beginning.begin(store, replace(request, reindex=Reindex(base=1)))
    garbage = garbage_of(store)
    assert (garbage.kept, garbage.generations) == ((1, 2), ())
    assert not paths(garbage) & needed(store, 1)


def test_markers_are_read_many_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(store)
    for task in range(20):
        store.create(layout.marker(3, "embed", task), b"{}")
    read, meeting = Store.read, threading.Barrier(2)

    def read_in_company(where: Store, path: str) -> bytes:
        if "/embed/" in path:
            meeting.wait(30)
        return read(where, path)

    monkeypatch.setattr(Store, "read", read_in_company)
    assert layout.marker(3, "embed", 19) in set(collecting.needed_by(run))


PARTIAL = "index/000003/.index.faiss.partial"
"""What a merge writes into until it is whole."""


def test_the_half_merged_index_of_a_run_that_was_given_up_may_go(store: Store) -> None:
    run = begin(store)
    store.create(PARTIAL, b"half")
    assert paths(garbage_of(store, keep=2)) == set()
    beginning.abandon(run)
    assert [file.path for file in garbage_of(store, keep=2, grace=DAY).spared if file.path == PARTIAL] == [PARTIAL]
    garbage = garbage_of(store, keep=2)
    assert PARTIAL in paths(garbage)
    collecting.remove(store, garbage)
    assert not store.local_path("index/000003").exists()


def test_temporary_files_of_other_hosts_may_go_when_no_run_is_unfinished(store: Store) -> None:
    foreign = ".scratch/another-host-1-x/deep/half"
    own = f".scratch/{socket.gethostname()}-{os.getpid()}-x/half"
    for path in (foreign, own):
        store.create(path, b"half")
    assert {file.path for file in garbage_of(store, keep=2, grace=DAY).spared} == {foreign}
    run = begin(store)
    assert paths(garbage_of(store, keep=2)) == set()
    beginning.abandon(run)
    garbage = garbage_of(store, keep=2)
    assert paths(garbage) == {foreign}
    collecting.remove(store, garbage)
    assert not store.local_path(".scratch/another-host-1-x").exists()
    assert store.exists(own)


def test_of_a_run_that_was_given_up_only_its_numbers_stay(store: Store) -> None:
    run = begin(store)
    store.create("embeddings/0000/named", b"x")
    file = FileReference("embeddings/0000/named", 1, f"sha256:{0:064}")
    store.commit(layout.marker(3, "embed", 2), ShardMarker(2, 1, "", 1, 0, 1, 1, 0, 0, file, None, 0.0))
    beginning.abandon(run)
    assert paths(garbage_of(store, keep=2)) == {"embeddings/0000/named", layout.marker(3, "embed", 2)}


def test_a_table_that_cannot_be_read_lets_nothing_go(store: Store) -> None:
    generation = store.read_record(layout.generation(2), Generation)
    store.remove(generation.tables.shards.path)
    with pytest.raises(PixdexError, match=generation.tables.shards.path):
        garbage_of(store)


def test_a_manifest_that_cannot_be_read_lets_nothing_go(store: Store) -> None:
    store.overwrite(layout.generation(2), b"{")
    with pytest.raises(PixdexError, match="not a readable Generation"):
        garbage_of(store)


def test_what_may_go_is_removed_with_folders_that_become_empty(store: Store) -> None:
    left = needed(store, 2)
    collecting.remove(store, garbage_of(store))
    assert {file.path for file in collecting.everything(store)} == left
    assert not store.local_path(layout.index_folder(1)).exists()


def test_what_somebody_else_removed_meanwhile_is_no_error(store: Store) -> None:
    garbage = garbage_of(store)
    collecting.remove(store, garbage)
    collecting.remove(store, garbage)


def test_a_root_on_an_object_store_is_collected_alike(store: Store) -> None:
    copy = Store.at(f"memory://{uuid.uuid4().hex}")
    for file in collecting.everything(store):
        copy.create(file.path, store.read(file.path))
    garbage = garbage_of(copy)
    assert paths(garbage) == paths(garbage_of(store))
    collecting.remove(copy, garbage)
    assert {file.path for file in collecting.everything(copy)} == needed(copy, 2)
