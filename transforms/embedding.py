"""Embeds one partition: fetch, decode, encode, and write one shard with its rejects. Knows no Beam.

Rows are encoded in fixed slots: the n-th picture of a partition is always slot `n % batch` of batch `n // batch`, and
an empty slot is padded. So a retry, a bad picture or a bad neighbour changes no other row's bits.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms import images, shards, uris
from transforms.decode_budget import DecodeBudget
from transforms.encoders import Encoder
from transforms.errors import PixdexError
from transforms.records import EncoderSettings, Modality, Partition, ShardMarker, digest
from transforms.rejects import normalised_message
from transforms.run import Run
from transforms.shards import Reject
from transforms.sources import items

FETCH_THREADS = 8
"""Pictures fetched and decoded at once; decoding lets other threads run, and fetching mostly waits."""

_REASONS_SHOWN = 3
_BUDGET = DecodeBudget()
"""Memory of the pictures that all threads of this process decode."""

BATCHES_AHEAD = 2
"""Batches being fetched while one is encoded: more hides slower storage and holds more pictures in memory."""


@dataclass
class _Rows:
    """The rows of a partition in the order of its shard: pictures, texts, keywords; `item` is the place of each."""

    item: NDArray[np.int64]
    part: NDArray[np.int32]
    counts: dict[Modality, int]
    vectors: NDArray[np.float32]
    sizes: NDArray[np.int32]
    rejects: dict[int, Reject] = field(default_factory=dict)


def partition_digest(run: Run, partition: Partition) -> str:
    """Returns what a shard's marker answers: the request and the partition."""
    return digest(run.plan.request_digest, partition)


def embed_partition(run: Run, partition: Partition, encoder: Encoder) -> ShardMarker:
    """Embeds a partition and uploads its files. Returns the marker, which is not yet committed.

    Memory: the shard's vectors (float32 `(rows, d)`), and the pictures of `1 + BATCHES_AHEAD` batches.
    """
    started = time.monotonic()
    settings = run.request.encoder
    table = pa.concat_tables([items.read(run.store, piece) for piece in partition.slices], promote_options="default")
    table = table.combine_chunks()
    rows = _rows_of(table, settings.dim)
    for place, problem in enumerate(table[items.PROBLEM].to_pylist()):
        if problem is not None:
            kind, _, message = problem.partition(": ")
            rows.rejects[place] = _reject(table, place, None, None, "plan", kind, message)
    _encode_pictures(table, rows, encoder, settings)
    _encode_texts(table, rows, encoder, settings)
    _finish_vectors(table, rows, settings)
    kept = np.flatnonzero(~np.isin(rows.item, list(rows.rejects)))
    modality = np.repeat(np.arange(3), list(rows.counts.values()))[kept]
    images_kept, texts_kept, keywords_kept = np.bincount(modality, minlength=3).tolist()
    embeddings = None
    if len(kept):
        embeddings = shards.write_embeddings(
            run.store, partition.shard, _metadata(table, rows, kept), rows.vectors[kept]
        )
    return ShardMarker(
        shard=partition.shard,
        block=partition.block,
        digest=partition_digest(run, partition),
        items=len(table),
        rejected=len(rows.rejects),
        rows=len(kept),
        images=images_kept,
        texts=texts_kept,
        keywords=keywords_kept,
        embeddings=embeddings,
        rejects=shards.write_rejects(
            run.store, partition.shard, [rows.rejects[place] for place in sorted(rows.rejects)]
        ),
        seconds=round(time.monotonic() - started, 3),
    )


def check_rejects(run: Run, limit: float) -> None:
    """Refuses to go on with a run when more than `limit` (0 to 1) of its items, or all of them, were rejected.

    Raises:
        PixdexError: names the counts and the most common reasons.
    """
    markers = run.shards()
    items_seen, rejected = sum(marker.items for marker in markers), sum(marker.rejected for marker in markers)
    if rejected <= limit * items_seen and rejected < items_seen:
        return
    reasons: Counter[str] = Counter()
    for marker in markers:
        if marker.rejects:
            table = shards.read_rejects(run.store, marker.rejects)
            pairs = zip(table["type"].to_pylist(), table["message"].to_pylist(), strict=True)
            reasons.update(f"{kind}: {message}" for kind, message in pairs)
    common = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(_REASONS_SHOWN))
    if rejected == items_seen:
        raise PixdexError(
            f"all {items_seen} items were rejected, nothing is left to index ({common}): mend the sources"
        )
    raise PixdexError(
        f"{rejected} of {items_seen} items were rejected, more than --max-reject-ratio {limit} allows ({common}): "
        "mend the sources, or run again with a higher ratio; what is embedded stays"
    )


