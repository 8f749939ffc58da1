"""A root that answers queries, for programs: texts, pictures and vectors, one or many at once."""

import math
import operator
import threading
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transforms.errors import UsageError
from transforms.generations import published
from transforms.generations.tuned import QueryKind
from transforms.queries.answer import ALPHA, Wanted, answers, combined, vectors_of_keys
from transforms.queries.encode import QueryEncoder
from transforms.records import MODALITIES, Modality
from transforms.search.hits import Hit
from transforms.search.rules import KEY, Rules
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

AnyModality = Modality | Literal["any"]
Location = str | PathLike[str]


class How(TypedDict, total=False):
    """What else may be wanted of results.

    Attributes:
        where: a condition over metadata, in SQL: only rows for which it is true, "category = 'shoes' AND price < 50".
        minus: texts of which the query is to be less: their vectors are taken from its.
        expand: results of a first search that are added to the query, each times its cosine to the `alpha`; 0: none.
        alpha: 3, unless it is given.
        group_by: a column, of pixdex (`uri`) or of the source: of rows with the same in it `per_group` are shown.
        per_group: 1, unless it is given.
        dedup: a score: what is as near as that to a result before it is not shown. "content": what has the same content
            as one is not, the same bytes of a picture or words of a text; pictures are read for that only where vectors
            are equal. Of ready embeddings the vectors are the content.
        min_score: nothing that is less near is shown. "auto": nothing that queries which mean nothing score as well, so
            that nonsense finds nothing (`queries.null_results` says what that needs).
    """

    where: str
    minus: str | Sequence[str]
    expand: int
    alpha: float
    group_by: str
    per_group: int
    dedup: float | Literal["content"]
    min_score: float | Literal["auto"]


