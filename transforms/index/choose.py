"""Chooses the index: a faiss factory string of the IVF family from the number of vectors and their dimension.

The rules are those of faiss's wiki, "Guidelines to choose an index" and "The index factory", where a rule does not say
otherwise. Above 10⁹ vectors the wiki has none; ours is argued at `default_nlist`.
"""

import logging
import math
import re

from transforms.errors import PixdexError, UsageError
from transforms.index.faiss_file import describe_trained
from transforms.index.index_key import IndexKey, code_size, reduced_dim
from transforms.index.lists.format import ID_BYTES
from transforms.records import IndexSettings

_LOG = logging.getLogger(__name__)

FLAT_UP_TO = 20_000
"""Below this, an exact scan of every vector is faster than what lists could save."""

VECTORS_PER_LIST = 39
"""faiss's smallest number of training vectors a list (`ClusteringParameters.min_points_per_centroid`)."""

GRAPH_FROM = 1 << 16
"""From so many lists on, a graph over the centroids finds the nearest of a query faster than a scan of them
("Guidelines to choose an index": `IVF65536_HNSW32` and up)."""

_GRAPH_LINKS = 32
_CODE_SIZES = (64, 32, 16, 8, 4)
"""Bytes a vector that `auto` tries, best first.

At each of them product quantization of four components finds more than any other codes, by codes alone, and takes two
to four times as long to build as 4-bit components do (`tests/README.md` has the table).
"""

_COMPONENTS_PER_PART = 4
"""The wiki's `OPQM_D`: "D … preferably 4 * M"."""

_LEAST_PARTS = 8
"""Of a product quantizer that still tells vectors apart: shorter codes have so many parts of 4 bits."""

_CENTROIDS_OF_PARTS = 256


def default_nlist(rows: int) -> int:
    """Returns a number of lists for so many vectors, a power of two, never with fewer than 39 vectors a list.

    faiss's wiki, "Guidelines to choose an index": 4√N to 16√N below a million, 65,536 to 10⁷, 262,144 to 10⁸,
    1,048,576 to 10⁹. Beyond, to find the lists of a vector costs √K in two levels, and centroids are memory of every
    worker: 2²⁰ lists stay right while a list has no more than 10⁴ codes, to 10¹⁰ vectors; then there are 2²² of them
    (24,000 codes each at 10¹¹, 4 GiB of centroids of 256 components), so that a probe still reads 10⁵ codes or fewer.

    >>> [default_nlist(n) for n in (1_000, 100_000, 1_000_000, 10**9)]
    [16, 1024, 4096, 1048576]
    """
    steps = ((10**10, 1 << 22), (10**8, 1 << 20), (10**7, 1 << 18), (10**6, 1 << 16))
    lists = next((lists for above, lists in steps if rows > above), 1 << round(math.log2(4 * max(rows, 1) ** 0.5)))
    return min(lists, most_lists(rows))