def _rows_of(table: pa.Table, dim: int) -> _Rows:
    usable = pc.is_null(table[items.PROBLEM])
    pictures = np.flatnonzero(pc.and_(usable, pc.is_valid(table[items.IMAGE])).to_numpy())
    texts = np.flatnonzero(pc.and_(usable, pc.is_valid(table[items.TEXT])).to_numpy())
    words = pc.if_else(usable, pc.fill_null(pc.list_value_length(table[items.KEYWORDS]), 0), 0).to_numpy()
    keywords = np.repeat(np.arange(len(table)), words)
    part = np.arange(len(keywords)) - np.repeat(np.cumsum(words) - words, words)
    item = np.concatenate((pictures, texts, keywords)).astype(np.int64)
    return _Rows(
        item=item,
        part=np.concatenate((np.zeros(len(pictures) + len(texts)), part)).astype(np.int32),
        counts={"image": len(pictures), "text": len(texts), "keyword": len(keywords)},
        vectors=np.zeros((len(item), dim), np.float32),
        sizes=np.zeros((len(pictures), 2), np.int32),
    )


# --- pictures -------------------------------------------------------------------------------------------------------


def _encode_pictures(table: pa.Table, rows: _Rows, encoder: Encoder, settings: EncoderSettings) -> None:
    if not rows.counts["image"]:
        return
    uri_of = table[items.IMAGE].to_pylist()
    target = _target_of(encoder)
    places = rows.item[: rows.counts["image"]].tolist()

    def load(uri: str) -> tuple[NDArray[np.float32], tuple[int, int]] | Failure:
        return load_picture(uri, encoder, settings, target)

    with ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch") as pool:
        for start, loaded in _ahead(pool, load, [uri_of[place] for place in places], settings.batch):
            slots: list[NDArray[np.float32] | None] = []
            for row, picture in enumerate(loaded, start=start):
                if isinstance(picture, Failure):
                    rows.rejects[places[row]] = _reject(
                        table, places[row], "image", 0, picture.stage, picture.type, picture.message
                    )
                    slots.append(None)
                else:
                    pixels, rows.sizes[row] = picture
                    slots.append(pixels)
            if any(slot is not None for slot in slots):
                vectors, failures = encode_slots(_picture_batch(encoder, settings.batch), slots)
                rows.vectors[start : start + len(slots)] = vectors
                for slot, failure in failures.items():
                    place = places[start + slot]
                    rows.rejects[place] = _reject(table, place, "image", 0, "encode", failure.type, failure.message)


@dataclass(frozen=True)
class Failure:
    """Why one row could not be embedded."""

    stage: str
    type: str
    message: str

    @classmethod
    def of(cls, stage: str, error: BaseException) -> "Failure":
        """Describes an exception in a way that is the same on every machine."""
        return cls(stage, type(error).__name__, normalised_message(error))


def load_picture(
    uri: str, encoder: Encoder, settings: EncoderSettings, target: int | None
) -> tuple[NDArray[np.float32], tuple[int, int]] | Failure:
    """Fetches, decodes and preprocesses one picture.

    Args:
        uri: what to fetch.
        encoder, settings: how it is preprocessed.
        target: side of the square that the encoder sees, when known; large pictures are shrunk while they are decoded.

    Returns:
        What the encoder takes, and the upright (width, height) of the picture; or why there is none.
    """
    stage = "fetch"
    try:
        data = uris.read(uri)
        stage = "decode"
        picture = images.decode(
            data, pixel_limit=settings.pixel_limit, target=target, mode=settings.image_fit, budget=_BUDGET
        )
        return encoder.preprocess(images.fit(picture, settings.image_fit)), picture.info["size"]
    except Exception as error:  # noqa: BLE001 - hostile files raise anything; each becomes a reject with its reason
        return Failure.of(stage, error)


def _target_of(encoder: Encoder) -> int | None:
    """The side of the square that an encoder sees, when it takes (channels, height, width)."""
    shape = encoder.preprocess(PIL.Image.new("RGB", (8, 8))).shape
    return max(shape[1:]) if len(shape) == 3 else None


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[str], Any], names: Sequence[str], batch: int
) -> Iterator[tuple[int, list[Any]]]:
    """Yields (start, loaded) of every batch in order, while the next ones are being loaded."""
    waiting: deque[tuple[int, list[Future[Any]]]] = deque()
    for start in range(0, len(names), batch):
        waiting.append((start, [pool.submit(load, name) for name in names[start : start + batch]]))
        if len(waiting) > BATCHES_AHEAD:
            first, futures = waiting.popleft()
            yield first, [future.result() for future in futures]
    while waiting:
        first, futures = waiting.popleft()
        yield first, [future.result() for future in futures]


