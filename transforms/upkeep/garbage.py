"""What may go: files of a root that no kept generation and no unfinished run needs.

Of runs that are over, what keeps their numbers from being used again stays as far as nothing else does: generation
numbers below the current one, and shard numbers that its manifest counts, are safe without. Of a generation that stays,
its run's request and plan stay, and that it was published.

Manifests go first, the oldest before all, so that no manifest that can be read names a file that is gone; whoever is
interrupted leaves a root that works, and the next one goes on. A file that is younger than the grace period stays, and
so does what a generation needs that was current within it: a reader that opened it keeps working, and has that long to
open the next one. (On a filesystem a file that is open, or mapped, can be read until it is closed in any case.)
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from transforms.generations import manifest, published
from transforms.records import Plan
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage import inside, layout
from transforms.storage.backend import StoredFile
from transforms.storage.store import Store, damaged

FOLDERS: Final = (
    layout.GENERATIONS, layout.PLANS, layout.TABLES, "embeddings", "rejects", "vectors", "trained", "lists", "index",
    layout.REPORTS,
)  # fmt: skip
"""Where a root keeps its own; nothing else is looked at."""

_NUMBERS: Final = ("request.json", "plan.json", "abandoned.json", "stages/publish.json", "rolled-back.json")
"""Of a run: they keep its numbers from being used again, and say whether it was published."""

_INDEX: Final = "index"
_PARTIAL: Final = ".partial"
"""How the hidden name of a file ends that is being merged into (`transforms.tasks.merge.file`)."""

_SCRATCH: Final = f"{layout.SCRATCH}/"

_GIVEN_UP: Final = "/abandoned.json"

_AT_ONCE: Final = 16
"""Files are small and often far away: read and remove this many at a time."""


@dataclass(frozen=True)
class Garbage:
    """What may go.

    Attributes:
        kept: numbers of the generations that stay.
        generations: numbers of those that go, oldest first.
        files: those that go, manifests left out.
        spared: files that nothing needs, but that are too young.
        needed: how many files stay because a generation, or the unfinished run, needs them.
        numbers: how many stay because they keep numbers of runs from being used again.
    """

    kept: tuple[int, ...]
    generations: tuple[int, ...]
    files: tuple[StoredFile, ...]
    spared: tuple[StoredFile, ...]
    needed: int
    numbers: int

    @property
    def bytes(self) -> int:
        """Of the files that go."""
        return sum(file.bytes for file in self.files)


def find_garbage(store: Store, keep: int, grace_seconds: float, now: float) -> Garbage:
    """Looks for what may go.

    Args:
        store: the root.
        keep: the newest so many generations stay, at least one.
        grace_seconds: younger files stay, and generations that were current within it.
        now: seconds since the epoch.

    Cost: lists every folder of the root and reads the tables of what stays. Memory: about 200 bytes a file.

    Raises:
        PixdexError: a table of a generation that stays cannot be read: nothing may be removed then.
        UsageError: a folder of the root is a link: what lies behind it is not the root's to remove.
    """
    numbers = published.numbers(store)
    run = beginning.unfinished(store)
    kept = _kept(store, numbers, keep, now - grace_seconds)
    if run is not None and run.base is not None:
        kept = sorted({*kept, run.base.generation})
    needed = {path for number in kept for path in published.files(store, manifest.read(store, number))}
    if run is not None:
        needed |= set(needed_by(run))
    if store.local is not None:
        for folder in {path.rpartition("/")[0] for path in needed}:
            inside.for_listing(store.local, folder)
    kept_numbers = _kept_numbers(store, kept)
    whole = [f"{layout.report_folder(number)}/" for number in kept]
    if run is not None:
        whole.append(f"{layout.beacons(run.generation)}/")
    found: dict[str, list[StoredFile]] = {"needed": [], "numbers": [], "spared": [], "gone": []}
    for file in itertools.chain(everything(store), _leftovers(store, run)):
        if file.path.rpartition("/")[0] == layout.GENERATIONS:
            continue
        if file.path in needed or file.path.startswith(tuple(whole)):
            fate = "needed"
        elif file.path in kept_numbers:
            fate = "numbers"
        else:
            fate = "spared" if file.changed > now - grace_seconds else "gone"
        found[fate].append(file)
    # A run that was given up must not look as if it went on: while its request stays, so does what says so.
    begun = {layout.abandoned(number) for number in beginning.runs(store)}
    begun -= {file.path.replace("/request.json", "/abandoned.json") for file in found["gone"]}
    return Garbage(
        kept=tuple(kept),
        generations=tuple(number for number in numbers if number not in kept),
        files=tuple(file for file in found["gone"] if file.path not in begun),
        spared=tuple(found["spared"]),
        needed=len(found["needed"]),
        numbers=len(found["numbers"]),
    )


def remove(store: Store, garbage: Garbage) -> None:
    """Removes it."""
    for number in garbage.generations:
        store.remove(layout.generation(number))
    last = [file for file in garbage.files if file.path.endswith(_GIVEN_UP)]
    first = [file for file in garbage.files if not file.path.endswith(_GIVEN_UP)]
    with ThreadPoolExecutor(_AT_ONCE, "remove") as pool:
        for some in (first, last):
            for _ in pool.map(lambda file: store.remove(file.path), some):
                pass
    scratch = {"/".join(file.path.split("/")[:2]) for file in garbage.files if file.path.startswith(_SCRATCH)}
    store.remove_empty_folders((*FOLDERS, *sorted(scratch)))  # its own folder may be in use at this moment


def everything(store: Store) -> Iterator[StoredFile]:
    """Lists the files of a root, hidden ones left out."""
    for folder in FOLDERS:
        yield from store.walk(folder)


def needed_by(run: Run) -> Iterator[str]:
    """Names the files that an unfinished run needs: what its markers refer to, its merged file, and its base.

    Beacons of its tasks are not among them.
    """
    store, base = run.store, run.base
    if base is not None:
        yield from published.files(store, base)
    yield layout.merged_index(run.generation)  # markers of its pieces do not name it
    beacons = f"{layout.beacons(run.generation)}/"  # they come and go, and refer to nothing
    walked = (file.path for file in store.walk(layout.plan_folder(run.generation)))
    planned = [path for path in walked if not path.startswith(beacons)]
    yield from planned
    with ThreadPoolExecutor(_AT_ONCE, "read") as pool:
        records = [path for path in planned if path.endswith(".json")]
        for path, content in zip(records, pool.map(store.read, records), strict=True):
            try:
                yield from _paths(msgspec.json.decode(content))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise damaged(store, path, str(error)) from error


def _kept_numbers(store: Store, kept: Sequence[int]) -> set[str]:
    """The files of runs that are over and whose numbers nothing else keeps, and of those of generations that stay.

    These are the highest run of all, and the one whose plan has the highest shards, if the current generation does not
    count them.
    """
    runs = beginning.runs(store)
    current = manifest.read(store, kept[-1]) if kept else None
    since = [number for number in runs if current is None or number > current.generation]
    plans = {number: store.find_record(layout.plan(number), Plan) for number in since}
    ends = {number: plan.first_shard + plan.shards for number, plan in plans.items() if plan is not None}
    owners = {*kept, *runs[-1:]}
    if ends and max(ends.values()) > (current.next_shard if current is not None else 0):
        owners.add(max(ends, key=ends.__getitem__))
    return {f"{layout.plan_folder(number)}/{name}" for number in owners for name in _NUMBERS}


def _leftovers(store: Store, run: Run | None) -> Iterator[StoredFile]:
    """Lists what runs that are over left under hidden names: half merged indexes, and temporary files of other hosts.

    Those of this host are swept when their process is dead (`Store.sweep_scratch`).
    """
    if store.local is None:
        return
    unfinished_index = None if run is None else layout.index_folder(run.generation)
    for file in store.walk(_INDEX, hidden=True):
        folder, _, name = file.path.rpartition("/")
        if folder != unfinished_index and name.startswith(".") and name.endswith(_PARTIAL):
            yield file
    if run is None:  # or its workers have them
        yield from store.scratch_of_others()


def _kept(store: Store, numbers: Sequence[int], keep: int, since: float) -> list[int]:
    """The newest, and those whose successor is younger than the grace period."""
    newest = set(numbers[-max(keep, 1) :])
    for number, successor in itertools.pairwise(numbers):
        if store.changed(layout.generation(successor)) > since:
            newest.add(number)
    return sorted(newest)


def _paths(value: Any) -> Iterator[str]:
    """The paths that a marker, as JSON has it, refers to."""
    if isinstance(value, dict):
        if isinstance(path := value.get("path"), str):
            yield path
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for part in value:
            yield from _paths(part)
