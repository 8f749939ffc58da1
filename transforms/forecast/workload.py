"""What a build will be: how many parts, bytes, files and seconds, stage by stage, before there is any of it.

What the build decides by itself is asked of the functions that decide it. Seconds are work over rates: operations and
bytes are counted here, with the formula that counts them, and `transforms.forecast.rates` says how many a second is
good for.
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from transforms.index.choose import graph_bytes
from transforms.index.index_key import IndexKey, code_size, reduced_dim
from transforms.index.lists.format import ID_BYTES
from transforms.index.lists.merge import FAN_IN, FILE_BYTES, PIECE_BYTES, READ_BYTES, STEP_BYTES
from transforms.index.refine import is_exact
from transforms.index.training.figures import (
    CANARY_NEIGHBOURS,
    CANARY_QUERIES,
    CANARY_ROWS,
    CODE_ROWS,
    GROUP_ROWS,
    LISTS_ASSIGNED_FLAT,
    PASSES,
    Shares,
    codebook_rows,
    parents_of,
    sample_shares,
)
from transforms.records import ROWS_PER_SHARD, Metric, Refine
from transforms.runs import partitions

_PRODUCT_QUANTIZER = re.compile(r"^PQ(\d+)(?:x(\d+))?")

LIST_BYTES: Final = 8
"""Of a list in the head of an index: its length."""

STORED_BYTES: Final = 2
"""Of a component: ready embeddings are counted as float16."""

OWN_SHARD_BYTES: Final = 1.75
"""Of a component in a shard that pixdex wrote."""

COLUMN_BYTES: Final = 200
"""Of an item's other columns in a shard: key, URI, caption."""

GROUPS_OF_A_LIST: Final = 3.25
"""Groups of cells in which rows choose a list in a pass, its own among them: so many of 37, with 65,536 lists."""

ASSUMED_PROBES: Final = 16
"""Cells that two-level assignment looks into. The audit of the training decides it: of 16,384 lists it took 8 for a
million vectors of 512 components, brought to 256, and 24 for ten million of 128."""

THREADS_A_TASK: Final = 4
"""Threads of a request that names none, where there are as many cores."""


