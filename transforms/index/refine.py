"""What is stored of vectors beside an index, for a search to rank its shortlist by exact scores."""

from transforms.index.index_key import IndexKey
from transforms.records import Request
from transforms.shards.stored_vectors import Kind

_EXACT_CODES = ("Flat", "SQfp16")


def is_exact(key: str) -> bool:
    """Tells whether the codes of an index are the vectors themselves, so that a scan has their scores.

    >>> is_exact("IVF1024,Flat"), is_exact("IVF1024,PQ64"), is_exact("PCA64,IVF1024,Flat")
    (True, False, False)
    """
    parsed = IndexKey.parse(key)
    return not parsed.transforms and parsed.storage in _EXACT_CODES


def stored_kind(request: Request, key: str) -> Kind | None:
    """Returns how the blocks of an index store their vectors; None: they do not.

    Vectors that are not normalised may be of any size: instead of float16, which ends at 65,504, they are float32.

    Args:
        request: what was asked for.
        key: of the trained index.
    """
    if request.index.refine == "none" or is_exact(key):
        return None
    return "f32" if request.index.refine == "f16" and not request.encoder.normalize else request.index.refine
