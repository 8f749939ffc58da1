"""A faiss factory string of the IVF family in its parts, and the arithmetic that follows from it; no faiss is imported.

What faiss builds and this product does not is refused here, each with its reason: FastScan codes, refinement, additive
quantizers, quantizers of quantizers.
"""

import re
from dataclasses import dataclass
from typing import Final

from transforms.errors import UsageError

_LISTS = re.compile(r"^IVF([1-9]\d*)?(?:_HNSW(\d*))?$")
_DEFAULT_LINKS: Final = 32
_LINKS = range(2, 513)

_PRODUCT_QUANTIZER = re.compile(r"^PQ([1-9]\d*)(?:x(\d+))?(?:np)?$")
_SCALAR_BITS: Final = {"SQ4": 4, "SQ6": 6, "SQ8": 8, "SQfp16": 16, "SQbf16": 16}
_RABITQ = re.compile(r"^RaBitQ([1-9])?$")
_BITS = range(1, 17)
"""Bits of a subquantizer: its centroids are trained on 65,536 vectors, so there are no more of them."""

_REDUCTION = re.compile(r"^(PCA|PCAR|PCAW|PCAWR|RR|Pad)([1-9]\d*)$")
_OPQ = re.compile(r"^OPQ([1-9]\d*)(?:_([1-9]\d*))?$")
_SAME_DIMENSION: Final = frozenset({"RR", "L2norm", "L2Norm"})

# faiss/impl/RaBitQUtils.h: factors of the sign bits, of those with an error bound, and of the other bits.
_SIGN_FACTORS: Final = 8
_SIGN_FACTORS_WITH_ERROR: Final = 12
_EXTRA_FACTORS: Final = 8


@dataclass(frozen=True)
class IndexKey:
    """A faiss factory string in its parts: transforms before, inverted lists, and how a vector is stored.

    `PQ64x8` and `PQ64np` are kept as `PQ64`: codes have 8 bits, and are never trained to be polysemous.

    >>> str(IndexKey.parse("OPQ16_64,IVF1024,PQ16x8"))
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
            UsageError: it is not of the IVF family, or of a kind that is not built here; with the reason.
        """
        if key == "Flat":
            return cls((), 1, "", "Flat")
        _refuse_kinds(key)
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
            raise _refused(
                key, f"FastScan codes cannot be merged; build {storage.partition('fs')[0]} and search with --fast-scan"
            )
        coarse = ""
        if match[2] is not None:
            links = int(match[2] or _DEFAULT_LINKS)
            if links not in _LINKS:
                raise _refused(key, f"an HNSW graph has {_LINKS[0]} to {_LINKS[-1]} links a centroid, not {links}")
            coarse = f"_HNSW{links}"
        quantizer = _PRODUCT_QUANTIZER.match(storage)
        if quantizer:
            storage = f"PQ{quantizer[1]}" + (f"x{quantizer[2]}" if int(quantizer[2] or 8) != 8 else "")
        return cls(tuple(parts[:place]), int(match[1] or 0), coarse, storage)

    @property
    def rows_needed(self) -> int:
        """The fewest vectors that can train it: a product quantizer (OPQ has one, too) needs one a centroid."""
        match = _PRODUCT_QUANTIZER.match(self.storage)
        centroids = 1 << int(match[2] or 8) if match else 1
        rotated = 256 if any(part.startswith("OPQ") for part in self.transforms) else 1
        return max(self.nlist, centroids, rotated, self.components)

    @property
    def components(self) -> int:
        """The components that a principal component analysis is to keep, or 0: it needs as many to begin with."""
        kept = (_REDUCTION.match(part) for part in self.transforms)
        return max((int(match[2]) for match in kept if match and match[1].startswith("PCA")), default=0)

    def with_lists(self, nlist: int) -> "IndexKey":
        """Returns the same key with another number of lists."""
        return IndexKey(self.transforms, nlist, self.coarse, self.storage)

    def __str__(self) -> str:
        """Writes it as faiss reads it."""
        return ",".join([*self.transforms, f"IVF{self.nlist}{self.coarse}", self.storage])


