"""Chooses the index: a faiss factory string of the IVF family from the number of vectors and their dimension."""

import logging
import math
import re
from dataclasses import dataclass

from transforms.errors import PixdexError, UsageError
from transforms.index.faiss_file import describe_trained
from transforms.records import IndexSettings

_LOG = logging.getLogger(__name__)

FLAT_UP_TO = 20_000
"""Below this, an exact scan of every vector is faster than what lists could save."""

VECTORS_PER_LIST = 39
"""faiss's smallest number of training vectors a list (`ClusteringParameters.min_points_per_centroid`)."""

_CODE_SIZES = (64, 32, 16, 8)
"""Bytes a vector that `auto` tries for product quantization, best first."""

_PRODUCT_QUANTIZER = re.compile(r"^PQ\d+(?:x(\d+))?")
_PRINCIPAL_COMPONENTS = re.compile(r"^PCA[WR]*(\d+)$")
_LISTS = re.compile(r"^(IVF)(\d*)(_HNSW\d+)?$")


@dataclass(frozen=True)
class IndexKey:
    """A faiss factory string in its parts: transforms before, inverted lists, and how a vector is stored.

    >>> str(IndexKey.parse("OPQ16_64,IVF1024,PQ16"))
    'OPQ16_64,IVF1024,PQ16'
    >>> IndexKey.parse("Flat").nlist
    1
    """

    transforms: tuple[str, ...]
    nlist: int
    coarse: str
    storage: str

    @classmethod
    def parse(cls, key: str) -> "IndexKey":
        """Reads a factory string; `Flat` is kept as one list, `IVF,…` leaves the number of lists (0) open.

        Raises:
            UsageError: it is not of the IVF family.
        """
        if key == "Flat":
            return cls((), 1, "", "Flat")
        parts = [part.strip() for part in key.split(",")]
        places = [place for place, part in enumerate(parts) if _LISTS.match(part)]
        if len(places) != 1 or places[0] != len(parts) - 2:
            raise UsageError(
                f"--index-key {key} is not of the IVF family: use auto, Flat, IVFn,Flat, IVFn,PQm or OPQm_d,IVFn,PQm"
            )
        place = places[0]
        match = _LISTS.match(parts[place])
        assert match is not None
        storage = parts[-1]
        if "fs" in storage:
            raise UsageError(
                f"--index-key {key}: FastScan codes cannot be merged; "
                f"build {storage.replace('fsr', '').replace('fs', '')} and let the search load it as FastScan"
            )
        return cls(tuple(parts[:place]), int(match.group(2) or 0), match.group(3) or "", storage)

    @property
    def rows_needed(self) -> int:
        """The fewest vectors that can train it: a product quantizer (OPQ has one, too) needs one a centroid."""
        match = _PRODUCT_QUANTIZER.match(self.storage)
        centroids = 1 << int(match.group(1) or 8) if match else 1
        rotated = 256 if any(part.startswith("OPQ") for part in self.transforms) else 1
        return max(self.nlist, centroids, rotated, self.components)

    @property
    def components(self) -> int:
        """The components that a principal component analysis is to keep, or 0: it needs as many to begin with."""
        kept = (_PRINCIPAL_COMPONENTS.match(part) for part in self.transforms)
        return max((int(match.group(1)) for match in kept if match), default=0)

    def with_lists(self, nlist: int) -> "IndexKey":
        """Returns the same key with another number of lists."""
        return IndexKey(self.transforms, nlist, self.coarse, self.storage)

    def __str__(self) -> str:
        """Writes it as faiss reads it."""
        return ",".join([*self.transforms, f"IVF{self.nlist}{self.coarse}", self.storage])


def default_nlist(rows: int) -> int:
    """Returns a number of lists for so many vectors.

    faiss's wiki, "Guidelines to choose an index": 4√N to 16√N below a million, 65,536 to 10⁷, 262,144 to 10⁸,
    1,048,576 above; as a power of two, and never fewer than 39 vectors a list.

    >>> [default_nlist(n) for n in (1_000, 100_000, 1_000_000, 10**9)]
    [16, 1024, 4096, 1048576]
    """
    steps = ((10**8, 1 << 20), (10**7, 1 << 18), (10**6, 1 << 16))
    lists = next((lists for above, lists in steps if rows > above), 1 << round(math.log2(4 * max(rows, 1) ** 0.5)))
    return min(lists, most_lists(rows))


def most_lists(rows: int) -> int:
    """Returns the largest power of two that leaves 39 vectors a list."""
    return 1 << max(0, (rows // VECTORS_PER_LIST).bit_length() - 1)


def choose(settings: IndexSettings, rows: int, dim: int) -> IndexKey:
    """Returns the index for `rows` vectors of `dim` components.

    `auto` takes the most exact one that fits `settings.max_memory` bytes: Flat, then IVF,Flat, then OPQ,IVF,PQ with as
    many bytes a vector as fit. A key that asks for more lists than `rows` can train gets fewer, with a warning.

    Raises:
        UsageError: the key cannot work with this dimension or so few vectors.
    """
    key = _automatic(settings, rows, dim) if settings.key == "auto" else IndexKey.parse(settings.key)
    if key.nlist == 0:
        key = key.with_lists(default_nlist(rows))
    if key.nlist > max(1, rows // VECTORS_PER_LIST):
        fewer = key.with_lists(most_lists(rows))
        _LOG.warning("%s needs %d vectors a list, there are %d in all: using %s", key, VECTORS_PER_LIST, rows, fewer)
        key = fewer
    if 0 < rows < key.rows_needed:  # without any, there is nothing to train
        raise UsageError(
            f"--index-key {settings.key} needs at least {key.rows_needed} vectors to train, there are {rows}: "
            "use Flat, or auto"
        )
    return key


def check_key(settings: IndexSettings, dim: int) -> None:
    """Refuses a key that cannot work with vectors of `dim` components, before any work is done.

    Raises:
        UsageError: with faiss's own reason.
    """
    if settings.key == "auto":
        return
    import faiss  # noqa: PLC0415 - everything else here is arithmetic

    key = IndexKey.parse(settings.key)
    if key.components > dim:
        raise UsageError(f"--index-key {settings.key} keeps {key.components} components of vectors that have {dim}")
    metric = faiss.METRIC_L2 if settings.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(dim, str(key.with_lists(key.nlist or 1)), metric)
        describe_trained(index)
    except (RuntimeError, PixdexError) as error:
        reason = str(error).rpartition("Error: ")[2].rpartition(" failed: ")[2].strip()
        raise UsageError(f"--index-key {settings.key} does not work with {dim} dimensions: {reason}") from error


def _automatic(settings: IndexSettings, rows: int, dim: int) -> IndexKey:
    if rows * (4 * dim + 8) <= settings.max_memory:
        return IndexKey.parse("Flat" if rows <= FLAT_UP_TO else "IVF,Flat")
    for size in _CODE_SIZES:
        if size <= dim and rows * (size + 8) <= settings.max_memory:
            reduced = min(4 * size, dim // size * size)
            return IndexKey.parse(f"OPQ{size}_{reduced},IVF,PQ{size}")
    raise UsageError(
        f"{rows} vectors do not fit --max-index-memory {settings.max_memory} even at {_CODE_SIZES[-1]} bytes each "
        f"({rows * (_CODE_SIZES[-1] + 8)} bytes with ids): raise it"
    )
