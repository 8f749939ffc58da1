"""Embeds one partition: fetch, decode, encode, and write one shard with its rejects. Knows no Beam.

What several rows share, a picture with five captions or a keyword of many items, is encoded once. Slots are fixed: the
n-th picture of a partition that is encoded is always slot `n % batch` of batch `n // batch`, and an empty slot is
padded. So a retry, a bad picture or a bad neighbour changes no other row's bits.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.encoders import CleansTexts, Encoder
from transforms.markers import ShardMarker
from transforms.records import EncoderSettings, Partition
from transforms.rejects import Failure
from transforms.runs.beacons import Told
from transforms.runs.partitions import partition_digest
from transforms.runs.run import Run
from transforms.shards import files
from transforms.sources import items
from transforms.storage import addresses
from transforms.tasks.embed.carried import carry
from transforms.tasks.embed.encode_slots import Encode, encode_slots
from transforms.tasks.embed.inside import PicturesInside
from transforms.tasks.embed.limits import USUAL, ItemLimits
from transforms.tasks.embed.picture_loader import PictureLoader
from transforms.tasks.embed.shard_rows import ShardRows
from transforms.tasks.embed.spent import Clock

_A_PICTURE = 8
"""Texts that take as long as a picture does, roughly: what is told of a shard with both rests on it."""

_BLANK = Failure("encode", "BlankText", "nothing is left of the text once the encoder has cleaned it")


def embed_partition(
    run: Run,
    partition: Partition,
    encoder: Encoder,
    limits: ItemLimits = USUAL,
    *,
    is_guarded: bool = False,
    told: Told | None = None,
) -> ShardMarker:
    """Embeds a partition and uploads its files. Returns the marker, which is not yet committed.

    Args:
        run, partition, encoder: what is embedded, and with what.
        limits: what one picture may cost. Hosts that the sources themselves name may be asked, wherever they are.
        is_guarded: pictures are decoded in processes of their own, since one of them may have ended the attempt before.
        told: hears how many of its rows are done.

    Memory: the shard's vectors once (float32 `(rows, d)`) and its metadata twice; `2 + BATCHES_AHEAD` batches of
    preprocessed pictures; and the files and pictures that are being decoded (`DecodeBudget`).

    Raises:
        PixdexError: the encoder or this machine is at fault, and not the items.
    """
    started, clock = time.monotonic(), Clock(encoder.device)
    settings = run.request.encoder
    table = pa.concat_tables([items.read(run.store, piece) for piece in partition.slices], promote_options="default")
    rows = ShardRows.of(table.combine_chunks(), settings.dim)
    carry(run, rows)
    keeps_texts = any(source.missing_image == "text" for source in run.request.sources)
    give_up = ShardRows.leave_out if keeps_texts else ShardRows.reject
    named = addresses.private_hosts(source.pattern for source in run.request.sources)
    allowed = replace(limits, named=limits.named | named)
    tell = _teller(rows, told)
    _encode_pictures(rows, encoder, settings, allowed, clock, give_up, tell, is_guarded=is_guarded)
    _encode_texts(rows, encoder, settings, clock, tell)
    rows.finish(settings)
    carried, without_picture = rows.carried, rows.without_picture
    metadata, vectors = rows.keep_sound()
    modalities = metadata["modality"].to_pylist()
    rejects = [rows.rejects[place] for place in sorted(rows.rejects)]
    with clock.passing("write"):
        embeddings = files.write_embeddings(run.store, partition.shard, metadata, vectors) if len(vectors) else None
        rejected = files.write_rejects(run.store, partition.shard, rejects)
    return ShardMarker(
        shard=partition.shard,
        block=partition.block,
        digest=partition_digest(run.plan, partition),
        items=len(table),
        rejected=len(rejects),
        rows=len(vectors),
        images=modalities.count("image"),
        texts=modalities.count("text"),
        keywords=modalities.count("keyword"),
        embeddings=embeddings,
        rejects=rejected,
        seconds=round(time.monotonic() - started, 3),
        carried=carried,
        spent=clock.spent(),
        without_picture=without_picture,
    )


def _encode_pictures(
    rows: ShardRows,
    encoder: Encoder,
    settings: EncoderSettings,
    limits: ItemLimits,
    clock: Clock,
    give_up: Callable[[ShardRows, int, Failure], None],
    tell: Callable[[int], None],
    *,
    is_guarded: bool,
) -> None:
    """Encodes the pictures; `give_up` hears which rows have one that cannot be fetched."""
    rows_of = _shared(rows, 0, rows.pictures())
    if not rows_of:
        return
    pictures, sharing = list(rows_of), list(rows_of.values())

    def encode(slots: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
        shape = next(slot.shape for slot in slots if slot is not None)
        pixels = np.zeros((len(slots), *shape), np.float32)
        for number, slot in enumerate(slots):
            if slot is not None:
                pixels[number] = slot
        with clock.passing("encode"):
            return encoder.encode_images(pixels)

    columns = rows.inside()  # what nobody asks for is not to be held until somebody does
    inside = PicturesInside({uri: columns[uri] for uri in pictures if uri in columns})
    with PictureLoader(encoder, settings, limits, inside.locate, clock=clock, is_guarded=is_guarded) as loader:
        for start, loaded in loader.batches(pictures, settings.batch):
            slots: list[NDArray[np.float32] | None] = [None] * settings.batch
            some = sharing[start : start + len(loaded)]
            for slot, (picture, mine) in enumerate(zip(loaded, some, strict=True)):
                if isinstance(picture, Failure):
                    for row in mine:
                        (give_up if picture.stage == "fetch" else ShardRows.reject)(rows, row, picture)
                else:
                    slots[slot], rows.sizes[mine] = picture
            if any(slot is not None for slot in slots):
                _fill(rows, some, encode, slots)
            tell(_A_PICTURE * sum(map(len, some)))


def _encode_texts(
    rows: ShardRows, encoder: Encoder, settings: EncoderSettings, clock: Clock, tell: Callable[[int], None]
) -> None:
    first = rows.counts["image"]
    rows_of = _shared(rows, first, rows.captions()[first:].to_pylist())
    texts: list[str | None] = list(rows_of)
    sharing = list(rows_of.values())
    if isinstance(encoder, CleansTexts):
        for place, is_blank in enumerate(encoder.are_blank(list(rows_of))):
            if is_blank:
                _reject(rows, sharing[place], _BLANK)
                texts[place] = None

    def encode(slots: Sequence[str | None]) -> NDArray[np.float32]:
        with clock.passing("encode"):
            return encoder.encode_texts([slot or "" for slot in slots])

    for start in range(0, len(texts), settings.batch):
        batch = texts[start : start + settings.batch]
        padding = [None] * (settings.batch - len(batch))
        _fill(rows, sharing[start : start + len(batch)], encode, batch + padding)
        tell(sum(map(len, sharing[start : start + len(batch)])))


def _teller(rows: ShardRows, told: Told | None) -> Callable[[int], None]:
    """Returns what hears how much more was encoded, in texts, and tells which share of all that is."""
    new = ~rows.is_carried
    pictures = int(np.count_nonzero(new[: rows.counts["image"]]))
    planned, done = int(np.count_nonzero(new)) + (_A_PICTURE - 1) * pictures, 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if told is not None:
            told.of(done, planned)

    return tell


def _shared(rows: ShardRows, first: int, contents: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each picture or text that is to be encoded, in order of their first; contents are from a row on."""
    sharing: dict[str, list[int]] = {}
    for row, content in enumerate(contents, first):
        if not rows.is_carried[row]:
            sharing.setdefault(content, []).append(row)
    return sharing


def _reject(rows: ShardRows, mine: Sequence[int], failure: Failure) -> None:
    for row in mine:
        rows.reject(row, failure)


def _fill(rows: ShardRows, sharing: Sequence[Sequence[int]], encode: Encode, slots: Sequence[Any]) -> None:
    """Encodes a padded batch, each of whose slots some rows share."""
    vectors, failures = encode_slots(encode, slots, rows.vectors.shape[1])
    for vector, mine in zip(vectors, sharing, strict=False):
        rows.vectors[mine] = vector
    for slot, failure in failures.items():
        _reject(rows, sharing[slot], failure)
