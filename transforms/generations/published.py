"""Which generations are published, which one is current, and whether all that one needs is there.

The highest number below `generations/` is the current generation.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from transforms.errors import PixdexError, UsageError
from transforms.generations import manifest, tables
from transforms.generations.manifest import Generation
from transforms.storage import layout
from transforms.storage.store import Store, missing

_LOOKERS: Final = 16


def numbers(store: Store) -> list[int]:
    """Returns the numbers of the published generations, ascending."""
    names = (name.removesuffix(".json") for name in store.names(layout.GENERATIONS))
    return sorted(int(name) for name in names if name.isdecimal())


def current(store: Store) -> Generation | None:
    """Returns the current generation, or None when nothing is published yet."""
    published = numbers(store)
    return manifest.read(store, published[-1]) if published else None


def lost(store: Store) -> int | None:
    """Returns the newest generation if its manifest is gone, though its plan says that it was published.

    Of older ones nothing is said: pixdex gc removes their manifests.
    """
    newest = max(numbers(store), default=0)
    later = (int(name) for name in store.names(layout.PLANS) if name.isdecimal() and int(name) > newest)
    return max((number for number in later if _was_published(store, number)), default=None)


def _was_published(store: Store, number: int) -> bool:
    if store.exists(layout.rolled_back(number)):
        return True
    # A run that found nothing to do has come to its end, too, and was given up.
    ended = store.exists(layout.stage_marker(number, "publish"))
    return ended and not store.exists(layout.abandoned(number))


def check_there(store: Store) -> None:
    """Refuses a root on a disk that is not there; on an object store there is none until something is in it.

    Raises:
        UsageError: there is no such folder.
    """
    if store.local is not None and not store.local.is_dir():
        raise UsageError(f"--root {store.local}: there is no such folder; check its spelling")


def open_generation(store: Store, number: int | None = None) -> Generation:
    """Returns the current generation, or the one with this number.

    Raises:
        UsageError: there is none.
    """
    check_there(store)
    published = numbers(store)
    root = store.local or store.url
    if not published:
        raise UsageError(f"--root {root}: no generation is there yet; make one with: pixdex build --root {root} …")
    if number is None:
        number = published[-1]
    elif number not in published:
        raise UsageError(f"--root {root}: there is no generation {number}, only {', '.join(map(str, published))}")
    return manifest.read(store, number)


def files(store: Store, generation: Generation) -> list[str]:
    """Returns the paths, sorted, of every file that a generation needs, itself included."""
    needed = {reference.path for reference in tables.references(store, generation)}
    return sorted({layout.generation(generation.generation), *needed})


def check_whole(store: Store, generation: Generation) -> None:
    """Checks that everything a generation needs is there with its size; contents are not read.

    Raises:
        PixdexError: names the first file that is not.
    """
    with ThreadPoolExecutor(_LOOKERS, "look") as pool:
        needed = tables.references(store, generation)
        for file, is_there in zip(needed, pool.map(store.holds, needed), strict=True):
            if not is_there:
                gone = missing(store, file.path)
                raise PixdexError(f"generation {generation.generation} is not whole: {gone}")
