"""What is exported: a generation, which of its rows live, and which pictures and texts are of one item."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.export.numbering import Numbering, NumberingBuilder
from transforms.generations import hidden, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.generations.tombstones import Tombstones
from transforms.markers import ShardMarker
from transforms.records import MODALITIES, Modality, row_ids
from transforms.search.keys import rows_of_keys
from transforms.search.row_groups import Kept
from transforms.search.selection import kind_slice
from transforms.shards import ready_vectors
from transforms.storage import outside, parquet_files
from transforms.storage.store import Store

_KEPT_BYTES: Final = 256 << 20
"""Of the row groups beside ready embeddings, which are read for some rows at a time."""


@dataclass(frozen=True)
class Living:
    """The living rows of a shard: bool `(rows,)`, and the same of each modality that it has."""

    shard: ShardMarker
    rows: NDArray[np.bool_]

    def of(self, modality: Modality) -> NDArray[np.bool_]:
        """Returns which rows are of a modality and live."""
        chosen = np.zeros(len(self.rows), np.bool_)
        part = kind_slice(self.shard.ready, (self.shard.images, self.shard.texts, self.shard.keywords), modality)
        chosen[part] = self.rows[part]
        return chosen


@dataclass(frozen=True)
class Origin:
    """A generation, open for export.

    Attributes:
        store: the root.
        generation: one of it.
        shards: those with rows, by their numbers, which ascend.
        dead: rows that are left out: dead ones, and hidden ones unless they are wanted.
        kept: what was read last of what stands beside ready embeddings.
    """

    store: Store
    generation: Generation
    shards: Mapping[int, ShardMarker]
    dead: Tombstones
    kept: Kept

    @classmethod
    def open(
        cls, store: Store, generation: Generation, *, with_hidden: bool = False, trust_uris: bool = False
    ) -> "Origin":
        """Reads which shards and which dead rows there are.

        Memory: 1 KB a shard, and 8 KiB for each with dead rows, as of a search.

        Raises:
            UsageError: ready embeddings lie where a root of anybody's must not lead.
            PixdexError: a table is missing or damaged.
        """
        if generation.request.is_ready:
            outside.check_sources(generation.request, trusted=trust_uris)
        dead = [tombstones.read_all(store, generation.tables.tombstones)]
        if not with_hidden:
            dead.append(Tombstones.of(rows_of_keys(store, generation, hidden.read(store, generation))))
        shards = {one.shard: one for one in tables.shards_of(store, generation) if one.rows}
        return cls(store, generation, shards, Tombstones.joined(dead), Kept(_KEPT_BYTES))

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return self.generation.trained.dim

    @property
    def has_halves(self) -> bool:
        """Whether all stored vectors are float16, exactly."""
        return self.generation.request.encoder.precision == "float16" and not self.generation.request.is_ready

    def living(self) -> Iterator[Living]:
        """Yields the living rows of each shard, in order.

        Cost: of ready embeddings with rejected rows their vectors are read, since nothing else says which these are.
        """
        settings = self.generation.request.encoder
        for number, shard in self.shards.items():
            rows = self.dead.are_alive(row_ids(number, shard.numbered_rows))
            if shard.ready is not None and shard.rejected:
                rows &= ready_vectors.sound_rows(shard.ready, self.dim, normalize=settings.normalize)
            yield Living(shard, rows)

    @cached_property
    def all_rows(self) -> Numbering:
        """Numbers of all living rows."""
        builder = NumberingBuilder()
        for living in self.living():
            builder.add(living.shard.shard, living.rows)
        return builder.made()

    def of_kinds(self) -> dict[Modality, Numbering]:
        """Returns numbers of the living rows of each modality, each from 0 on."""
        builders = {modality: NumberingBuilder() for modality in MODALITIES}
        for living in self.living():
            for modality, builder in builders.items():
                builder.add(living.shard.shard, living.of(modality))
        return {modality: builder.made() for modality, builder in builders.items()}

    def pairs(self, living: Living) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tells which pictures of a shard have a text of the same item in it, and which texts: bool `(rows,)` both.

        The first of these pictures belongs to the first of these texts, and so on: both stand in the order of items. A
        text out of that order, which no build writes, counts as alone.

        Cost: the keys of a shard that has both are read; of ready embeddings it is arithmetic.
        """
        images, texts = living.of("image"), living.of("text")
        if not images.any() or not texts.any():
            return np.zeros_like(images), np.zeros_like(texts)
        if living.shard.ready is not None:
            items = living.shard.ready.items
            both = images[:items] & texts[items:]
            nothing = np.zeros(items, np.bool_)
            return np.concatenate((both, nothing)), np.concatenate((nothing, both))
        assert living.shard.embeddings is not None
        with parquet_files.opened(self.store, living.shard.embeddings) as file:
            keys = file.read(columns=["key"])["key"]
        return _paired(keys, images, texts)


def _paired(
    keys: pa.ChunkedArray, images: NDArray[np.bool_], texts: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    of_images, of_texts = np.flatnonzero(images), np.flatnonzero(texts)
    place = np.full(int(codes.max()) + 1, -1, np.int64)
    place[codes[of_images][::-1]] = np.arange(len(of_images))[::-1]
    at = place[codes[of_texts]]
    before = np.maximum.accumulate(np.concatenate(([-1], at)))[:-1]
    chosen = at > before
    with_text, with_image = np.zeros_like(images), np.zeros_like(texts)
    with_text[of_images[at[chosen]]] = with_image[of_texts[chosen]] = True
    return with_text, with_image