def _picture_batch(encoder: Encoder, batch: int) -> "EncodeBatch":
    def encode(slots: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
        shape = next(slot.shape for slot in slots if slot is not None)
        pixels = np.zeros((batch, *shape), np.float32)
        for number, slot in enumerate(slots):
            if slot is not None:
                pixels[number] = slot
        return encoder.encode_images(pixels)[: len(slots)]

    return encode


# --- texts ----------------------------------------------------------------------------------------------------------


def _encode_texts(table: pa.Table, rows: _Rows, encoder: Encoder, settings: EncoderSettings) -> None:
    first = rows.counts["image"]
    texts = _captions(table, rows)[first:].to_pylist()

    def encode(slots: Sequence[str | None]) -> NDArray[np.float32]:
        padded = [slot or "" for slot in slots] + [""] * (settings.batch - len(slots))
        return encoder.encode_texts(padded)[: len(slots)]

    for start in range(0, len(texts), settings.batch):
        slots = texts[start : start + settings.batch]
        vectors, failures = encode_slots(encode, slots)
        rows.vectors[first + start : first + start + len(slots)] = vectors
        for slot, failure in failures.items():
            row = first + start + slot
            modality: Modality = "text" if row < first + rows.counts["text"] else "keyword"
            place, part = int(rows.item[row]), int(rows.part[row])
            rows.rejects.setdefault(
                place, _reject(table, place, modality, part, "encode", failure.type, failure.message)
            )


def _captions(table: pa.Table, rows: _Rows) -> pa.Array:
    """Returns the text of every row: an item's text for its picture and itself, the keyword for a keyword."""
    whole = rows.counts["image"] + rows.counts["text"]
    text = table[items.TEXT].combine_chunks().take(pa.array(rows.item[:whole]))
    words = pc.list_flatten(
        pc.if_else(
            pc.is_null(table[items.PROBLEM]),
            table[items.KEYWORDS],
            pa.nulls(len(table), table[items.KEYWORDS].type),
        )
    )
    words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    return pa.concat_arrays([text, words])


# --- both -----------------------------------------------------------------------------------------------------------

EncodeBatch = Callable[[Sequence[Any]], NDArray[np.float32]]


def encode_slots(encode: EncodeBatch, slots: Sequence[Any]) -> tuple[NDArray[np.float32], dict[int, Failure]]:
    """Encodes a batch; when it fails, finds the slots that make it fail and encodes the others in their places.

    Args:
        encode: takes a batch of slots, some of them None (padded), and returns float32 `(slots, d)`.
        slots: the batch; None is an empty slot.

    Returns:
        The vectors, float32 `(slots, d)`, and the failure of every slot that has one.
    """
    try:
        return encode(slots), {}
    except Exception:  # noqa: BLE001 - an encoder may raise anything; the culprit is found below
        failures: dict[int, Failure] = {}
    for number, slot in enumerate(slots):
        if slot is None:
            continue
        try:
            encode([slot if other == number else None for other in range(len(slots))])
        except Exception as error:  # noqa: BLE001 - becomes the reject's reason
            failures[number] = Failure.of("encode", error)
    sound = [None if number in failures else slot for number, slot in enumerate(slots)]
    if all(slot is None for slot in sound):
        return np.zeros((len(slots), 1), np.float32), failures
    try:
        return encode(sound), failures
    except Exception as error:
        raise PixdexError(
            f"the encoder fails on a batch, but on none of its rows alone ({normalised_message(error)}): "
            "use a smaller --encoder-batch"
        ) from error


def _finish_vectors(table: pa.Table, rows: _Rows, settings: EncoderSettings) -> None:
    """Normalises and rounds in place; a vector that is not finite, or has no direction to keep, rejects its item."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(rows.vectors.astype(np.float64), axis=1)
        if settings.normalize:
            rows.vectors /= norms[:, None].astype(np.float32)
        if settings.precision == "float16":
            rows.vectors[:] = rows.vectors.astype(np.float16)
    bad = ~np.isfinite(rows.vectors).all(axis=1)
    modalities = np.repeat(list(rows.counts), list(rows.counts.values()))
    for row in np.flatnonzero(bad).tolist():
        place = int(rows.item[row])
        message = "the encoder's vector is zero, not finite, or too large for float16 (--precision full keeps it)"
        rows.rejects.setdefault(
            place, _reject(table, place, str(modalities[row]), int(rows.part[row]), "encode", "BadVector", message)
        )


def _metadata(table: pa.Table, rows: _Rows, kept: NDArray[np.int64]) -> pa.Table:
    item = pa.array(rows.item[kept])
    counts = rows.counts
    modality = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(3, dtype=np.int8), list(counts.values()))), list(counts)
    ).cast(pa.string())
    picture = kept < counts["image"]
    sizes = np.zeros((len(kept), 2), np.int32)
    sizes[picture] = rows.sizes[kept[picture]]
    columns = {
        "key": table["key"].take(item),
        "uri": table["uri"].take(item),
        "modality": modality.take(pa.array(kept)),
        "part": pa.array(rows.part[kept]),
        "caption": _captions(table, rows).take(pa.array(kept)),
        "version": table["version"].take(item),
        "width": pa.array(sizes[:, 0], mask=~picture),
        "height": pa.array(sizes[:, 1], mask=~picture),
    }
    own = [name for name in table.column_names if name not in items.CORE_SCHEMA.names]
    return pa.table({**columns, **{name: table[name].take(item) for name in own}})


def _reject(
    table: pa.Table, place: int, modality: str | None, part: int | None, stage: str, kind: str, message: str
) -> Reject:
    key, uri, version = (table[name][place].as_py() for name in ("key", "uri", "version"))
    return Reject(key, uri, version, modality, part, stage, kind, message)
