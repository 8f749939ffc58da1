"""Notices that embedding a shard ended its process: a decoder that crashes takes everything with it and says nothing.

A mark stands on storage while a shard is being embedded. Whoever finds one, where no marker says that the shard is
done, knows that the attempt before ended without a word: it was killed, its machine is gone, or a picture was its end.
"""

import contextlib
from collections.abc import Iterator

from transforms.runs.run import Run
from transforms.storage import layout


@contextlib.contextmanager
def attempt(run: Run, shard: int) -> Iterator[bool]:
    """Marks a shard while it is being embedded, and yields whether it was marked: then care is to be taken.

    The mark goes with the block, however that is left. An attempt that goes on beside this one is taken for a dead one,
    which costs time and changes no byte.

    Cost: two small writes a shard.
    """
    path = layout.attempt(run.generation, shard)
    marked = not run.store.create(path, b"")
    try:
        yield marked
    except BaseException:
        if not marked:  # a mark that was found stays: whoever comes next is to take care, too
            with contextlib.suppress(Exception):
                run.store.remove(path)
        raise
    run.store.remove(path)
