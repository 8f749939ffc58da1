"""What a worker of each stage should have, for runners that choose machines stage by stage, which Dataflow does.

In a graph these are Beam's resource hints. Each set of hints makes an environment of its own, and most runners start
workers for each environment: hints belong only into graphs for runners that act on them.
"""

from dataclasses import dataclass
from typing import Final

from transforms.errors import UsageError
from transforms.forecast.memory import PROCESS_BYTES, stage_memory
from transforms.forecast.workload import Workload
from transforms.index.choose import choose
from transforms.pictures.budget import BATCHES_AHEAD, DECODED_BYTES
from transforms.records import ROWS_PER_SHARD, EncoderSettings, Request

SMALL_BYTES: Final = 4 << 30
"""What plans, waits or publishes: a process, and records of the work. No worker is asked to have less."""

LARGE_BYTES: Final = 16 << 30
"""What a worker of training, adding and merging is given where less would do: that of a usual machine of four cores."""

ENCODER_BYTES: Final = 6 << 30
"""The weights of an encoder, what it computes with and PyTorch itself: ViT-g/14 has 1.4 billion weights of 4 bytes."""

MACHINE_BYTES: Final = 1 << 30
"""Of a machine, beside its worker: the operating system and the runner."""

DEFAULT_GPU: Final = "nvidia-tesla-t4"
"""The least of those that Dataflow offers, and the one in the most regions."""

POSSIBLE_ROWS: Final = (10**9, 10**8, 10**7, 10**6, 10**5)
"""Vectors that memory is reckoned for while nobody has counted them."""

ROWS_A_LIST: Final = 10**4
"""The most that a list should hold (`transforms.index.choose`): few lists are not asked for with many vectors."""

_PREPARED_BYTES = 4 * 3 * 448 * 448
"""A picture as an encoder takes it: three colours of float32."""

_BATCHES = 2 + BATCHES_AHEAD
"""Of preprocessed pictures: the one that is filled, the one that is encoded, and those ahead."""

_VECTOR_COPIES = 2
_ROW_BYTES = 2048
"""Key, URI, caption and other columns of a row while its shard is made."""


@dataclass(frozen=True)
class Worker:
    """What one worker has.

    Attributes:
        memory: bytes at least; None: whatever it has.
        gpu: what the runner calls it, with how many and what else it is to know of it; None: none is asked for.
    """

    memory: int | None = None
    gpu: str | None = None

    @property
    def hints(self) -> dict[str, int | str]:
        """What `with_resource_hints` takes."""
        return ({"min_ram": self.memory} if self.memory else {}) | ({"accelerator": self.gpu} if self.gpu else {})


ANY_WORKER: Final = Worker()


@dataclass(frozen=True)
class Workers:
    """Who works on what; nothing is asked for unless it is said.

    Attributes:
        embedding: embeds a partition.
        indexing: trains, adds and merges; what these need changes from step to step, but a machine for each would be
            started and thrown away a dozen times.
        other: plans, waits and publishes.
    """

    embedding: Worker = ANY_WORKER
    indexing: Worker = ANY_WORKER
    other: Worker = ANY_WORKER

    @property
    def task_memory(self) -> int | None:
        """Bytes that a task of training, adding or merging may take; None: whatever its worker has."""
        return self.indexing.memory and self.indexing.memory - MACHINE_BYTES


def workers_for(request: Request, memory: int | None = None, gpu: str | None = None) -> Workers:
    """Returns the workers of a request, each of which works on one task at a time.

    Args:
        request: what is to be built.
        memory: bytes of a worker that indexes; None: what any of `POSSIBLE_ROWS` takes, at least 16 GiB.
        gpu: of a worker that embeds, as `nvidia-l4` or as the runner spells all of it; None: the default one where the
            request names a CUDA device, else none.
    """
    encoder = request.encoder
    if request.is_ready:
        embedding = Worker(SMALL_BYTES)
    elif request.derivation is not None:
        embedding = Worker(_embedding_bytes(encoder) + MACHINE_BYTES)
    else:
        if gpu is None and encoder.device.startswith("cuda"):
            gpu = DEFAULT_GPU
        embedding = Worker(_embedding_bytes(encoder) + MACHINE_BYTES, gpu and _spelled(gpu))
    memory = memory or max(LARGE_BYTES, _indexing_bytes(request) + MACHINE_BYTES)
    return Workers(embedding, Worker(memory), Worker(SMALL_BYTES))


def _embedding_bytes(encoder: EncoderSettings) -> int:
    shard = ROWS_PER_SHARD * (_VECTOR_COPIES * 4 * encoder.dim + _ROW_BYTES)
    return PROCESS_BYTES + ENCODER_BYTES + shard + _BATCHES * encoder.batch * _PREPARED_BYTES + DECODED_BYTES


def _indexing_bytes(request: Request) -> int:
    """What the hungriest task takes, of as many vectors as make it hungriest."""
    return max(_task_bytes(request, rows) for rows in POSSIBLE_ROWS)


def _task_bytes(request: Request, rows: int) -> int:
    encoder, index = request.encoder, request.index
    try:
        key = choose(index, rows, encoder.dim, warn=False)
    except UsageError:  # so many do not fit what the request lets the index take
        return 0
    listed = min(rows, ROWS_A_LIST * key.nlist)
    load = Workload(key, index.metric, listed, encoder.dim, normalized=encoder.normalize, object_store=True)
    return max(task.bytes for task in stage_memory(load).values())


def _spelled(gpu: str) -> str:
    return gpu if gpu.startswith("type:") else f"type:{gpu};count:1;install-nvidia-driver"
