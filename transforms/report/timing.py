"""What the run of a generation took: seconds and bytes of each stage, where the time went, on which machines."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from transforms.generations.manifest import Generation
from transforms.markers import StageMarker
from transforms.runs.progress import stage_seconds
from transforms.runs.run import STAGES, Run, Stage
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed import spent

_MARKERS: Final = 4096
"""Of a stage, whose files are counted at most; a stage with more says nothing of its bytes."""

_READERS: Final = 16


@dataclass(frozen=True)
class StageTaken:
    """A stage of a run.

    Attributes:
        tasks: that it had.
        seconds: from the end of the stage before; None: it was done before the run went on.
        bytes: of the files that its markers name; None: nobody counted.
    """

    stage: str
    tasks: int
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class Timing:
    """What a run took.

    Attributes:
        began, finished: in seconds since the epoch.
        stages: in their order.
        spent: seconds of each part of embedding, over all shards; None: nothing was embedded.
        limit: what a faster run would need more of; None: nothing, or nobody knows.
        hosts: machines that embedded.
        changes: what a reindex found, in items.
    """

    began: float
    finished: float
    stages: tuple[StageTaken, ...]
    spent: dict[str, float] | None = None
    limit: str | None = None
    hosts: tuple[str, ...] = ()
    changes: dict[str, int] | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """Those of each stage that this run of the job did, as the last line of the command has them."""
        return {each.stage: each.seconds for each in self.stages if each.seconds is not None}


def taken_by(run: Run, generation: Generation, since: float | None = None) -> Timing | None:
    """Returns what the run of a generation took; None: there was none, or gc has dropped what it left.

    Args:
        run: its run.
        generation: what it published.
        since: when the job started, in seconds since the epoch; None: when the run was begun.

    Cost: reads a marker of each stage, and those of its tasks where these are 4,096 at most; of embedding all of them.
    """
    markers = {stage: marker for stage in STAGES if (marker := run.stage_marker(stage)) is not None}
    if "plan" not in markers or "publish" not in markers:
        return None
    began = since if since is not None else run.store.changed(layout.request(run.generation))
    seconds = stage_seconds(run, began)
    shards = run.shards()
    stages = tuple(
        StageTaken(stage, marker.tasks, seconds.get(stage), _bytes_of(run, generation, stage, marker))
        for stage, marker in markers.items()
    )
    changes = run.plan.changes
    return Timing(
        began=began,
        finished=markers["publish"].finished,
        stages=stages,
        spent=spent.total(shards),  # type: ignore[arg-type]  # its keys are strings
        limit=spent.what_limits(shards, generation.request.encoder.threads),
        hosts=tuple(sorted({marker.spent.host for marker in shards if marker.spent is not None})),
        changes=None if changes is None else msgspec.to_builtins(changes),
    )


def published_at(store: Store, generation: Generation) -> float:
    """Returns when a generation was published, in seconds since the epoch, as its file says."""
    return store.changed(layout.generation(generation.generation))


def _bytes_of(run: Run, generation: Generation, stage: Stage, marker: StageMarker) -> int | None:
    if stage == "plan":
        return sum(file.bytes for file in (run.plan.partitions, run.plan.containers) if file is not None)
    if stage == "publish":
        return sum(table.bytes for table in generation.tables.all)
    if stage == "merge":
        own = layout.index_folder(run.generation)
        return generation.index.bytes if marker.tasks and generation.index.path.startswith(own) else 0
    folder = layout.marker_folder(run.generation, stage)
    names = [name for name in run.store.names(folder) if name.endswith(".json")]  # the sample lies in one, too
    if len(names) > _MARKERS:
        return None
    paths = [f"{folder}/{name}" for name in names]
    with ThreadPoolExecutor(_READERS, "report") as pool:
        files = {file: size for data in pool.map(run.store.read, paths) for file, size in _files(_decoded(data))}
    return sum(files.values())


def _decoded(data: bytes) -> Any:
    return msgspec.json.decode(data)


def _files(value: Any) -> Iterator[tuple[str, int]]:
    """The files that a marker, as JSON has it, refers to."""
    if isinstance(value, dict):
        path, size = value.get("path"), value.get("bytes")
        if isinstance(path, str) and isinstance(size, int):
            yield path, size
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _files(part)
