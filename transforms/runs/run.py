"""A run: one request on one root, on its way to becoming a generation.

Every stage reads what it needs from the store — the request, the plan, the markers of the stage before — so that all
that travels between stages is the word "done".
"""

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar, get_args

from transforms.errors import PixdexError
from transforms.generations import manifest
from transforms.generations.manifest import Generation
from transforms.markers import DriftMarker, ShardMarker, StageMarker, TrainMarker
from transforms.records import Plan, Request, files_in
from transforms.storage import layout
from transforms.storage.store import Store

Stage = Literal[
    "plan",
    "embed",
    "keys",
    "tombstones",
    "drift",
    "sample",
    "parents",
    "route",
    "cells",
    "pass1",
    "move1",
    "pass2",
    "move2",
    "train",
    "add",
    "compact",
    "tier",
    "merge",
    "publish",
]
STAGES: tuple[Stage, ...] = get_args(Stage)

T = TypeVar("T")

_READERS = 16
"""Markers are small files, often far away: read this many at a time."""


@dataclass(frozen=True)
class Run:
    """The run that makes generation `generation` of a root.

    Attributes:
        base_root: the root of the generation that a reindex goes on from, where that is another one: a dry run's is.
    """

    store: Store
    generation: int
    base_root: Store | None = None

    def __getstate__(self) -> dict[str, object]:
        """What has been read of a run does not travel to workers: a plan may be large, and each reads its own."""
        return {"store": self.store, "generation": self.generation, "base_root": self.base_root}

    @property
    def is_planned(self) -> bool:
        """Tells whether the sources were listed: the plan is committed."""
        return self.store.exists(layout.plan(self.generation))

    @cached_property
    def request(self) -> Request:
        """What was asked for, which is there before the first worker is.

        Raises:
            PixdexError: it is not, for this machine sees another folder under the name of the root.
        """
        request = self.store.find_record(layout.request(self.generation), Request)
        if request is None:
            raise PixdexError(
                f"{self.store.url} on {socket.gethostname()} is not the root of this job: mount that on every worker, "
                "and the sources, under the same paths, or use a bucket"
            )
        return request

    @cached_property
    def plan(self) -> Plan:
        """The committed plan; the plan stage must be done."""
        return self.store.read_record(layout.plan(self.generation), Plan)

    @property
    def base_store(self) -> Store:
        """The root where `base` and its files lie."""
        return self.base_root or self.store

    @cached_property
    def base(self) -> Generation | None:
        """The generation that a reindex goes on from; a first build has none."""
        reindex = self.request.reindex
        return None if reindex is None else manifest.read(self.base_store, reindex.base)

    @cached_property
    def drift(self) -> DriftMarker:
        """What a reindex decided; its drift stage must be done."""
        return self.store.read_record(layout.marker(self.generation, "drift", 0), DriftMarker)

    def stage_marker(self, stage: Stage) -> StageMarker | None:
        """Returns the marker of a stage, or None while some of its tasks are not done."""
        return self.store.find_record(layout.stage_marker(self.generation, stage), StageMarker)

    def tasks(self, stage: Stage) -> int | None:
        """Returns how many tasks a stage has, or None while the plan, or the stage before, does not say."""
        if self.request.reindex is None and stage in ("parents", "move1", "move2"):
            return 1
        if stage in ("plan", "train", "publish"):
            return 1
        if not self.is_planned:
            return None
        if stage == "embed":
            return self.plan.shards
        if self.request.reindex is None:
            return self.plan.blocks if stage in ("sample", "route", "add") else None
        return None

    def trained(self) -> TrainMarker:
        """The trained index of the run; the train stage must be done."""
        return self.store.read_record(layout.marker(self.generation, "train", 0), TrainMarker)

    def marker(self, stage: Stage, task: int, kind: type[T], digest: str) -> T | None:
        """Returns the marker of a task that is done, or None; a task whose files are gone or cut short is to be redone.

        Raises:
            PixdexError: the marker answers another task: the root was written by something else.
        """
        path = layout.marker(self.generation, stage, task)
        marker = self.store.find_record(path, kind)
        if marker is not None and (answered_digest := getattr(marker, "digest", None)) != digest:
            raise PixdexError(
                f"{self.store.url}/{path} answers {str(answered_digest)[:12]}…, this run asks for {digest[:12]}…: "
                "start again with --abandon-plan"
            )
        return marker if all(self.store.holds(file) for file in files_in(marker)) else None

    def commit(self, stage: Stage, task: int, marker: T) -> T:
        """Commits the marker of a task, or adopts the one that another worker committed first.

        Raises:
            PixdexError: the files of the one that was first are gone, and what was made now has other names.
        """
        path = layout.marker(self.generation, stage, task)
        first = self.store.commit(path, marker)
        gone = [file.path for file in files_in(first) if not self.store.holds(file)]
        if gone:
            raise PixdexError(
                f"{self.store.url}/{gone[0]} is missing or cut short, and {path} came out different this time: "
                "start again with --abandon-plan"
            )
        return first

    def markers(self, stage: Stage, tasks: Iterable[int], kind: type[T]) -> list[T]:
        """Reads the markers of tasks that are done, in the order of the tasks."""
        with ThreadPoolExecutor(_READERS) as pool:
            paths = (layout.marker(self.generation, stage, task) for task in tasks)
            return list(pool.map(lambda path: self.store.read_record(path, kind), paths))

    def numbers(self, stage: Stage) -> list[int]:
        """Returns the numbers, ascending, of the tasks of a stage that have a marker."""
        names = self.store.names(layout.marker_folder(self.generation, stage))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [int(stem) for stem in stems if stem.isdecimal()]  # the sample lies beside its markers

    def shards(self, numbers: range | None = None) -> list[ShardMarker]:
        """Reads the markers of some shards of the run, or of all, in order; the embed stage must be done."""
        first = self.plan.first_shard
        return self.markers("embed", numbers or range(first, first + self.plan.shards), ShardMarker)