@dataclass(frozen=True)
class Workload:
    """What is to be built.

    Attributes:
        key: the index, with its number of lists.
        rows: vectors.
        dim: components of each.
        item_bytes: mean size of a picture, where pictures are to be embedded; None for ready embeddings.
        normalized: vectors get length 1, and the sample keeps them as float16; otherwise as float32.
        object_store: the root is no folder: fewer inputs a merge, and segments in the place of one file.
        refine: how vectors are stored beside the index for exact scores.
    """

    key: IndexKey
    metric: Metric
    rows: int
    dim: int
    item_bytes: int | None = None
    normalized: bool = True
    object_store: bool = False
    refine: Refine = "none"

    @property
    def inner(self) -> int:
        """Components behind the transforms."""
        return reduced_dim(self.key, self.dim)

    @property
    def code(self) -> int:
        """Bytes of a code."""
        return code_size(self.key, self.dim)

    @property
    def entry(self) -> int:
        """Bytes of a code with its id."""
        return self.code + ID_BYTES

    @property
    def component(self) -> float:
        """Bytes of a component as it is read."""
        return STORED_BYTES if self.item_bytes is None else OWN_SHARD_BYTES

    @property
    def stored(self) -> int:
        """Bytes of all vectors as they are read."""
        return math.ceil(self.rows * self.dim * self.component)

    @property
    def cells(self) -> int:
        """Parents of the lists."""
        return parents_of(self.key.nlist)

    @property
    def lists_a_cell(self) -> int:
        """Lists of a cell, on average."""
        return max(1, self.key.nlist // self.cells)

    @property
    def assigned_flat(self) -> bool:
        """Whether a vector is compared with every list."""
        return self.key.nlist <= LISTS_ASSIGNED_FLAT

    @property
    def probes(self) -> int:
        """Cells that a vector is assumed to look into."""
        return min(ASSUMED_PROBES, self.cells)

    @cached_property
    def shares(self) -> Shares:
        """Shares of the rows in the parts of the sample."""
        return sample_shares(self.key, self.rows)

    @property
    def pilot(self) -> int:
        """Rows of the pilot."""
        return round(self.shares.pilot * self.rows)

    @property
    def trained(self) -> int:
        """Rows that the lists are trained on."""
        return round(self.shares.trained * self.rows)

    @property
    def sampled(self) -> int:
        """Rows of the whole sample."""
        return round(self.shares.sampled * self.rows)

    @property
    def partition_rows(self) -> int:
        """Rows of a shard; ready embeddings make them as large as they can be."""
        return ROWS_PER_SHARD if self.item_bytes is None else partitions.partition_rows(self.rows)

    @property
    def shards(self) -> int:
        """Shards, where files of ready embeddings are large; small ones make more."""
        return -(-self.rows // self.partition_rows)

    @property
    def sample_component(self) -> int:
        """Bytes of a component in the stored sample."""
        return 2 if self.normalized else 4

    @property
    def block_rows(self) -> int:
        """Rows of a block at most: a worker holds its codes, or those of its rows that are in the sample."""
        sampled = math.ceil(self.shares.sampled * self.sample_component * self.dim)
        return partitions.block_rows(self.rows, self.key.nlist, max(self.entry, sampled))

    @property
    def blocks(self) -> int:
        """Blocks, cut at shards."""
        return -(-self.shards // max(1, self.block_rows // self.partition_rows))

    @property
    def groups(self) -> int:
        """Groups of cells of the training."""
        cells = max(1, -(-GROUP_ROWS * self.cells // max(1, self.trained)))
        return -(-self.cells // cells)

    @property
    def sums(self) -> int:
        """Bytes of the sums of a pass: of each list in every group that has a row for it."""
        groups = min(self.groups, GROUPS_OF_A_LIST)
        return 4 * self.inner * min(self.trained, round(groups * self.key.nlist))

    @property
    def fan_in(self) -> int:
        """Most inputs of one merge."""
        return STEP_BYTES // READ_BYTES if self.object_store else FAN_IN

    @property
    def merge_groups(self) -> int:
        """Groups of blocks that a tier merges before the last merge; 1 while one merge reads all."""
        if self.blocks <= self.fan_in:
            return 1
        return -(-self.blocks // max(self.fan_in, math.isqrt(self.blocks - 1) + 1))

    @property
    def tiers(self) -> int:
        """Merges before the last."""
        return int(self.merge_groups > 1)

    @property
    def tier_files(self) -> int:
        """Files that a tier writes."""
        return self.merge_groups * -(-self.listed // self.merge_groups // FILE_BYTES) if self.tiers else 0

    @property
    def merge_inputs(self) -> int:
        """List files that a range of lists is read from in the last merge."""
        return self.merge_groups if self.tiers else self.blocks

    @property
    def listed(self) -> int:
        """Bytes of all codes and ids."""
        return self.rows * self.entry

    @property
    def refined(self) -> int:
        """Bytes of the vectors that are stored beside the index for exact scores."""
        if self.refine == "none" or is_exact(str(self.key)):
            return 0
        return self.rows * self.dim * (1 if self.refine == "sq8" else self.sample_component)

    @property
    def centroids(self) -> int:
        """Bytes of the centroids."""
        return 4 * self.key.nlist * self.inner

    @property
    def head(self) -> int:
        """Bytes of a trained index without vectors: transforms, centroids and their graph, codebooks."""
        match = _PRODUCT_QUANTIZER.match(self.key.storage)
        books = 4 * (1 << int(match[2] or 8)) * self.inner if match else 0
        return self.transforms + self.centroids + graph_bytes(self.key) + books

    @property
    def coded(self) -> int:
        """Rows that codes are trained on."""
        match = _PRODUCT_QUANTIZER.match(self.key.storage)
        return min(self.pilot, codebook_rows(self.inner // int(match[1])) if match else CODE_ROWS)

    @property
    def transforms(self) -> int:
        """Bytes of the matrices of the transforms; a principal component analysis keeps all of its directions."""
        if not self.key.transforms:
            return 0
        directions = 4 * self.dim**2 if self.key.components else 0
        return 4 * self.dim * self.inner + directions

    @property
    def watched(self) -> int:
        """Rows that canary queries are answered with."""
        return min(self.pilot, CANARY_ROWS)

    @property
    def canaries(self) -> int:
        """Bytes of the canary queries, and of what they are answered with."""
        queries = min(CANARY_QUERIES, self.rows)
        asked = queries * (STORED_BYTES * self.dim + ID_BYTES)
        return asked + self.watched * (2 * ID_BYTES + self.code) + queries * CANARY_NEIGHBOURS * (ID_BYTES + 4)

    @property
    def pieces(self) -> int:
        """Pieces of the merge, segments on an object store: a list is in one of them."""
        return max(1, min(self.key.nlist, -(-self.listed // (FILE_BYTES if self.object_store else PIECE_BYTES))))

    @property
    def scratch(self) -> int:
        """Bytes on the disk of a worker that a task fills at most: on a filesystem it writes into the root instead."""
        if not self.object_store:
            return 0
        block = min(self.block_rows, self.rows)
        sampled = round(block * self.shares.sampled) * (self.sample_component * self.dim + ID_BYTES)
        a_list = -(-self.listed // self.key.nlist)
        segment = min(self.listed, max(FILE_BYTES, a_list))
        added = block * self.entry + self.refined * block // self.rows
        return max(added, sampled, segment, self.centroids)

    @property
    def files(self) -> dict[str, int]:
        """Files by kind, markers apart."""
        return {
            "embeddings": 0 if self.item_bytes is None else self.shards,
            "training": 2 * self.blocks + 3 * self.groups + 3,
            "trained": 2 if self.assigned_flat else 3,
            "lists": self.blocks,
            "vectors": self.blocks if self.refined else 0,
            "tiers": self.tier_files,
            "index": self.pieces if self.object_store else 1,
            "tables": 8,
        }

    @property
    def markers(self) -> int:
        """Markers of tasks and stages."""
        return self.shards + 3 * self.blocks + 3 * self.groups + self.tier_files + self.pieces + 20

    @property
    def storage(self) -> dict[str, int]:
        """Bytes by kind that a build leaves; ready embeddings lie where they were."""
        half, rows = self.sample_component, self.trained
        embeddings = 0 if self.item_bytes is None else self.stored + self.rows * COLUMN_BYTES
        passes = PASSES * self.sums + 3 * self.centroids
        passes += self.head - self.centroids - graph_bytes(self.key) + 4 * self.cells * self.inner
        sample = self.sampled * (half * self.dim + ID_BYTES) + rows * (half * self.inner + ID_BYTES)
        return {
            "embeddings": embeddings,
            "training": sample + passes,
            "trained": self.head + self.canaries + (0 if self.assigned_flat else 4 * self.cells * (self.inner + 2)),
            "lists": self.listed * (1 + self.tiers),
            "vectors": self.refined,
            "index": self.listed + (0 if self.object_store else self.head + LIST_BYTES * self.key.nlist),
            "markers": 1024 * self.markers,
        }


@dataclass(frozen=True)
class Machines:
    """Workers that are alike.

    A task has up to four threads; a worker with more cores works on several tasks at a time, as runners have it.

    Attributes:
        workers: how many.
        cores: of each.
        bandwidth: bytes a second between each and the storage; None: as much as it takes, which a page cache has.
        cache: bytes that a page cache has room for; more are read from the disk each time. None: any number.
    """

    workers: int
    cores: int
    bandwidth: int | None = None
    cache: int | None = None

    @property
    def threads(self) -> int:
        """Threads of a task."""
        return min(self.cores, THREADS_A_TASK)

    @property
    def at_a_time(self) -> int:
        """Tasks that a worker works on at a time."""
        return max(1, self.cores // THREADS_A_TASK)

    @property
    def slots(self) -> int:
        """Tasks at a time, on all workers."""
        return self.workers * self.at_a_time

    @property
    def is_one_process(self) -> bool:
        """Whether a command does it all by itself, and no graph of Beam is made."""
        return self.slots == 1