class Root:
    """A root of pixdex, open for searching.

    Threads may share it. It answers from the generation that was current when it was opened, or at the last
    `refresh`, until `gc` collects that one: not within a day, unless told otherwise. A program that runs on refreshes.

        >>> import pixdex
        >>> with pixdex.open("./emoji") as root:  # doctest: +SKIP
        ...     for hit in root.search("a red circle", k=5):
        ...         print(hit.score, hit.uri)
    """

    def __init__(
        self,
        root: "str | PathLike[str]",
        *,
        encoder: str | None = None,
        device: str = "auto",
        fast_scan: bool = False,
        check: bool = False,
        trust_uris: bool = False,
    ) -> None:
        """Opens the current generation: its index is mapped, which takes milliseconds whatever its size.

        Args:
            root: a folder or an fsspec URL.
            encoder: the encoder that the root was built with, if it is a class of your own that may be imported.
            device: where texts and pictures are encoded: auto, cpu, cuda, cuda:N or mps.
            fast_scan: read 4-bit PQ or RaBitQ codes into memory, to scan them several times faster.
            check: hold every list against its checksum first, and each shard that results are of.
            trust_uris: ready embeddings may lie at addresses of this machine and its network, and pictures that are
                compared (`dedup="content"`) anywhere.

        Raises:
            UsageError: there is no root, or it cannot be opened so.
            PixdexError: it is damaged.
        """
        self._store = Store.at(fspath(root))
        self._fast_scan, self._check, self._trust_uris = fast_scan, check, trust_uris
        self._device, self._named = device, encoder
        self._lock, self._refreshing = threading.Lock(), threading.Lock()
        searcher = self._searcher()
        self._open: tuple[Searcher, QueryEncoder] | None = (searcher, self._encoder_of(searcher))

    @property
    def generation(self) -> int:
        """The number of the generation that answers."""
        return self._current()[0].generation.generation

    def search(
        self,
        text: "str | Sequence[str] | None" = None,
        *,
        image: "Location | Sequence[Location] | None" = None,
        vector: ArrayLike | None = None,
        like: "str | Sequence[str] | None" = None,
        weights: "Sequence[float] | None" = None,
        k: int = 10,
        nprobe: int | None = None,
        modality: AnyModality | None = None,
        shortlist: int | None = None,
        **how: Unpack[How],
    ) -> list[Hit]:
        """Returns the `k` items nearest to a query, each once, nearest first, ties by id.

        Of several texts, pictures and items one query is made: their vectors, each 1 long, times their weights.

        Args:
            text: words that describe what is looked for.
            image: a picture that it looks like, a path or URL.
            vector: `(d,)`, in the space of the root's encoder; alone.
            like: the key of an item that it is like.
            weights: one for each text, then each picture, then each item; below 0 it is less of that. None: all 1.
            k: results wanted; fewer come where there are no more, or none in the lists of `nprobe`.
            nprobe: lists probed; more find more and take longer. None: as trained, and more where they hold too few.
            modality: what may be found. None: of texts, pictures and items pictures, where there are any, else texts;
                of a vector anything.
            shortlist: rows ranked by their stored vectors, where there are any; more cost a read each, and 0 ranks by
                codes alone. None: 100.
            how: what else is wanted of the results (`How`).

        Raises:
            UsageError: there is no query, or it cannot be answered.
            PixdexError: the root is damaged, or the encoder failed.
        """
        texts, images, keys = _listed(text), _listed(image), _listed(like)
        if (vector is not None) == bool(texts or images or keys):
            raise UsageError("give one query: a text, image=, like= or vector=")
        searcher, encoder = self._current()
        allowed = modality_of(searcher, modality, is_vector=vector is not None)
        count = len(texts) + len(images) + len(keys)
        if vector is not None:
            asked = _vectors(vector)[None]
            if weights is not None:
                raise UsageError("weights are of texts, pictures and items: scale the vector yourself")
        else:
            parts = [encoder.texts(_texts(texts))] if texts else []
            parts += [encoder.pictures([fspath(one) for one in images])] if images else []
            parts += [vectors_of_keys(searcher, _texts(keys))] if keys else []
            asked = np.concatenate(parts)
            if len(asked) > 1 or weights is not None:
                asked = combined(searcher, asked, _numbers(weights, len(asked)))
        kind = kind_of(texts=bool(texts), pictures=bool(images or keys))
        wanted = _wanted(k, nprobe, allowed, shortlist, how, kind)
        return answers(searcher, encoder, asked, wanted, kinds=[kind if count == 1 and not keys else None])[0]

    def search_many(
        self,
        queries: "Sequence[str] | ArrayLike" = (),
        *,
        images: "Sequence[Location]" = (),
        like: Sequence[str] = (),
        k: int = 10,
        nprobe: int | None = None,
        modality: AnyModality | None = None,
        shortlist: int | None = None,
        **how: Unpack[How],
    ) -> "pa.Table":
        """Answers many queries together, which takes less time than one by one.

        Args:
            queries: texts, or numbers `(q, d)`: a vector a row.
            images: paths or URLs of pictures, instead of these.
            like: keys of items, instead of these.
            k, nprobe, modality, shortlist, how: as of `search`.

        Returns:
            A table with `query int64` (the place of the query), `rank int32`, `score float`, `id int64`, `key`, `uri`,
            `modality`, `part int32`, `caption` and `exact bool`, ordered by query and rank; `to_pandas()` makes a
            DataFrame of it.

        Raises:
            UsageError, PixdexError: as `search`; queries of several kinds are given.
        """
        searcher, encoder = self._current()
        if any(isinstance(given, str | bytes | PathLike) for given in (queries, images, like)):
            raise UsageError("search_many takes a list of queries: search answers one")
        given = list(queries)  # type: ignore[arg-type]  # of whatever an array can be made of
        if sum(map(bool, (len(given), len(images), len(like)))) > 1:
            raise UsageError("give queries, images or like, and not several of them")
        is_vector = bool(given) and not any(isinstance(one, str) for one in given)
        allowed = modality_of(searcher, modality, is_vector=is_vector)
        if is_vector:
            asked = _vectors(queries)
        elif given:
            asked = encoder.texts(_texts(given))
        elif len(images):
            asked = encoder.pictures([fspath(image) for image in images])
        elif len(like):
            asked = vectors_of_keys(searcher, _texts(like))
        else:
            return _table([])
        kind = kind_of(texts=bool(given) and not is_vector, pictures=bool(len(images) or len(like)))
        wanted = _wanted(k, nprobe, allowed, shortlist, how, kind)
        return _table(answers(searcher, encoder, asked, wanted, kinds=[None if len(like) else kind] * len(asked)))

    def refresh(self) -> bool:
        """Goes over to a generation that was published since; tells whether there was one. Searches that run go on."""
        with self._refreshing:
            searcher, encoder = self._current()
            before, now = searcher.generation, published.open_generation(self._store)
            if now == before:
                return False
            newer = self._searcher()
            request = newer.generation.request
            if request.encoder != before.request.encoder or request.sources != before.request.sources:
                encoder = self._encoder_of(newer)  # another root was made in its place
            with self._lock:
                self._current()  # closed meanwhile: it stays closed
                self._open = newer, encoder
            return True

    def close(self) -> None:
        """Lets go of the index; a search that runs still ends. Whatever is asked after that is refused."""
        with self._lock:
            self._open = None

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def _searcher(self) -> Searcher:
        return Searcher.open(self._store, fast_scan=self._fast_scan, check=self._check, trust_uris=self._trust_uris)

    def _encoder_of(self, searcher: Searcher) -> QueryEncoder:
        return QueryEncoder(searcher.generation.request, device=self._device, named=self._named)

    def _current(self) -> tuple[Searcher, QueryEncoder]:
        opened = self._open
        if opened is None:
            raise UsageError(f"{self._store.url} is closed: open it again")
        return opened