def reduced_dim(key: IndexKey, dim: int) -> int:
    """Returns the components of a vector of `dim` behind the transforms.

    >>> reduced_dim(IndexKey.parse("OPQ16_64,IVF4096,PQ16"), 512), reduced_dim(IndexKey.parse("IVF16,Flat"), 512)
    (64, 512)

    Raises:
        UsageError: a transform is not known, or cannot work with so many components.
    """
    for step in key.transforms:
        dim = _transformed(key, step, dim)
    return dim


def code_size(key: IndexKey, dim: int) -> int:
    """Returns the bytes in which a vector of `dim` components is stored, without its id.

    >>> code_size(IndexKey.parse("OPQ16_64,IVF4096,PQ16"), 512), code_size(IndexKey.parse("IVF16,SQ8"), 512)
    (16, 512)

    Raises:
        UsageError: the storage or a transform is not known, or does not go with the dimension.
    """
    dim = reduced_dim(key, dim)
    if key.storage == "Flat":
        return 4 * dim
    if bits := _SCALAR_BITS.get(key.storage):
        return (dim * bits + 7) // 8
    if match := _PRODUCT_QUANTIZER.match(key.storage):
        parts, bits = int(match[1]), int(match[2] or 8)
        if bits not in _BITS:
            raise _refused(key, f"a subquantizer has {_BITS[0]} to {_BITS[-1]} bits, not {bits}")
        if dim % parts:
            least = max(parts, dim // parts * parts)
            raise _refused(
                key,
                f"it does not work with {dim} dimensions, no multiple of the number of subquantizers {parts}: "
                f"take a divisor of {dim}" + (f", or reduce before with OPQ{parts}_{least}" if parts <= dim else ""),
            )
        return (parts * bits + 7) // 8
    if match := _RABITQ.match(key.storage):
        signs, extra = (dim + 7) // 8, int(match[1] or 1) - 1
        if not extra:
            return signs + _SIGN_FACTORS
        return signs + _SIGN_FACTORS_WITH_ERROR + (dim * extra + 7) // 8 + _EXTRA_FACTORS
    raise _refused(
        key, f"{key.storage} is not a storage known here: use Flat, PQm, PQmx4, SQ4, SQ6, SQ8, SQfp16, SQbf16 or RaBitQ"
    )


def _transformed(key: IndexKey, step: str, dim: int) -> int:
    if step in _SAME_DIMENSION:
        return dim
    if match := _OPQ.match(step):
        parts, kept = int(match[1]), int(match[2] or dim)
        if kept % parts:
            raise _refused(
                key, f"{step} rotates {kept} dimensions, no multiple of its {parts} parts: take OPQm_d with m | d"
            )
    elif match := _REDUCTION.match(step):
        kept = int(match[2])
        if step.startswith("Pad") and kept < dim:
            raise _refused(key, f"{step} cannot pad vectors that have {dim} components: take PCA{kept}")
    else:
        raise _refused(
            key,
            f"{step} is not a transform known here: use OPQm_d, PCAn, PCARn, PCAWn, PCAWRn, RRn, L2norm or Padn",
        )
    if kept > dim and step.startswith(("PCA", "OPQ")):
        raise _refused(key, f"{step} keeps {kept} components of vectors that have {dim}")
    return kept


def _refuse_kinds(key: str) -> None:
    """Refuses what faiss would build, each kind with its reason."""
    parts = key.split(",")
    refining = next((part for part in parts if re.match(r"^(RFlat|Refine)", part)), None)
    if refining:
        raise _refused(
            key, f"the index stores no second copy of vectors, so {refining} does not go with it: leave it out"
        )
    if "(" in key:
        raise _refused(
            key,
            "a coarse quantizer of another kind in parentheses is not trained here: write IVFn, or IVFn_HNSW32; "
            "many lists are assigned in two levels anyway",
        )
    if any(re.match(r"^(IMI|Residual)\d", part) for part in parts):
        raise _refused(
            key, "an inverted multi-index is not trained here: write IVFn, or IVFn_HNSW32 for very many lists"
        )
    if re.match(r"^(RQ|LSQ|PRQ|PLSQ)\d", parts[-1]):
        raise _refused(
            key, "additive quantizers are not trained here, they encode too slowly for very many vectors: use PQm"
        )


def _refused(key: IndexKey | str, reason: str) -> UsageError:
    return UsageError(f"--index-key {key}: {reason}")
