"""How a run begins and how it is given up: which one is unfinished, and which numbers are free.

A run claims the next free number by creating its request; a run that was abandoned keeps its number, and the shard
numbers of its plan, for ever.
"""

from transforms.errors import PixdexError, UsageError
from transforms.generations import published
from transforms.records import Plan, Request
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store


def runs(store: Store) -> list[int]:
    """Returns the numbers of all runs that were ever begun, ascending; a folder without a request is none."""
    begun = sorted(int(name) for name in store.names(layout.PLANS) if name.isdecimal())
    return [number for number in begun if store.exists(layout.request(number))]


def unfinished(store: Store) -> Run | None:
    """Returns the run that is begun, not published and not abandoned; there is at most one.

    Its number is above those of all generations: of a lower one, the generation was there and has been collected.
    """
    latest = max(published.numbers(store), default=0)
    open_runs = (Run(store, number) for number in runs(store) if number > latest)
    return next((run for run in open_runs if not _is_abandoned(run)), None)


def check_none_unfinished(store: Store) -> None:
    """Refuses what must not change the current generation while a run goes on from it.

    Raises:
        UsageError: a run is not finished.
    """
    run = unfinished(store)
    if run is not None:
        raise UsageError(
            f"{store.url} has an unfinished run of generation {run.generation}: finish it with its own command, or "
            "give it up with --abandon-plan"
        )


def next_number(store: Store) -> int:
    """Returns the first generation number that no run has used."""
    return max([0, *published.numbers(store), *runs(store)]) + 1


def next_shard(store: Store) -> int:
    """Returns the first shard number that no plan, abandoned ones too, and no generation has used."""
    plans = (store.find_record(layout.plan(number), Plan) for number in runs(store))
    current = published.current(store)
    return max([current.next_shard if current else 0, *(plan.first_shard + plan.shards for plan in plans if plan)])


def begin(store: Store, request: Request) -> Run:
    """Commits a request under the next number, or adopts the same request that someone else commits at this moment.

    Raises:
        PixdexError: another request was committed first.
    """
    run = Run(store, next_number(store))
    committed = store.commit(layout.request(run.generation), request)
    # Whoever looked for the next number a moment later has the higher one: it gives way to the lower.
    first = unfinished(store) or run
    if first.generation < run.generation:
        abandon(run)
        run, committed = first, first.request
    if committed != request:
        raise PixdexError(f"another run has just begun on {store.url}: wait for it, then run again")
    return run


def abandon(run: Run) -> None:
    """Gives up an unfinished run: its numbers are burned, its files wait to be collected."""
    run.store.create(layout.abandoned(run.generation), b"{}\n")


def give_up(run: Run) -> None:
    """Gives up a run that came to nothing, with what it listed, which would grow by a listing every night."""
    abandon(run)
    run.store.remove_folder(layout.items_folder(run.generation))
    run.store.remove_folder(layout.removed_folder(run.generation))


def _is_abandoned(run: Run) -> bool:
    return run.store.exists(layout.abandoned(run.generation))