def modality_of(searcher: Searcher, asked: AnyModality | None, *, is_vector: bool) -> Modality | None:
    """Returns what a search looks at: None is everything.

    Args:
        searcher: an open generation.
        asked: what whoever asks has said, or None.
        is_vector: the query is no text and no picture.

    Raises:
        UsageError: nothing of that kind is there.
    """
    if asked is None:
        if is_vector:
            return None
        if searcher.count("image"):
            return "image"
        return "text" if searcher.count("text") else None
    if asked == "any":
        return None
    if asked not in MODALITIES:
        raise UsageError(f"modality {asked!r} is none of {', '.join(MODALITIES)} and any")
    if not searcher.count(asked):
        totals = searcher.generation.totals
        raise UsageError(
            f"modality {asked}: this index has none, but {totals.images} images, {totals.texts} texts and "
            f"{totals.keywords} keywords"
        )
    return asked


def kind_of(*, texts: bool, pictures: bool) -> Literal["image", "text"] | None:
    """Returns what queries are, or several that are made into one; None: nobody knows, or they are of both kinds."""
    return None if texts == pictures else "text" if texts else "image"


def _wanted(
    k: object,
    nprobe: object,
    modality: Modality | None,
    shortlist: object,
    how: Mapping[str, Any],
    query_kind: QueryKind | None,
) -> Wanted:
    if strange := sorted(how.keys() - How.__annotations__.keys()):
        raise UsageError(f"{strange[0]} is not known: take one of {', '.join(sorted(How.__annotations__))}")
    where = how.get("where")
    if not isinstance(where, str | None):
        raise UsageError(f"where is {where!r:.80}: take a condition as text")
    return Wanted(
        k=_whole("k", k),
        nprobe=_whole("nprobe", nprobe),
        modality=modality,
        shortlist=_whole("shortlist", shortlist),
        rules=Rules(
            how.get("group_by", KEY),
            _whole("per_group", how.get("per_group", 1)),
            how["dedup"] if isinstance(how.get("dedup"), str) else _number("dedup", how.get("dedup")),
            how["min_score"] if isinstance(how.get("min_score"), str) else _number("min_score", how.get("min_score")),
        ),
        minus=tuple(_texts(_listed(how.get("minus")))),
        expand=_whole("expand", how.get("expand", 0)),
        alpha=_number("alpha", how.get("alpha", ALPHA)),
        where=where,
        query_kind=query_kind,
    )


def _numbers(given: "Sequence[float] | None", count: int) -> list[float]:
    return [1.0] * count if given is None else [_number("a weight", one) for one in given]


def _number(name: str, value: object) -> Any:
    """A number of any type of Python's and numpy's, or None."""
    try:
        return None if value is None else math.fsum([value])  # type: ignore[list-item]  # which takes no strings
    except TypeError as error:
        raise UsageError(f"{name} is {value!r}: take a number") from error


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return [given] if isinstance(given, str | PathLike) else list(given)


def _vectors(given: ArrayLike) -> NDArray[np.float32]:
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise UsageError(f"the vectors are not of one length: {error}") from error
    if array.dtype.kind not in "fiu":
        raise UsageError(f"a vector is an array of numbers, not of {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _texts(given: Sequence[object]) -> list[str]:
    for one in given:
        if not isinstance(one, str):
            raise UsageError(f"{one!r:.80} is no text: queries are all texts, or all vectors")
    return [str(one) for one in given]


def _whole(name: str, value: object) -> Any:
    """A whole number of any type of Python's and numpy's, or None."""
    try:
        return None if value is None else operator.index(value)  # type: ignore[arg-type]  # that is what is asked
    except TypeError as error:
        raise UsageError(f"{name} is {value!r}: take a whole number") from error


def _table(found: Sequence[Sequence[Hit]]) -> "pa.Table":
    import pyarrow as pa  # noqa: PLC0415 - what asks for one result needs no tables

    schema = pa.schema(
        [
            *(("query", pa.int64()), ("rank", pa.int32()), ("score", pa.float32()), ("id", pa.int64())),
            *((name, pa.string()) for name in ("key", "uri", "modality")),
            *(("part", pa.int32()), ("caption", pa.string()), ("exact", pa.bool_())),
        ]
    )
    rows = [(place, hit) for place, hits in enumerate(found) for hit in hits]
    columns = [pa.array([place for place, _ in rows], pa.int64())]
    columns += [pa.array([getattr(hit, field.name) for _, hit in rows], field.type) for field in list(schema)[1:]]
    return pa.Table.from_arrays(columns, schema=schema)
