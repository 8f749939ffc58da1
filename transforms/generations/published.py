"""Generations: which one is current, and which run comes next.

The highest number below `generations/` is the current generation. A run claims the next free number by creating its
request; a run that was abandoned keeps its number, and the shard numbers of its plan, for ever.
"""

import pyarrow as pa

from transforms.errors import PixdexError
from transforms.generations import manifest
from transforms.generations.manifest import Generation
from transforms.records import FileReference, Plan, Request
from transforms.runs.run import Run
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store


def numbers(store: Store) -> list[int]:
    """Returns the numbers of the published generations, ascending."""
    names = (name.removesuffix(".json") for name in store.names(layout.GENERATIONS))
    return sorted(int(name) for name in names if name.isdigit())


def current(store: Store) -> Generation | None:
    """Returns the current generation, or None when nothing is published yet."""
    published = numbers(store)
    return manifest.read(store, published[-1]) if published else None


def runs(store: Store) -> list[int]:
    """Returns the numbers of all runs that were ever begun, ascending; a folder without a request is none."""
    found = sorted(int(name) for name in store.names(layout.PLANS) if name.isdigit())
    return [number for number in found if store.exists(layout.request(number))]


def unfinished(store: Store) -> Run | None:
    """Returns the run that is begun, not published and not abandoned; there is at most one.

    Its number is above those of all generations: of a lower one, the generation was there and has been collected.
    """
    latest = max(numbers(store), default=0)
    open_runs = (Run(store, number) for number in runs(store) if number > latest)
    return next((run for run in open_runs if not _is_abandoned(run)), None)


def next_number(store: Store) -> int:
    """Returns the first generation number that no run has used."""
    return max([0, *numbers(store), *runs(store)]) + 1


def next_shard(store: Store) -> int:
    """Returns the first shard number that no plan, abandoned ones too, and no generation has used."""
    plans = (store.find_record(layout.plan(number), Plan) for number in runs(store))
    published = current(store)
    return max([published.next_shard if published else 0, *(plan.first_shard + plan.shards for plan in plans if plan)])


def begin(store: Store, request: Request) -> Run:
    """Commits a request under the next number, or adopts the same request that someone else commits at this moment.

    Raises:
        PixdexError: another request was committed first.
    """
    run = Run(store, next_number(store))
    stands = store.commit(layout.request(run.generation), request)
    # Whoever looked for the next number a moment later has the higher one: it gives way to the lower.
    first = unfinished(store) or run
    if first.generation < run.generation:
        abandon(run)
        run, stands = first, first.request
    if stands != request:
        raise PixdexError(f"another run has just begun on {store.url}: wait for it, then run again")
    return run


def abandon(run: Run) -> None:
    """Gives up an unfinished run: its numbers are burned, its files wait to be collected."""
    run.store.create(layout.abandoned(run.generation), b"{}\n")


def read_table(store: Store, reference: FileReference) -> pa.Table:
    """Reads one of a generation's tables."""
    return parquet_files.read(store, reference)


def files(store: Store, generation: Generation) -> list[str]:
    """Returns the paths, sorted, of every file that a generation needs, itself included."""
    trained = generation.trained
    named = [trained.index, trained.training, trained.assignment, generation.canaries, *generation.tables.all]
    if not generation.is_segmented:
        named.append(generation.index)
    paths = {layout.generation(generation.generation), *(reference.path for reference in named if reference)}
    for table in generation.tables.all:
        columns = read_table(store, table)
        if "path" in columns.column_names:  # containers are elsewhere
            paths.update(path for path in columns["path"].to_pylist() if path)
    return sorted(paths)


def _is_abandoned(run: Run) -> bool:
    return run.store.exists(layout.abandoned(run.generation))