def most_lists(rows: int) -> int:
    """Returns the largest power of two that leaves 39 vectors a list."""
    return 1 << max(0, (rows // VECTORS_PER_LIST).bit_length() - 1)


def index_bytes(key: IndexKey, rows: int, dim: int) -> int:
    """Returns the bytes of a whole index: codes and ids, centroids with their graph, and what encodes a vector."""
    inner = reduced_dim(key, dim)
    codebooks = 4 * _CENTROIDS_OF_PARTS * inner if key.storage.startswith("PQ") else 0
    rotation = 4 * dim * inner if key.transforms else 0
    return rows * (code_size(key, dim) + ID_BYTES) + 4 * key.nlist * inner + graph_bytes(key) + codebooks + rotation


def graph_bytes(key: IndexKey) -> int:
    """Returns the bytes of the graph over the centroids of an index, their vectors apart; 0 without one.

    >>> graph_bytes(IndexKey.parse("IVF65536_HNSW32,PQ64")), graph_bytes(IndexKey.parse("IVF65536,PQ64"))
    (17825792, 0)
    """
    links = int(key.coarse.removeprefix("_HNSW") or 0)
    return 4 * key.nlist * (2 * links + 4) if links else 0


def choose(settings: IndexSettings, rows: int, dim: int, *, warn: bool = True) -> IndexKey:
    """Returns the index for `rows` vectors of `dim` components.

    `auto` takes the most exact one that fits `settings.max_memory` bytes: Flat, then IVF,Flat, then OPQ,IVF,PQ with as
    many bytes a vector as fit (PCAR,IVF,SQ8 where that is a byte a component), 4 of them as 4-bit codes; or one of
    `settings.code_size` bytes a vector. A key that asks for more lists than `rows` can train gets fewer; `warn` logs
    that.

    Raises:
        UsageError: the key cannot work with this dimension or so few vectors, or nothing fits the memory.
    """
    if settings.key == "auto":
        return _automatic(settings, rows, dim)
    key = IndexKey.parse(settings.key)
    if key.nlist == 0:
        key = key.with_lists(default_nlist(rows))
    if key.nlist > max(1, rows // VECTORS_PER_LIST):
        fewer = key.with_lists(most_lists(rows))
        if warn:
            _LOG.warning(
                "%s needs %d vectors a list, there are %d in all: using %s", key, VECTORS_PER_LIST, rows, fewer
            )
        key = fewer
    if 0 < rows < key.rows_needed:  # without any, there is nothing to train
        raise UsageError(
            f"--index-key {settings.key} needs at least {key.rows_needed} vectors to train, there are {rows}: "
            "use Flat, or auto"
        )
    return key


def check_key(settings: IndexSettings, dim: int) -> None:
    """Refuses an index that cannot work with vectors of `dim` components, before any work is done.

    Raises:
        UsageError: with the reason, faiss's own where only faiss knows one.
    """
    if settings.key == "auto":
        _check_automatic(settings, dim)
        return
    if settings.code_size is not None:
        raise UsageError(f"--code-size is what auto goes by, and --index-key {settings.key} says it: leave one out")
    key = IndexKey.parse(settings.key)
    code_size(key, dim)
    if settings.metric == "l1":
        if (key.transforms, key.nlist, key.storage) != ((), 1, "Flat"):
            raise UsageError(
                f"--index-key {settings.key} does not go with --metric-type l1, which is a sum over whole vectors: "
                "use Flat, or --metric-type l2"
            )
        return
    import faiss  # noqa: PLC0415 - everything else here is arithmetic

    metric = faiss.METRIC_L2 if settings.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        describe_trained(faiss.index_factory(dim, str(key.with_lists(1)), metric))
    except (RuntimeError, PixdexError) as error:
        reason = re.split("Error: | failed: ", str(error))[-1].strip()
        raise UsageError(f"--index-key {settings.key} does not work with {dim} dimensions: {reason}") from error


def _check_automatic(settings: IndexSettings, dim: int) -> None:
    if settings.code_size is None:
        return
    if settings.metric == "l1":
        raise UsageError(
            f"--code-size {settings.code_size} does not go with --metric-type l1, which is a sum over whole vectors: "
            "leave it out, or use --metric-type l2"
        )
    if settings.code_size > dim:
        raise UsageError(
            f"--code-size {settings.code_size} is more than a byte for each of {dim} dimensions: take at most {dim}, "
            "or --index-key IVF,SQ8, IVF,SQfp16 or IVF,Flat"
        )


def _automatic(settings: IndexSettings, rows: int, dim: int) -> IndexKey:
    _check_automatic(settings, dim)
    limit, nlist = settings.max_memory, default_nlist(rows)
    if settings.code_size is not None:
        key = _compressed(settings.code_size, dim, nlist)
        if 0 < rows < key.rows_needed:
            raise UsageError(
                f"--code-size {settings.code_size} needs at least {key.rows_needed} vectors to train, there are "
                f"{rows}: leave it out"
            )
        if (size := index_bytes(key, rows, dim)) > limit:
            raise UsageError(
                f"{rows} vectors of --code-size {settings.code_size} make an index of {size} bytes, more than "
                f"--max-index-memory {limit}: raise it, or take shorter codes"
            )
        return key
    flat = IndexKey((), 1, "", "Flat")
    candidates = [flat if rows <= FLAT_UP_TO or settings.metric == "l1" else _with_graph(flat, nlist)]
    if settings.metric != "l1":
        sizes = [size for size in _CODE_SIZES if size <= dim] or [dim]
        candidates += [_compressed(size, dim, nlist) for size in sizes]
    trainable = [key for key in candidates if key.rows_needed <= rows or key == flat]
    for key in trainable:
        if index_bytes(key, rows, dim) <= limit:
            return key
    least = trainable[-1]
    raise UsageError(
        f"{rows} vectors do not fit --max-index-memory {limit}: even {least} takes {index_bytes(least, rows, dim)} "
        "bytes: raise it"
    )


def _compressed(size: int, dim: int, nlist: int) -> IndexKey:
    """Returns codes of `size` bytes, at most `dim`: a product quantizer behind a rotation to what its parts divide.

    Where its parts would have one component each, a byte of even steps is more exact, and needs no codebooks.
    """
    parts, bits = (2 * size, "x4") if size < _LEAST_PARTS and 2 * size <= dim else (size, "")
    kept = min(_COMPONENTS_PER_PART * parts, dim // parts * parts)
    if kept == size:
        return _with_graph(IndexKey((f"PCAR{size}",), 1, "", "SQ8"), nlist)
    return _with_graph(IndexKey((f"OPQ{parts}_{kept}",), 1, "", f"PQ{parts}{bits}"), nlist)


def _with_graph(key: IndexKey, nlist: int) -> IndexKey:
    coarse = f"_HNSW{_GRAPH_LINKS}" if nlist >= GRAPH_FROM else ""
    return IndexKey(key.transforms, nlist, coarse, key.storage)
